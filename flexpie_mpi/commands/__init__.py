"""The verbs of the command line, one file each.

A verb's file offers ``add_arguments(parser)`` and ``run(args)``, which returns the exit code: 0 when all is well, 1
when a check failed. Wrong input is a FlexPieError. It is imported only when it is asked for: a verb that needs no
ranks must work where there is no MPI.

To add a verb: its file, and a row below.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """A line about a verb, and whether all ranks of a job carry it out together; rank 0 alone does the others.

    A verb that runs another finds that one's words, after two dashes, in ``args.command``; None without dashes.
    """

    about: str
    needs_ranks: bool = False
    runs_another: bool = False


VERBS = {
    "inspect": Verb("list a model's nodes, shapes, work and weights, and the layouts each node allows"),
    "trace": Verb("measure links, exchanges and kernels on all ranks, for the cost model", needs_ranks=True),
    "fit": Verb("make a cost model from traces, and say how far off it is"),
    "plan": Verb("write a plan: which nodes run together, in which layout, on which ranks"),
    "simulate": Verb("predict what a model would take on boards one does not have, from one to a thousand"),
    "infer": Verb("run a model over the ranks that mpirun started", needs_ranks=True),
    "bench": Verb("measure a suite of models, boards and planners, on emulated boards or this job's", needs_ranks=True),
    "report": Verb("write tables and plots of what bench measured, or draw a plan"),
    "emulate": Verb("run a verb on the boards of a testbed, emulated on this machine", runs_another=True),
}
"""Verbs by name, in the order of the work."""
