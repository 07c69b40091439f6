"""Models that come through a pipe: weights are found in what was kept of it, and nothing else is."""

from __future__ import annotations

import os
import tempfile
import threading

import numpy as np
import onnx
import pytest

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model import load

from .build import make, noise


def through_a_pipe(path, proto):
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(proto.SerializeToString(),), daemon=True).start()
    return str(path)


def test_large_weights_come_through_a_pipe(tmp_path, cache):
    weight = noise(256, 128)
    proto = make([("MatMul", ["x", "w"], ["y"])], {"x": (1, 256)}, ["y"], {"w": weight})
    for name in ("first", "second"):  # prepared, and found in the cache
        model = load(through_a_pipe(tmp_path / name, proto), cache=cache)
        assert np.array_equal(model.store.read("w"), weight)


def test_what_comes_through_a_pipe_has_no_folder_with_data(tmp_path, cache):
    proto = make([("Add", ["x", "w"], ["y"])], {"x": (1024,)}, ["y"], {"w": noise(1024)})
    with tempfile.TemporaryFile() as other:
        other.write(bytes(4096))
        other.flush()
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=str(other.fileno()))  # beside it, where descriptors are
        with pytest.raises(ModelError, match="a link leads out of it"):
            load(through_a_pipe(tmp_path / "pipe", proto), cache=cache)
