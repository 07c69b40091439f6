"""Rows of results as tests need them."""

from __future__ import annotations

from flexpie_mpi.suite.results import RankResult, Result

RANK = RankResult(
    rank=0, device="pi0", slowdown=8.0, compute_s=0.1, send_s=0.01, receive_s=0.02, wait_s=0.0, flops=60,
    sent_bytes=1000, messages=2, weight_bytes=10, arena_bytes=20, peak_rss_bytes=30, needed_bytes=40,
)  # fmt: skip
ROW = Result(
    suite="study", model="builtin:tiny_cnn", model_digest="m", batch=1, testbed="pi4x2", testbed_digest="t",
    topology="switch", bandwidth=125e6, ranks=2, planner="auto", is_emulated=True, plan={"segments": []},
    plan_digest="p", planning_s=0.5, lower_bound_s=0.1, is_optimal=True, predicted_s=0.11, simulated_s=0.12,
    measured_s=(0.13, 0.15, 0.14), flops=100, per_rank=(RANK, RANK), repeats=3, warmup=1, versions={"python": "3"},
    machine="a board", cost="cost.json", date="2025-01-01T00:00:00+00:00",
)  # fmt: skip
