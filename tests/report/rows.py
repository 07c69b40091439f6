"""Rows of results, made by hand or to look like a suite's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from flexpie_mpi.suite.results import RankResult, Result

PAPER_PLANNERS = ("auto", "flexpie", "fused", "layerwise", "rows", "columns", "grid", "channels", "single")

WORK_S = {"mobilenet_v1": 0.132, "resnet18": 0.294, "resnet101": 1.25, "bert_base": 4.5}
"""About what a model takes on one board of the paper."""

_PENALTY = {
    "auto": 0.0, "flexpie": 0.02, "fused": 0.08, "layerwise": 0.09, "rows": 0.2, "columns": 0.22, "grid": 0.17,
    "channels": 1.2, "batch": 0.3, "single": 0.0, "random": 3.0,
}  # fmt: skip


def row(
    planner: str = "auto", measured_s: Sequence[float] = (0.1,), *, model: str = "builtin:resnet18", ranks: int = 4,
    slowdowns: Sequence[float] = (), split: Sequence[float] = (0.7, 0.05, 0.05, 0.2), flops: int = 3_600_000_000,
    memory_bytes: int | None = 256_000_000, **others: object,
) -> Result:  # fmt: skip
    """A row; what is not given is alike in all."""
    slow = tuple(slowdowns) or (16.0,) * ranks
    median_s = sorted(measured_s)[len(measured_s) // 2] if measured_s else 0.1
    shares = [1 / s / sum(1 / s for s in slow) for s in slow]
    per_rank = tuple(
        RankResult(
            rank=rank, device=f"board{rank}", slowdown=slow[rank],
            compute_s=median_s * split[0] * (1 - 0.05 * rank), send_s=median_s * split[1],
            receive_s=median_s * split[2], wait_s=median_s * (split[3] + split[0] * 0.05 * rank),
            flops=int(flops * shares[rank] * 1.1), sent_bytes=500_000, messages=10, weight_bytes=45_000_000,
            arena_bytes=3_000_000, peak_rss_bytes=190_000_000, needed_bytes=200_000_000, memory_bytes=memory_bytes,
        )
        for rank in range(ranks)
    )  # fmt: skip
    values: dict[str, object] = dict(
        suite="made", model=model, model_digest="m", batch=1, testbed="pi4x4", testbed_digest="t", topology="switch",
        bandwidth=125e6, ranks=ranks, planner=planner, is_emulated=True, plan={}, plan_digest=f"{planner}",
        planning_s=1.5, lower_bound_s=0.09, is_optimal=planner == "auto", predicted_s=median_s * 0.95,
        simulated_s=median_s * 1.02, measured_s=tuple(measured_s), flops=flops, per_rank=per_rank,
        repeats=len(measured_s), warmup=2, versions={"python": "3.11.4", "onnxruntime": "1.20", "mpi": "MPICH 4.3"},
        machine="Xeon, 2 cores, Linux 6 x86_64", cost="cost.json", date="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    return Result(**(values | others))


def cell(
    random: Random, model: str, testbed: str, ranks: int, planners: Sequence[str] = PAPER_PLANNERS, rounds: int = 10,
    slow_net: float = 1.0, **others: object,
) -> Iterator[Result]:  # fmt: skip
    """Rows of planners in one cell, with noise that all rounds share."""
    alone = WORK_S.get(model.removeprefix("builtin:"), 0.5) * int(others.get("batch", 1))
    noise = [random.lognormvariate(0, 0.02) for _ in range(rounds)]
    for planner in planners:
        spread = _PENALTY.get(planner, 0.5) * random.uniform(0.5, 1.5) * slow_net
        base = alone * (1.0 if planner == "single" or ranks == 1 else (1 / ranks + 0.012) * (1 + spread))
        measured = [base * shared * random.lognormvariate(0, 0.008) for shared in noise]
        yield row(
            planner, measured, model=model, testbed=testbed, ranks=ranks,
            predicted_s=base * random.lognormvariate(-0.02, 0.06), simulated_s=base * random.lognormvariate(0.01, 0.04),
            planning_s=random.uniform(0.1, 9), **others,
        )  # fmt: skip


def paper(seed: int = 0) -> list[Result]:
    """The paper's evaluation: 72 cells of nine planners."""
    random = Random(seed)
    made = []
    for topology in ("ring", "star", "switch"):
        for boards in (3, 4):
            for net, hurt in (("5g", 0.5), ("1g", 1.0), ("500m", 1.6)):
                bandwidth = {"5g": 625e6, "1g": 125e6, "500m": 62.5e6}[net]
                for model in WORK_S:
                    made += cell(
                        random, f"builtin:{model}", f"flexpie-{topology}{boards}-{net}", boards, slow_net=hurt,
                        bandwidth=bandwidth, topology=topology, suite="paper",
                    )  # fmt: skip
    return made


def scaling(seed: int = 1, models: Sequence[str] = tuple(WORK_S), testbeds: Sequence[str] = ("pi4x8",)) -> list[Result]:
    """Strong scaling over 1 to 8 boards, and batches on 4."""
    random = Random(seed)
    made = []
    for testbed in testbeds:
        slow = (4.0, 8.0, 8.0, 8.0, 16.0, 16.0, 16.0, 16.0) if "mixed" in testbed else (8.0,) * 8
        for model in models:
            for ranks in range(1, 9):
                made += cell(
                    random, f"builtin:{model}", testbed, ranks, ("auto", "single"), suite="scaling",
                    slowdowns=slow[:ranks],
                )  # fmt: skip
            for batch in (2, 4, 8):
                made += cell(random, f"builtin:{model}", testbed, 4, ("auto", "single"), batch=batch, suite="scaling")
    return made
