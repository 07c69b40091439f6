"""From the words of the command line to a plan."""

from __future__ import annotations

import argparse
from math import prod
from pathlib import Path

from ..errors import PlanError
from ..graph import Graph
from ..plan import Plan
from ..planner import layout_plan
from .parser import UsageError

_CHOICES = ("layout", "fuse", "weights", "grid")


def check_choices(args: argparse.Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises
    ------
    UsageError
    """
    given = [f"--{name}" for name in _CHOICES if getattr(args, name) is not None]
    if getattr(args, "plan", None) is not None and given:
        raise UsageError(f"--plan already says what {given[0]} chooses: give one of the two")
    if args.grid is not None and args.layout != "grid":
        raise UsageError(f"--grid goes with --layout grid, not {args.layout or 'auto'}")
    if args.weights is not None and args.layout in (None, "auto", "single"):
        raise UsageError(f"--weights goes with a layout that shares the work, not {args.layout or 'auto'}")


def make_plan(args: argparse.Namespace, graph: Graph, ranks: int) -> Plan:
    """The plan that the arguments ask for.

    Raises
    ------
    PlanError, LayoutError
        When they do not fit the ranks.
    """
    if args.weights is not None and args.layout != "grid" and len(args.weights) != ranks:
        raise PlanError(f"--weights gives {len(args.weights)} shares and there are {ranks} ranks: give one per rank")
    if args.grid is not None and prod(args.grid) != ranks:
        raise PlanError(
            f"--grid {args.grid[0]}x{args.grid[1]} has {prod(args.grid)} places and there are {ranks} ranks"
        )
    return layout_plan(
        graph, ranks, args.layout or "auto", fusion=args.fuse or "free", weights=args.weights or (), grid=args.grid
    )


def read_plan(path: str) -> Plan:
    """A plan from its file.

    Raises
    ------
    PlanError
        When there is no such file, or it holds no plan; the sentence names the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(f"plan file '{path}' is not text: write one with flexpie-mpi plan") from error
    except OSError as error:
        raise PlanError(f"plan file '{path}' cannot be read: {error.strerror}") from error
    try:
        return Plan.from_json(text)
    except PlanError as error:
        raise PlanError(f"plan file '{path}': {error}") from error
