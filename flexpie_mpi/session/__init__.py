"""The application without a command line: what the verbs and :class:`flexpie_mpi.InferenceSession` do.

In go a model, boards and where costs come from; out come data. It finds what predictions stand on, chooses a plan, runs
and streams requests, studies how a model scales, and measures suites. Nothing is printed here: progress goes to a
callable. The one difficulty: a rank imports only what its own part needs.
"""
