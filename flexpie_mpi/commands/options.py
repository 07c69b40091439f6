"""Arguments that several verbs share, and what they ask for together."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.budget import Budget
from ..core.choices import AUTO, BOUNDARIES, FUSIONS, PLANNERS, PRESETS, SEARCHING, StateChoice
from ..files.cache import Cache
from ..session.opening import CostSources, PlanChoice
from . import UsageError, texts

_CHOICES = ("layout", "fuse", "weights", "grid", "autotune", "partial", "overlap")
_OF_RULES = ("fuse", "weights", "grid")

if TYPE_CHECKING:
    from ..model import Model
    from ..model.inputs import Asked

Parser = argparse.ArgumentParser | argparse._ArgumentGroup

BUDGET_S = 20.0
"""Most that is measured before the first request, where this cluster and model have not been yet."""


def add_default_model(parser: Parser) -> None:
    """The model of a verb that has one to try when none is named."""
    parser.add_argument(
        "--model",
        default="builtin:mobilenet_v2",
        metavar="FILE.onnx|builtin:NAME",
        help="model (default: %(default)s)",
    )


def add_model_arguments(parser: Parser) -> None:
    """What to read, and where to keep what was made of it."""
    parser.add_argument(
        "--shape",
        action="append",
        type=texts.named_shape,
        default=[],
        metavar="NAME=1,3,224,224",
        help="shape of an input with symbolic axes that no file gives (a symbolic first axis alone becomes 1), or the "
        "size of such an axis by its name; repeatable",
    )
    parser.add_argument(
        "--outputs",
        action="extend",
        type=texts.output_names,
        default=[],
        metavar="NAME,...",
        help="wanted outputs, or positions of them as numpy has it, such as 'logits[:, -1]' (default: all); nothing is "
        "computed that they do not need",
    )
    parser.add_argument(
        "--memory",
        type=texts.memory,
        metavar="SIZE",
        help="most that any value of a model or array of a file may take, such as 2GB (default: a sixteenth of this "
        "machine's)",
    )
    add_cache_arguments(parser)


def add_cache_arguments(parser: Parser) -> None:
    """Where to keep what was made of models."""
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder for prepared models and weights (default: the user's cache)"
    )
    cache.add_argument("--no-cache", action="store_true", help="keep nothing for the next start")


def add_layout_arguments(parser: Parser, objectives: Sequence[str] = ("latency",)) -> None:
    """How to lay the model over ranks, for one of some objectives."""
    parser.add_argument(
        "--layout",
        choices=PLANNERS,
        metavar="NAME",
        help=f"who plans: {', '.join(PLANNERS)} (default: auto, the fastest plan that is predicted)",
    )
    parser.add_argument(
        "--objective",
        type=partial(texts.objective, objectives),
        default="latency",
        metavar="|".join(objectives),
        help="what is to be good (default: %(default)s)",
    )
    parser.add_argument(
        "--fuse",
        type=texts.fusion,
        metavar="|".join((*FUSIONS, "K")),
        help=f"how long segments of {', '.join(PRESETS)} get: free (no redundant work, default), none (one node), "
        "all-legal (as long as the layout stays), or up to K nodes",
    )
    parser.add_argument(
        "--weights", type=texts.numbers, metavar="2,1,1", help="relative share of each rank, for one layout (not auto)"
    )
    parser.add_argument("--grid", type=texts.grid, metavar="RxC", help="rows and columns of --layout grid")
    parser.add_argument(
        "--partial",
        choices=("auto", "off"),
        help="whether --layout auto may share out sums, which ranks then add up (default: auto, where that pays)",
    )
    parser.add_argument(
        "--overlap",
        choices=("auto", "off"),
        help="whether --layout auto may give the root more and others less of the last segment, so that large outputs "
        "travel while ranks compute: auto, where that pays (default: off)",
    )


def add_cost_arguments(parser: Parser) -> None:
    """What predictions stand on."""
    parser.add_argument("--testbed", metavar="T.toml", help="the boards and the links between them")
    parser.add_argument(
        "--traces",
        nargs="+",
        metavar="traces.h5",
        help="what 'flexpie-mpi trace' measured: boards and links unless --testbed says, costs unless --cost does",
    )
    parser.add_argument("--cost", metavar="cost.json", help="the cost model that 'flexpie-mpi fit' wrote")


def add_threads(parser: Parser, default: int | None = 1) -> None:
    """How many threads a rank computes with."""
    parser.add_argument(
        "--threads",
        type=texts.threads,
        default=default,
        metavar="T",
        help="onnxruntime threads per rank (default: 1)",
    )


def add_trace_budget(parser: Parser, before: str) -> None:
    """How long a job may measure, and `before` what."""
    parser.add_argument(
        "--trace-budget",
        type=texts.seconds_or_none,
        default=BUDGET_S,
        metavar="SECONDS",
        help=f"most that is measured before {before} (default: %(default)g)",
    )


def add_state_arguments(parser: Parser) -> None:
    """What stays on the boards between requests."""
    parser.add_argument(
        "--state",
        action="append",
        type=texts.state_pattern,
        metavar="OUTPUT=INPUT|auto",
        help="outputs that the next request reads as inputs, with any text where both have a *, or auto, the usual "
        "names (present.*=past_key_values.*, new_*=*, hn=h0, ...): they stay where they are computed; =INPUT is one "
        "that no request changes, as keys of an encoder",
    )
    parser.add_argument(
        "--max-length",
        type=texts.positive,
        metavar="M",
        help="positions that there is room for in states that grow by those of each request, as caches of keys and "
        "values do; the model's mask and position numbers are made by themselves",
    )


def add_record_arguments(parser: Parser) -> None:
    """What to say, and where."""
    parser.add_argument("--json", metavar="FILE|-", help="write everything as JSON; - for nothing but JSON on stdout")
    parser.add_argument("-v", "--verbose", action="store_true", help="leave nothing out of long tables, and log")


def check_choices(args: argparse.Namespace) -> None:
    """Refuse arguments that do not go together.

    Raises UsageError.
    """
    given = [f"--{name}" for name in _CHOICES if getattr(args, name, None) is not None]
    planner = args.layout or AUTO
    if getattr(args, "plan", None) is not None and given:
        raise UsageError(f"--plan already says what {given[0]} chooses: give one of the two")
    if args.grid is not None and planner != "grid":
        raise UsageError(f"--grid goes with --layout grid, not {planner}")
    if args.weights is not None and planner == "single":
        raise UsageError("--weights goes with a layout that shares the work, not single")
    if args.partial is not None and planner != AUTO:
        raise UsageError(f"--partial goes with --layout {AUTO}, not {planner}")
    ruled = [f"--{name}" for name in _OF_RULES if getattr(args, name) is not None]
    if ruled and planner not in PRESETS:
        raise UsageError(f"{ruled[0]} goes with a layout that is a rule ({', '.join(PRESETS)}), not {planner}")
    for name in ("top", "autotune"):
        if (getattr(args, name, None) or 1) > 1 and planner not in SEARCHING:
            raise UsageError(f"--{name} goes with a planner that searches ({', '.join(SEARCHING)}), not {planner}")


def choice_of(args: argparse.Namespace) -> PlanChoice:
    """Who plans, and how."""
    autotune = getattr(args, "autotune", None) or 1
    may = args.partial != "off", args.overlap == "auto"
    return PlanChoice(args.layout or AUTO, args.fuse, args.weights, args.grid, autotune, *may)


def sources_of(args: argparse.Namespace) -> CostSources:
    """Where boards and costs come from."""
    threads, budget_s = getattr(args, "threads", None) or 1, getattr(args, "trace_budget", None) or 0.0
    boundaries = getattr(args, "boundaries", None) or BOUNDARIES[0]
    return CostSources(args.testbed, args.cost, getattr(args, "traces", None), threads, budget_s, boundaries)


def files_of(args: argparse.Namespace) -> list[str]:
    """All files of ``--input``, in order."""
    return [file for group in args.input for file in group]


def reading_of(args: argparse.Namespace) -> str:
    """What decides the numbers of requests beside their source, in words."""
    named = (("mean", args.mean), ("scale", args.scale), ("shape", sorted(args.shape)))
    return "".join(f", {name} {value}" for name, value in named if value)


def cache_of(args: argparse.Namespace) -> Cache:
    """The cache that the arguments ask for.

    Raises CacheError when the environment gives a limit that is no number.
    """
    if args.no_cache:
        return Cache(None)
    return Cache(args.cache) if args.cache else Cache.default()


def asked_of(args: argparse.Namespace) -> Asked:
    """What is asked of a model: shapes of its inputs, and which outputs."""
    from ..model.inputs import Asked

    return Asked(dict(args.shape), outputs=args.outputs or None)


def states_of(args: argparse.Namespace) -> StateChoice:
    """What stays on the boards between requests."""
    return StateChoice(tuple(getattr(args, "state", None) or ()), getattr(args, "max_length", None))


def budget_of(args: argparse.Namespace) -> Budget:
    """How much memory a file may ask for: what the arguments allow, or this machine's share."""
    return Budget.of_machine() if args.memory is None else Budget(args.memory)


def load_model(args: argparse.Namespace, source: str) -> Model:
    """A model, loaded by this process alone."""
    from ..model import load

    return load(source, asked_of(args), cache_of(args), budget=budget_of(args), states=states_of(args))


def start_log(verbose: bool, rank: int = 0) -> None:
    """Send the log to stderr, each line with its rank; only warnings unless `verbose`."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format=f"flexpie-mpi: rank {rank}: %(levelname)s: %(message)s",
        force=True,
    )
