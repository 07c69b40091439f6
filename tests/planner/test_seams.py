"""What a planner or a cost model has to bring: one function in the registry, or three prices."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

from flexpie_mpi.__main__ import main
from flexpie_mpi.core.choices import FUSIONS, PLANNERS, PRESETS
from flexpie_mpi.core.plan import Plan
from flexpie_mpi.cost.model import CostModel, Origin
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.rows import WORK
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.planner import Search, Task, layout_plan, make_plans, price
from flexpie_mpi.planner.registry import REGISTRY
from flexpie_mpi.testbed import Device, switch

from ..graphs import GRAPHS

BOARDS = """
topology = "switch"
link = {bandwidth = "1Gb/s", latency = "20us"}
device = [{name = "board", count = 3, slowdown = 8}]
"""

TESTBED = switch([Device(f"board{rank}", slowdown=8) for rank in range(3)], 125e6, 20e-6)


def best_rule(task: Task) -> Search:
    """The rule and the fusion that are predicted to be fastest."""
    begin_s = perf_counter()
    rules = [(preset, fusion) for preset in PRESETS for fusion in FUSIONS]
    plans = [layout_plan(task.graph, task.testbed.ranks, preset, fusion=fusion) for preset, fusion in rules]
    priced = [price(plan, task.graph, task.testbed, task.cost) for plan in plans]
    return Search.of_rule(min(priced, key=lambda item: item.seconds), begin_s)


class FlatCost(CostModel):
    """A table of two prices: what an operator takes for each operation, and an exchange for each byte."""

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        return work["flops"] * np.where(work["op"] == b"Conv", 1e-10, 1e-9) * active

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.zeros(len(calls))

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        return transfers["total_bytes"] * 1e-9


def test_every_planner_has_a_name_and_a_function() -> None:
    assert list(REGISTRY) == list(PLANNERS)


def test_a_planner_is_a_function_in_the_registry(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(REGISTRY, "best-rule", best_rule)
    monkeypatch.setitem(PLANNERS, "best-rule", "the best of all rules")
    (tmp_path / "boards.toml").write_text(BOARDS)
    words = ["plan", "--model", "builtin:tiny_cnn", "--testbed", str(tmp_path / "boards.toml"), "--layout", "best-rule"]
    assert main([*words, "--output", str(tmp_path / "plan.json")]) == 0, capsys.readouterr().err
    assert Plan.from_json((tmp_path / "plan.json").read_text()).ranks == 3
    task = Task(GRAPHS["residual"], TESTBED, AnalyticCost())
    found = make_plans("best-rule", task).plans[0]
    assert violations(lower(found.plan, task.graph), found.plan, task.graph) == []
    assert make_plans("auto", task).plans[0].seconds <= found.seconds
    assert all(found.seconds <= make_plans(preset, task).plans[0].seconds for preset in PRESETS)


@pytest.mark.parametrize("planner", ["auto", "flexpie", "layerwise"])
def test_a_cost_model_brings_three_prices(planner: str) -> None:
    graph, cost = GRAPHS["residual"], FlatCost()
    found = make_plans(planner, Task(graph, TESTBED, cost)).plans[0]
    assert price(found.plan, graph, TESTBED, cost).seconds == pytest.approx(found.seconds) and found.seconds > 0
    assert cost.outside(np.zeros(3, WORK)).all() and cost.device_factor(Origin("job", 0)) is None
    assert dict(cost.provenance) == {}
