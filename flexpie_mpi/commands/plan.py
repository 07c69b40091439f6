"""``flexpie-mpi plan``: choose segments and layouts for a number of ranks, without starting any."""

from __future__ import annotations

import argparse
import sys

from ..data.replacing import write_text
from ..lower import lower
from ..model import load
from ..report.facts import facts_of
from ..report.plans import facts_record, model_lines, model_record, needs_record, needs_table, plan_items, plan_record
from ..report.progress import Progress
from ..report.versions import versions
from .options import (
    DEFAULT_MODEL,
    add_layout_arguments,
    add_model_arguments,
    add_record_arguments,
    cache_of,
    positive,
    shapes_of,
    start_log,
)
from .output import check_paths, publish, write_record
from .planning import check_choices, make_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="FILE.onnx|builtin:NAME", help="model (default: %(default)s)"
    )
    parser.add_argument("--ranks", type=positive, required=True, metavar="N", help="ranks to plan for")
    parser.add_argument("--output", metavar="plan.json", help="where to write the plan")
    add_model_arguments(parser)
    add_layout_arguments(parser)
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Make the plan, write it, and say what it asks of every rank."""
    start_log(args.verbose)
    check_choices(args)
    check_paths({"--output": args.output, "--json": args.json})
    with Progress(sys.stderr) as progress:
        progress.tell(f"loading {args.model}")
        model = load(args.model, shapes_of(args), cache_of(args))
        progress.tell(f"planning {model.name} for {args.ranks} ranks")
        plan = make_plan(args, model.graph, args.ranks)
        facts = facts_of(plan, model, lower(plan, model.graph))
    if args.output is not None:
        write_text(args.output, plan.to_json())
    items = [
        *model_lines(model),
        "",
        *plan_items(facts, everything=args.verbose),
        "",
        needs_table(facts),
    ]
    record = {
        "model": model_record(model, args.model),
        "plan": plan_record(plan),
        "plan_facts": facts_record(facts),
        "ranks": needs_record(facts),
        "versions": versions(),
    }
    write_record(record, args.json)
    publish(items, record, args.json)
    return 0
