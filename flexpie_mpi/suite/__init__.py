"""Suites: many cells measured alike, from a TOML file to rows of results.

A *cell* is one model and batch on the first ranks of one testbed; its planners are measured together. A suite is a list
of cells, written as studies, each the product of its lists. The one difficulty: numbers are worth comparing only where
they were measured side by side, so the plans of a cell run request by request in turn, round after round.

The file, here with every key::

    format = 1                          # of this file; 1 when left out
    name = "scaling"                    # the file's own name when left out; rows of results carry it
    trace_budget = 120                  # seconds to measure for the cost model, where there is none yet

    planners = ["auto", "single"]       # these may stand in a study as well, and then count for that study
    repeats = 10                        # rounds that count; a round is one request of every plan
    most_repeats = 30                   # more rounds than repeats, up to so many,
    seconds = 20                        # while those of a cell have not taken so long
    warmup = 2                          # rounds before, which do not count
    seed = 0                            # of the inputs
    threads = 1                         # onnxruntime threads of the ranks of "hosts"; devices of a testbed have theirs

    [[study]]                           # as many as you like; all combinations of:
    models = ["builtin:resnet18", "net.onnx"]     # paths from the folder of this file
    testbeds = ["../../hostfiles/pi4x8.toml"]     # the same; "hosts" for the ranks of the job as they are
    ranks = [1, 2, 4, 8]                # the first boards of the testbed; all when left out
    batch = [1]                         # size of the first axis of the inputs, where the model leaves it open

A cell that several studies name is measured once, with the planners of all of them.
"""
