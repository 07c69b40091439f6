"""How long planning takes: the search alone, the model read and the cost model loaded.

``python bench/planning.py [--cost cost.json] [--models mobilenet_v1,...] [--ranks 4] [--planner auto] [--runs 5]``
``python bench/planning.py --cost cost.json --models resnet101 --ranks 4,64,256 --runs 1`` (planning at scale)

Without a cost file prices are formulas; with one they come from its trees, as in use. A row says how much processor
time the search took (median and largest of the runs), how many segments it priced (spans of nodes, each in one layout),
of how many distinct pieces of work, what the plan is predicted to take, how much faster than that any plan could be
under this cost model (0 where the plan is proved to be the fastest), and the most memory that the process has held.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from time import process_time

from flexpie_mpi.cost.file import load_cost
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.model import load
from flexpie_mpi.planner import Search, Task, make_plans
from flexpie_mpi.testbed import Device, switch

NETWORKS = "mobilenet_v1,mobilenet_v2,resnet18,resnet50,resnet101,vgg16,inception_v1,bert_base"


def timed(planner: str, task: Task) -> tuple[float, Search]:
    """Seconds of processor time that a search takes, and what it finds."""
    begin_s = process_time()
    search = make_plans(planner, task)
    return process_time() - begin_s, search


def row(name: str, ranks: int, spent: list[float], search: Search) -> str:
    """A line of the table."""
    seconds, peak_kib = search.plans[0].seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gap = 0.0 if search.is_optimal else 1 - search.lower_bound_s / seconds
    return (
        f"{name:14}{ranks:6}{statistics.median(spent):10.3f}{max(spent):8.3f}{search.segments_priced:10}"
        f"{search.work_priced:8}{seconds * 1e3:9.2f}{gap:7.1%}{peak_kib >> 10:6}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost")
    parser.add_argument("--models", default=NETWORKS)
    parser.add_argument("--ranks", default="4")
    parser.add_argument("--planner", default="auto")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    cost = load_cost(options.cost) if options.cost else AnalyticCost()
    print(f"planner {options.planner}, boards on a 1 Gb/s switch, {options.runs} runs, {options.cost or 'formulas'}")
    print(f"{'network':14}{'ranks':>6}{'median s':>10}{'most s':>8}{'segments':>10}{'work':>8}{'ms':>9}    gap    MB")
    for name in options.models.split(","):
        graph = load(f"builtin:{name}").graph
        for ranks in map(int, options.ranks.split(",")):
            testbed = switch(tuple(Device(f"board{rank}") for rank in range(ranks)), 125e6, 50e-6)
            found = [timed(options.planner, Task(graph, testbed, cost)) for _ in range(options.runs)]
            print(row(name, ranks, [spent for spent, _ in found], found[-1][1]), flush=True)


if __name__ == "__main__":
    main()
