"""Whole jobs of models made of fused operators: cut by every layout, planned by a search, equal to one session."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi import Engine, layout_plan, run_ranks
from flexpie_mpi.lower.shards import allowed_kinds

from .fused import MODELS
from .models import beside_one_session
from .planners import planned

CUT = {
    "bert": {"rows", "channels", "batch"},
    "gpt": {"rows", "channels", "batch"},
    "llama": {"rows", "channels", "batch"},
    "four bits": {"channels", "batch"},
    "recurrent": {"rows"},
    "quantised": {"rows", "columns", "channels", "batch"},
}
"""Layouts that leave something of each model to every rank."""


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Model, inputs, the outputs of one plain session and a cache, made once each."""
    return beside_one_session(tmp_path_factory.mktemp("fused"), MODELS)


def check(case, plan):
    model, inputs, expected, cache = case

    def rank(transport):
        return {
            name: np.array(value) for name, value in Engine(transport, model, plan, cache=cache).run(inputs).items()
        }

    found = run_ranks(plan.ranks, rank)[plan.root]
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=f"{name}: {plan}")
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=f"{name}: {plan}")


@pytest.mark.parametrize("name", MODELS)
def test_no_operator_runs_whole(case, name):
    graph = case(name)[0].graph
    for node in graph.bound:
        assert not graph.is_dynamic(node.node), node.node
        assert set(allowed_kinds(graph, node)) - {"replicated", "single"} or node.op == "Flatten", node.node


@pytest.mark.parametrize("fusion", ["none", "free"])
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name in MODELS for layout in sorted(CUT[name])])
def test_layouts(case, name, layout, ranks, fusion):
    check(case(name), layout_plan(case(name)[0].graph, ranks, layout, fusion=fusion))


@pytest.mark.parametrize("ranks", [3, 4])
@pytest.mark.parametrize("name", MODELS)
def test_a_search_shares_them_out(case, name, ranks):
    plan = planned(case(name)[0].graph, ranks, "auto")
    assert any(len(segment.layout.ranks) > 1 for segment in plan.segments)
    check(case(name), plan)
