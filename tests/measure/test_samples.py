"""Sample plans can all be run, are all different, and show every kind of layout and of exchange."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from flexpie_mpi.core.graph import Graph
from flexpie_mpi.lower import lower
from flexpie_mpi.measure.observed import exchange_rows
from flexpie_mpi.measure.plans import sample_plans
from flexpie_mpi.model import load
from flexpie_mpi.testbed import one_host


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load("builtin:tiny_resnet").graph


@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_inception", "tiny_bert"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_plan_can_be_lowered(name: str, ranks: int) -> None:
    graph = load(f"builtin:{name}").graph
    plans = list(islice(sample_plans(graph, ranks), 12))
    assert len({plan.segments for plan in plans}) == len(plans) > 1
    for plan in plans:
        assert plan.ranks == ranks
        assert len(lower(plan, graph)) == ranks


def test_same_seed_same_plans(graph: Graph) -> None:
    first, again, other = (list(islice(sample_plans(graph, 4, seed), 10)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_first_plans_show_everything(graph: Graph) -> None:
    """Within a dozen plans: every kind of layout, fused and not, fewer ranks than all, and all patterns of exchange."""
    plans = list(islice(sample_plans(graph, 4), 14))
    layouts = {segment.layout for plan in plans for segment in plan.segments}
    assert {layout.kind for layout in layouts} >= {"rows", "columns", "grid", "channels", "single", "replicated"}
    assert any(1 < len(layout.ranks) < 4 for layout in layouts)
    assert any(layout.weights for layout in layouts)
    rows = [exchange_rows(lower(plan, graph), one_host(4, 4))[1] for plan in plans]
    assert set(np.concatenate(rows)["kind"]) >= {b"halo", b"scatter", b"gather", b"full"}


def test_plans_of_sequences_come_first() -> None:
    """Few plans of a large model fit a budget, and these are what is raced and what `auto` is to be compared with."""
    plans = list(islice(sample_plans(load("builtin:tiny_bert").graph, 4), 2))
    assert [plan.provenance["planner"] for plan in plans] == ["megatron", "sequence"]
