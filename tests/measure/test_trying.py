"""Plans of models that not every request, and not every weight, is good for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

from flexpie_mpi.core.plan import Plan
from flexpie_mpi.measure import observed, profiled_run
from flexpie_mpi.measure import plans as plans_module
from flexpie_mpi.measure.agreement import UntriedError, together
from flexpie_mpi.measure.plans import Outcome, collect_plans, sample_plans
from flexpie_mpi.model import Model, load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.engine import load_shared
from flexpie_mpi.runtime.loopback import LoopbackTransport, run_ranks
from flexpie_mpi.testbed import one_host

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(profiled_run, "PROFILED_S", 0.0)
    monkeypatch.setattr(profiled_run, "PLAIN_S", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def floats(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / 8).astype(np.float32)


def model_of(nodes, inputs, outputs, weights) -> ModelProto:  # type: ignore[no-untyped-def]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op, reads, writes, **attributes) for op, reads, writes, attributes in nodes],
        "small",
        [info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def one_row() -> tuple[ModelProto, dict[str, np.ndarray]]:
    """A table of one row, so that every index must be 0."""
    nodes = [("Gather", ["table", "ids"], ["h"], {}), ("MatMul", ["h", "w"], ["y"], {})]
    weights = {"table": floats(1, 64), "w": floats(64, 32)}
    proto = model_of(nodes, {"ids": (TensorProto.INT64, [12])}, {"y": [12, 32]}, weights)
    return proto, {"ids": np.zeros(12, np.int64)}


def counted() -> tuple[ModelProto, dict[str, np.ndarray]]:
    """As many places are found as the model was exported for, with its own weights."""
    x, w = floats(12, 64), floats(64, 32)
    count = int((x @ w > 0.0).sum())
    nodes = [
        ("MatMul", ["x", "w"], ["h"], {}),
        ("Greater", ["h", "zero"], ["m"], {}),
        ("NonZero", ["m"], ["i"], {}),
        ("Transpose", ["i"], ["t"], {}),
        ("GatherND", ["h", "t"], ["v"], {}),
        ("Reshape", ["v", "shape"], ["r"], {}),
        ("MatMul", ["r", "last"], ["y"], {}),
    ]
    weights = {"w": w, "zero": np.float32(0), "shape": np.int64([1, count]), "last": floats(count, 8)}
    return model_of(nodes, {"x": (TensorProto.FLOAT, [12, 64])}, {"y": [1, 8]}, weights), {"x": x}


def collect(
    source: Path | Model, inputs: dict[str, np.ndarray], ranks: int, plans: Callable[..., Iterator[Plan]] | None = None
) -> tuple[list[Outcome], dict[str, list[np.ndarray]]]:
    """What became of a few plans, by rank, and their rows."""
    kept: dict[str, list[np.ndarray]] = {}

    def one_rank(transport: LoopbackTransport) -> Outcome:
        model = source if isinstance(source, Model) else load_shared(transport, str(source))
        return collect_plans(
            transport,
            model,
            inputs if transport.rank == 0 else {},
            plans(model.graph) if plans else islice(sample_plans(model.graph, ranks), 6),
            testbed=one_host(ranks, 2),
            keep=lambda table, rows: kept.setdefault(table, []).append(rows),
            clock=lambda: transport.broadcast(1e9),
        )

    return run_ranks(ranks, one_rank), kept


def saved(proto: ModelProto, folder: Path) -> Path:
    path = folder / "small.onnx"
    save(proto, path)
    return path


@pytest.mark.parametrize("make", [one_row, counted])
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_good_request_and_the_real_weights_run_every_plan(make, ranks: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    proto, inputs = make()
    outcomes, kept = collect(saved(proto, tmp_path), inputs, ranks)
    assert outcomes == [outcomes[0]] * ranks and outcomes[0].left_out == [] and outcomes[0].measured > 1
    assert len(kept["plan"]) == outcomes[0].measured


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_request_that_is_none_leaves_all_plans_out_on_every_rank(ranks: int, tmp_path: Path) -> None:
    """Where a row of the table is read that is not there, other ranks wait for what comes of it."""
    proto, inputs = one_row()
    outcomes, kept = collect(saved(proto, tmp_path), {"ids": inputs["ids"] + 1}, ranks)
    assert outcomes == [outcomes[0]] * ranks and outcomes[0].measured == 0 and kept == {}
    assert len(outcomes[0].left_out) > 1 and "out of data bounds" in outcomes[0].left_out[0]
    assert not outcomes[0].is_hopeless and list(tmp_path.iterdir()) == [tmp_path / "small.onnx"]


def test_a_planner_that_fails_ends_measuring_and_nothing_else(tmp_path: Path) -> None:
    def plans(graph):  # type: ignore[no-untyped-def]
        yield layout_plan(graph, 2, "rows")
        raise KeyError("a defect")

    proto, inputs = one_row()
    outcomes, _ = collect(saved(proto, tmp_path), inputs, 2, plans)
    assert outcomes[0] == outcomes[1] and outcomes[0].measured == 1 and outcomes[0].is_hopeless
    assert "KeyError: 'a defect'" in outcomes[0].left_out[0]


@pytest.mark.parametrize("part", ["read_runs", "compute_rows", "exchange_rows"])
def test_whatever_goes_wrong_on_a_rank_is_known_to_all(part: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A profile that a full disk has cut, rows that make no sense."""

    def fail(*given, **named):  # type: ignore[no-untyped-def]
        raise OSError("the disk is full")

    module = {"read_runs": profiled_run, "compute_rows": plans_module, "exchange_rows": observed}[part]
    monkeypatch.setattr(module, part, fail)
    proto, inputs = one_row()
    outcomes, kept = collect(saved(proto, tmp_path), inputs, 2)
    assert outcomes[0] == outcomes[1] and outcomes[0].measured == 0 and kept == {}
    assert "the disk is full" in outcomes[0].left_out[0]


def test_no_place_for_files_ends_measuring_and_nothing_else(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    proto, inputs = one_row()
    model = load(str(saved(proto, tmp_path)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    outcomes, _ = collect(model, inputs, 2)
    assert outcomes[0] == outcomes[1] and outcomes[0].is_hopeless and "temporary files" in outcomes[0].left_out[0]


def test_an_error_of_one_rank_is_one_of_all() -> None:
    def rank(transport: LoopbackTransport) -> str:
        with suppress(UntriedError):
            assert together(transport, lambda: 7, "counting") == 7
            together(transport, lambda: 1 // transport.rank, "dividing")
            return "nothing"
        return "untried"

    assert run_ranks(3, rank) == ["untried"] * 3
