"""The command line as a user types it: with and without mpirun."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flexpie_mpi.__main__ import main
from flexpie_mpi.commands import job as job_module
from flexpie_mpi.runtime.loopback import alone
from tests.launch import run


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_folder, monkeypatch):
    """Nothing is read from or left in the user's cache; what one test makes serves the next."""
    monkeypatch.setenv("FLEXPIE_CACHE", str(cache_folder))
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def here(capsys):
    """A verb that needs no ranks, in this process: (exit code, stdout, stderr)."""

    def call(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def job(request):
    """``job(n, *words)``: any verb in processes of its own; one rank is started without mpirun."""

    def call(ranks, *words, program=("-m", "flexpie_mpi"), **options):
        words = [*program, *map(str, words)]
        if ranks == 1:
            return run([sys.executable, *words], extra=options.get("extra"))
        return request.getfixturevalue("mpirun").outcome(ranks, *words, **options)

    return call


@pytest.fixture(scope="session")
def two_by_two(tmp_path_factory) -> Path:
    """A model of two inputs and two outputs; the first axis is symbolic."""
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((6, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["features"], pads=[1, 1, 1, 1], name="conv"),
            helper.make_node("Add", ["features", "bias"], ["shifted"], name="add"),
            helper.make_node("ReduceMax", ["shifted"], ["best"], axes=[2, 3], keepdims=0, name="max"),
        ],
        "two_by_two",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8]),
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, [6, 1, 1]),
        ],
        [
            helper.make_tensor_value_info("shifted", TensorProto.FLOAT, ["n", 6, 8, 8]),
            helper.make_tensor_value_info("best", TensorProto.FLOAT, ["n", 6]),
        ],
        [weight],
    )
    path = tmp_path_factory.mktemp("models") / "two_by_two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def one(monkeypatch, capsys):
    """The whole program on one rank that needs no MPI, in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(job_module, "start", lambda deadline_s: alone())

    def call(*words):
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return call
