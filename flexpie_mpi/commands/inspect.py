"""``flexpie-mpi inspect``: a model node by node, without ranks; or the list of built-in models."""

from __future__ import annotations

import argparse
import sys

from ..model import BUILTIN
from ..model.zoo import describe, names
from ..report.models import builtins_table, inspect, inspection_items, inspection_record
from . import UsageError
from .options import add_model_arguments, add_record_arguments, load_model, start_log
from .output import Progress, check_paths, publish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("model", nargs="?", metavar="FILE.onnx|builtin:NAME", help="model to look at")
    parser.add_argument("--list", action="store_true", help="list the built-in models")
    add_model_arguments(parser)
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Say what is in the model."""
    start_log(args.verbose)
    check_paths({"--json": args.json})
    if args.list or args.model == BUILTIN:
        described = {name: describe(name) for name in names()}
        publish(lambda: [builtins_table(described)], {"models": described}, args.json)
        return 0
    if args.model is None:
        raise UsageError("inspect needs a model: give a file or builtin:NAME, or --list for the built-in ones")
    with Progress(sys.stderr) as progress:
        progress.tell(f"loading {args.model}")
        model = load_model(args, args.model)
        nodes = inspect(model.graph)
    publish(lambda: inspection_items(model, nodes), inspection_record(model, args.model, nodes), args.json)
    return 0
