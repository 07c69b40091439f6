"""The engine's outputs equal one onnxruntime session's: real networks, every layout, fused and not, any rank count."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi import Engine, Layout, Plan, Segment, layout_plan, load, run_ranks
from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.layout import KINDS
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.shards import segment_problems
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.runtime.admission import Requests

from .models import LIGHT, with_random_weights
from .planners import SEARCHING, planned

TINY = ["tiny_cnn", "tiny_resnet", "tiny_mobilenet", "tiny_inception", "tiny_vgg", "tiny_bert"]
PRESETS = ["rows", "columns", "grid", "channels", "batch", "single"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def reference(cache):
    """Model, inputs and the outputs of one plain session on the original file, each made once."""
    made = {}

    def get(source: str):
        if source not in made:
            model = load(source, cache=cache)
            inputs = random_inputs(model.graph, seed=3)
            made[source] = model, inputs, plain_session(source, cache, inputs)
        return made[source]

    return get


def plain_session(source: str, cache: Cache, inputs) -> dict[str, np.ndarray]:
    path = source
    if source.startswith("builtin:"):
        path = next(p for p in (cache.folder / "builtin").glob(f"{source[8:]}-*/*.onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def run(model, plan, inputs, cache):
    """Outputs of a plan on as many ranks, all in this process."""

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        return {name: np.array(value) for name, value in engine.run(inputs).items()}

    return run_ranks(plan.ranks, rank)[plan.root]


def assert_equal(outputs, expected):
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        assert outputs[name].dtype == value.dtype and outputs[name].shape == value.shape
        largest = np.abs(value).max()
        assert np.isfinite(largest) and np.ptp(value) > 0, "a constant output would hide a wrong shard"
        assert np.abs(outputs[name] - value).max() <= 1e-4 * largest, name


@pytest.mark.parametrize("fusion, counts", [("free", (1, 3, 4, 8)), ("none", (3,)), ("all-legal", (2,))])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", TINY)
def test_tiny_networks(name, preset, fusion, counts, reference, cache):
    model, inputs, expected = reference(f"builtin:{name}")
    for ranks in counts:
        plan = layout_plan(model.graph, ranks, preset, fusion=fusion)
        assert violations(lower(plan, model.graph), plan, model.graph) == []
        assert_equal(run(model, plan, inputs, cache), expected)


@pytest.mark.parametrize("planner", SEARCHING)
@pytest.mark.parametrize("name", TINY)
def test_what_a_search_finds_runs_exactly(name, planner, reference, cache):
    model, inputs, expected = reference(f"builtin:{name}")
    for ranks in (1, 2, 3, 4) if planner == "auto" else (3,):
        plan = planned(model.graph, ranks, planner)
        assert ranks == 1 or any(len(segment.layout.ranks) > 1 for segment in plan.segments)
        assert violations(lower(plan, model.graph), plan, model.graph) == []
        assert_equal(run(model, plan, inputs, cache), expected)


LIGHT_PLANS = ((3, "rows", "free"), (4, "grid", "5"), (2, "channels", "free"))


@pytest.mark.parametrize(
    ("path", "ranks", "preset", "fusion"),
    [(path, *plan) for path, plan in zip(LIGHT, cycle(LIGHT_PLANS), strict=False)],
    ids=[path.stem for path in LIGHT],
)
def test_the_real_networks_of_the_onnx_wheel(path, ranks, preset, fusion, cache, tmp_path):
    """Each by one layout; `bench/exactness.py` takes all."""
    source = str(with_random_weights(path, tmp_path / path.name, hidden=64))
    model = load(source, cache=cache)
    inputs = random_inputs(model.graph, seed=5)
    expected = plain_session(source, cache, inputs)
    plan = layout_plan(model.graph, ranks, preset, fusion=fusion)
    assert_equal(run(model, plan, inputs, cache), expected)


@st.composite
def random_plan(draw, graph):
    ranks = draw(st.integers(1, 5))
    ends = sorted(draw(st.sets(st.integers(1, len(graph.nodes) - 1), max_size=8)) | {len(graph.nodes)})
    segments = []
    for first, end in zip([0, *ends], ends, strict=False):
        kind = draw(st.sampled_from(["rows", "columns", "channels", "grid", "replicated", "single"]))
        group = tuple(draw(st.permutations(range(ranks))))[: 1 if kind == "single" else draw(st.integers(1, ranks))]
        grid = draw(st.sampled_from([(1, len(group)), (len(group), 1)])) if kind == "grid" else ()
        count = sum(grid) or len(group)
        weighted = kind not in ("single", "replicated") and draw(st.booleans())
        weights = tuple(draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))) if weighted else ()
        names = tuple(node.name for node in graph.nodes[first:end])
        in_parts = KINDS[kind].cuts and draw(st.booleans())
        segments.append(Segment(names, Layout(kind, group, weights, grid, in_parts)))
    return Plan(tuple(segments), ranks, graph.digest, root=draw(st.integers(0, ranks - 1)))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_legal_plan_of_any_ranks_and_weights_is_exact(data, reference, cache):
    name = data.draw(st.sampled_from(TINY))
    model, inputs, expected = reference(f"builtin:{name}")
    plan = data.draw(random_plan(model.graph))
    plan = replace(plan, segments=tuple(legal(model.graph, plan)))
    assert_equal(run(model, plan, inputs, cache), expected)


def legal(graph, plan):
    """The plan's segments, with layouts that the nodes do not allow replaced: without parts, or by one rank."""
    for segment, first, end in plan.spans:
        instead = replace(segment.layout, in_parts=False), Layout("single", segment.layout.ranks[:1])
        choices = (
            each for each in (segment.layout, *instead) if not segment_problems(graph, first, end, each, plan.root)
        )
        yield replace(segment, layout=next(choices, instead[-1]))


def test_requests_stream_through_one_engine(reference, cache):
    model, _, _ = reference("builtin:tiny_cnn")
    requests = [random_inputs(model.graph, seed=seed) for seed in range(5)]
    plan = layout_plan(model.graph, 3, "rows")

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        found = []

        def deliver(number, outputs, latency_s):
            found.append({name: value.copy() for name, value in outputs.items()})

        flow = engine.stream(Requests(requests), deliver)
        assert flow.requests == 5
        return found

    root, *others = run_ranks(3, rank)
    assert others == [[], []]
    for request, outputs in zip(requests, root, strict=True):
        assert_equal(outputs, plain_session("builtin:tiny_cnn", cache, request))


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda x: {}, "input 'input' is missing"),
        (lambda x: {"input": x[:, :1, :1]}, r"of shape \(1, 1, 1, 32\)"),
        (lambda x: {"input": x.astype(np.float64)}, "type float64"),
        (lambda x: {"input": x.tolist()}, "is list"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, reason, reference, cache):
    model, inputs, _ = reference("builtin:tiny_cnn")
    with pytest.raises(DataError, match=reason):
        run(model, layout_plan(model.graph, 1), change(inputs["input"]), cache)
