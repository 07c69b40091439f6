"""The verbs of the command line, one file each.

A verb's file offers ``add_arguments(parser)`` and ``run(args)``, which returns the exit code: 0 when all is well, 1
when a check failed. Wrong input is a FlexPieError. It is imported only when it is asked for: a verb that needs no
ranks must work where there is no MPI.

To add a verb: its file, and a row below.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """A line about a verb, and whether all ranks of a job carry it out together; rank 0 alone does the others."""

    about: str
    needs_ranks: bool = False


VERBS = {
    "inspect": Verb("list a model's nodes, shapes, work and weights, and the layouts each node allows"),
    "trace": Verb("measure links, exchanges and kernels on all ranks, for the cost model", needs_ranks=True),
    "fit": Verb("make a cost model from traces, and say how far off it is"),
    "plan": Verb("write a plan: which nodes run together, in which layout, on which ranks"),
    "infer": Verb("run a model over the ranks that mpirun started", needs_ranks=True),
}
"""Verbs by name, in the order of the work."""
