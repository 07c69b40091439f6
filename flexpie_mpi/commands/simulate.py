"""``flexpie-mpi simulate``: what a model would take on boards one does not have, from one to a thousand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ..core.choices import AUTO
from ..core.errors import PlanError, TestbedError, count_of
from ..core.plan import Plan
from ..core.versions import versions
from ..cost.prior import AnalyticCost
from ..files.atomic import write_text
from ..lower import lower
from ..report.chrome import chrome_text
from ..report.models import model_lines, model_record
from ..report.simulated import simulated_trace, study_items, study_record
from ..report.tables import Item
from ..session.inputs import UNMEASURED, given_cost
from ..session.opening import CostSources, read_plan
from ..session.scaling import RULES, SEARCHED, Scaling, ScalingStudy
from ..testbed import Sketch, read_change, read_sketch
from . import options, texts
from .output import Progress, check_paths, publish, write_record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    options.add_default_model(parser)
    parser.add_argument("--testbed", required=True, metavar="T.toml", help="the boards and the links between them")
    parser.add_argument("--cost", metavar="cost.json", help="the cost model that 'flexpie-mpi fit' wrote")
    parser.add_argument(
        "--ranks",
        type=board_counts,
        metavar="1,2,4,...,64",
        help="numbers of boards; more than the testbed has are more of its last one (default: up to the testbed's)",
    )
    parser.add_argument(
        "--what-if",
        metavar="bandwidth=2Gb/s,...",
        help="the same once more with another bandwidth, latency, slowdown or memory of all boards and links",
    )
    parser.add_argument(
        "--timeline", metavar="FILE", help="write what every rank of the most boards does when, for ui.perfetto.dev"
    )
    options.add_model_arguments(parser)
    options.add_state_arguments(parser)
    options.add_layout_arguments(parser)
    parser.add_argument("--plan", metavar="FILE", help="simulate this plan, on as many boards as it is for")
    options.add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Plan and simulate for every number of boards, and say what comes of it."""
    options.start_log(args.verbose)
    options.check_choices(args)
    check_paths({"--json": args.json, "--timeline": args.timeline})
    change = read_change(args.what_if) if args.what_if is not None else None
    with Progress(sys.stderr) as progress:
        progress.tell("reading what predictions stand on")
        sketch = read_sketch(args.testbed)
        cost, source = given_cost(CostSources(cost=args.cost), None) or (AnalyticCost(), UNMEASURED)
        given = read_plan(args.plan) if args.plan is not None else None
        counts = _counts(args.ranks, sketch, given)
        progress.tell(f"loading {args.model}")
        model = options.load_model(args, args.model)
        scaling = Scaling(model, options.choice_of(args), cost, given, progress.tell)
        studies = [scaling.study(sketch, counts)]
        if change is not None:
            studies.append(scaling.study(sketch.changed(change), counts, args.what_if))
    record: dict[str, Any] = {
        "model": model_record(model, args.model),
        "testbed": {"name": sketch.name, "digest": sketch.testbed().digest},
        "costs": source,
        "studies": [study_record(study) for study in studies],
        "versions": versions(),
    }
    write_record(record, args.json)
    if args.timeline is not None:
        plan = studies[-1].counts[-1].plan
        programs = lower(plan.variant(0), model.graph, sketch.testbed(plan.ranks).blocks)
        write_text(args.timeline, chrome_text(simulated_trace(studies[-1], model.graph, programs)))
    head = [*model_lines(model), f"boards   {_boards(sketch, counts)}", f"costs    {source}", ""]
    publish(lambda: [*head, *_items(args, studies)], record, args.json)
    return 0


def _items(args: argparse.Namespace, studies: Sequence[ScalingStudy]) -> list[Item]:
    """The studies, each beside the first."""
    items: list[Item] = []
    for study in studies:
        items += [*study_items(study, None if study is studies[0] else studies[0]), ""]
    if studies[0].counts[-1].boards > SEARCHED and options.choice_of(args).planner == AUTO and args.plan is None:
        rules = ", ".join(RULES)
        items += [f"beyond {SEARCHED} boards plans are not searched but chosen: {rules}, or that of fewer boards", ""]
    return items[:-1]


def _boards(sketch: Sketch, counts: Sequence[int]) -> str:
    own, most = len(sketch.devices), max(counts)
    more = f"; {most - own} more are like '{sketch.devices[-1].name}'" if most > own else ""
    return f"{sketch.name}: {count_of(own, 'board')} as a {sketch.topology}{more}"


def _counts(asked: tuple[int, ...] | None, sketch: Sketch, given: Plan | None) -> tuple[int, ...]:
    """Numbers of boards, ascending.

    Raises PlanError when a plan is for another number. Raises TestbedError when there cannot be so many.
    """
    own = len(sketch.devices)
    if given is not None:
        counts = asked or (given.ranks,)
        if counts != (given.ranks,):
            raise PlanError(
                f"the plan is for {count_of(given.ranks, 'rank')} and --ranks asks for "
                f"{', '.join(map(str, counts))}: leave --ranks out, or let plans be made (--layout)"
            )
    else:
        counts = asked or tuple(sorted({own, *(2**power for power in range(own.bit_length()) if 2**power < own)}))
    if counts[-1] > sketch.topology.most_devices:
        raise TestbedError(
            f"{counts[-1]} boards are more than the {sketch.topology.most_devices} that a {sketch.topology} may have"
        )
    return counts


def board_counts(text: str) -> tuple[int, ...]:
    """Numbers of boards, ascending; dots go on as the numbers before them began.

    >>> board_counts("1,2,4,...,32"), board_counts("2,4,...,8"), board_counts("16,1")
    ((1, 2, 4, 8, 16, 32), (2, 4, 6, 8), (1, 16))
    """
    words = [word.strip() for word in text.split(",")]
    if "..." not in words:
        return tuple(sorted({texts.positive(word) for word in words}))
    dots = words.index("...")
    before, after = ([texts.positive(word) for word in some] for some in (words[:dots], words[dots + 1 :]))
    if len(before) < 2 or not after:
        raise argparse.ArgumentTypeError(f"'{text}': dots need two numbers before them and one behind, as in 1,2,...,8")
    between = _continued(before, after[0])
    if not between or between[-1] != after[0]:
        raise argparse.ArgumentTypeError(f"'{text}': the numbers before the dots do not lead to {after[0]}")
    return tuple(sorted({*before, *between, *after}))


def _continued(known: Sequence[int], last: int) -> list[int]:
    """The last of `known` and what follows up to `last`: as many times as much, or as much more, each time."""
    *_, a, b, c = (2 * known[0] - known[1], *known)  # two numbers go on by as much more
    is_times = a * c == b * b
    if not is_times and c - b != b - a:
        return []
    numbers = [c]
    while b < c and numbers[-1] < last:
        numbers.append(numbers[-1] * c // b if is_times else numbers[-1] + c - b)
    return numbers
