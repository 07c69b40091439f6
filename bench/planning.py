"""How long planning takes: the search alone, the model read and the cost model loaded.

``python bench/planning.py [--cost cost.json] [--models mobilenet_v1,...] [--ranks 4] [--planner auto] [--runs 5]``

Without a cost file prices are formulas; with one they come from its trees, as in use. A row says how long the search
took (median and largest of the runs), how many segments it priced (spans of nodes, each in one layout), of how many
distinct pieces of work, and whether the plan is proved to be the fastest under this cost model.
"""

from __future__ import annotations

import argparse
import statistics

from flexpie_mpi.cost.file import load_cost
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.model import load
from flexpie_mpi.planner import Task, make_plans
from flexpie_mpi.testbed import Device, switch

NETWORKS = "mobilenet_v1,mobilenet_v2,resnet18,resnet50,resnet101,vgg16,inception_v1,bert_base"


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
    print(f"{'network':14}{'ranks':>6}{'median s':>10}{'most s':>8}{'segments':>10}{'work':>8}{'ms':>9}  proved")
    for name in options.models.split(","):
        graph = load(f"builtin:{name}").graph
        for ranks in map(int, options.ranks.split(",")):
            testbed = switch(tuple(Device(f"board{rank}") for rank in range(ranks)), 125e6, 50e-6)
            found = [make_plans(options.planner, Task(graph, testbed, cost)) for _ in range(options.runs)]
            spent = [search.planning_s for search in found]
            last = found[-1]
            print(
                f"{name:14}{ranks:6}{statistics.median(spent):10.3f}{max(spent):8.3f}{last.segments_priced:10}"
                f"{last.work_priced:8}{last.plans[0].seconds * 1e3:9.2f}  {'yes' if last.is_optimal else 'no'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
