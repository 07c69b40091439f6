"""Constants off by one unit in their last place: those that arithmetic reads, in their own shape and type."""

from __future__ import annotations

import numpy as np
import onnx

from flexpie_mpi.model.equality import factors, nudged

from .build import make, noise


def test_terms_and_factors_move_by_one_unit_and_nothing_else_does(tmp_path):
    constants = {
        "bias": noise(6, seed=1),
        "factor": np.float32(0.3),
        "whole": np.float32(2),
        "matrix": noise(6, 6),
        "least": np.float32(0.1),
        "half": noise(6, seed=2).astype(np.float16),
    }
    nodes = [
        ("MatMul", ["x", "matrix"], ["a"]),
        ("Add", ["a", "bias"], ["b"]),
        ("Mul", ["b", "factor"], ["c"]),
        ("Mul", ["c", "whole"], ["d"]),
        ("Clip", ["d", "least"], ["y"]),
        ("Add", ["half", "half"], ["z"]),
    ]
    onnx.save(make(nodes, {"x": (1, 6)}, ["y", "z"], constants), tmp_path / "m.onnx")
    read = factors(tmp_path / "m.onnx")
    found = nudged(read, 0)
    assert set(found) == {"bias", "factor", "whole", "half"}
    assert np.array_equal(found["whole"], constants["whole"])
    for name in ("bias", "factor", "half"):
        one, other = found[name], constants[name]
        assert (one.shape, one.dtype) == (np.shape(other), other.dtype)
        assert np.array_equal(np.abs(one - other) > 0, np.ones(np.shape(other), bool))
        assert (np.abs(one - other) <= np.abs(np.spacing(other))).all()
    assert not np.array_equal(nudged(read, 1)["bias"], found["bias"])
