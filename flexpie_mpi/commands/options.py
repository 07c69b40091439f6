"""Arguments that several verbs share, and what turns their words into values."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.budget import Budget
from ..core.choices import AUTO, BOUNDARIES, FUSIONS, PLANNERS, PRESETS, SEARCHING, StateChoice
from ..core.errors import TestbedError
from ..files.cache import Cache
from ..runtime.machine import threads_problem
from ..session.opening import CostSources, PlanChoice
from ..testbed import MEMORY
from . import UsageError

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
        type=named_shape,
        default=[],
        metavar="NAME=1,3,224,224",
        help="shape of an input with symbolic axes that no file gives (a symbolic first axis alone becomes 1); once "
        "per input",
    )
    parser.add_argument(
        "--outputs",
        action="extend",
        type=output_names,
        default=[],
        metavar="NAME,...",
        help="wanted outputs, or positions of them as numpy has it, such as 'logits[:, -1]' (default: all); nothing is "
        "computed that they do not need",
    )
    parser.add_argument(
        "--memory",
        type=memory,
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
        type=partial(objective, objectives),
        default="latency",
        metavar="|".join(objectives),
        help="what is to be good (default: %(default)s)",
    )
    parser.add_argument(
        "--fuse",
        type=fusion,
        metavar="|".join((*FUSIONS, "K")),
        help=f"how long segments of {', '.join(PRESETS)} get: free (no redundant work, default), none (one node), "
        "all-legal (as long as the layout stays), or up to K nodes",
    )
    parser.add_argument(
        "--weights", type=numbers, metavar="2,1,1", help="relative share of each rank, for one layout (not auto)"
    )
    parser.add_argument("--grid", type=grid, metavar="RxC", help="rows and columns of --layout grid")
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
        type=threads,
        default=default,
        metavar="T",
        help="onnxruntime threads per rank (default: 1)",
    )


def add_trace_budget(parser: Parser, before: str) -> None:
    """How long a job may measure, and `before` what."""
    parser.add_argument(
        "--trace-budget",
        type=seconds_or_none,
        default=BUDGET_S,
        metavar="SECONDS",
        help=f"most that is measured before {before} (default: %(default)g)",
    )


def add_state_arguments(parser: Parser) -> None:
    """What stays on the boards between requests."""
    parser.add_argument(
        "--state",
        action="append",
        type=state_pattern,
        metavar="OUTPUT=INPUT|auto",
        help="outputs that the next request reads as inputs, with any text where both have a *, or auto, the usual "
        "names (present.*=past_key_values.*, new_*=*, hn=h0, ...): they stay where they are computed; =INPUT is one "
        "that no request changes, as keys of an encoder",
    )
    parser.add_argument(
        "--max-length",
        type=positive,
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


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """A name and a shape.

    >>> named_shape("image=1,3,8,8")
    ('image', (1, 3, 8, 8))
    """
    name, equals, extents = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=1,3,224,224")
    return name, tuple(natural(extent) for extent in extents.split(",")) if extents else ()


def output_names(text: str) -> list[str]:
    """Names of outputs, which may have an index.

    >>> output_names("logits[:, -1],present.0")
    ['logits[:, -1]', 'present.0']
    """
    return [name.strip() for name in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", text)]


def memory(text: str) -> int:
    """A size of memory in bytes.

    >>> memory("2GB")
    2000000000
    """
    try:
        return int(MEMORY.parse(text))
    except TestbedError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def state_pattern(text: str) -> str:
    """Two names with as many ``*``, one at most, or ``auto``; or ``=`` and one name.

    >>> state_pattern("present.*=past_key_values.*")
    'present.*=past_key_values.*'
    """
    output, equals, name = text.partition("=")
    fits = not output or output.count("*") == name.count("*") <= 1
    if text != AUTO and not (equals and name and fits):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither OUTPUT=INPUT, both with one * or none, nor =INPUT, nor auto"
        )
    return text


def fusion(text: str) -> str:
    """A rule of fusion, or a number of nodes."""
    if text in FUSIONS or (text.isdecimal() and int(text) > 0):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(FUSIONS)}, or a number of nodes from 1 on")


def objective(known: Sequence[str], text: str) -> str:
    """What a planner makes good."""
    if text in known:
        return text
    elsewhere = "" if "throughput" in known else "; flexpie-mpi plan --objective throughput makes one for --plan"
    raise argparse.ArgumentTypeError(
        f"'{text}' is nothing that can be planned for here; plans are made for {', '.join(known)}{elsewhere}"
    )


def grid(text: str) -> tuple[int, int]:
    """Rows and columns.

    >>> grid("3x2")
    (3, 2)
    """
    words = text.lower().split("x")
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"'{text}' is not rows x columns, such as 2x2")
    return int(words[0]), int(words[1])


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas, whole ones as int.

    >>> numbers("2,1,0.5")
    (2, 1, 0.5)
    """
    return tuple(_number(word) for word in text.split(","))


def natural(text: str, least: int = 0) -> int:
    """A whole number from 0 on, or from `least` on."""
    if not text.strip().isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} on")
    return int(text)


positive = partial(natural, least=1)
"""A whole number from 1 on."""


def threads(text: str) -> int:
    """A number of threads from 1 on that this machine can run."""
    count = positive(text)
    if problem := threads_problem(count):
        raise argparse.ArgumentTypeError(problem)
    return count


def seconds(text: str) -> float:
    """A positive number of seconds."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number of seconds")
    return value


def seconds_or_none(text: str) -> float:
    """A number of seconds, or 0."""
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from 0 on")
    return value


def _number(text: str) -> float:
    kinds: tuple[Callable[[str], float], ...] = (int, float)
    for convert in kinds:
        with suppress(ValueError):
            value = convert(text)
            if abs(value) < inf:
                return value
    raise argparse.ArgumentTypeError(f"'{text}' is not a number")
