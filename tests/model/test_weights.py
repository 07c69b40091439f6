"""Reading a region of a weight equals reading all of it and slicing; it touches little more than that region."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.core.region import Region
from flexpie_mpi.model import weights as module
from flexpie_mpi.model.weights import (
    StoredTensor,
    WeightStore,
    byte_length,
    digest_bytes,
    digest_of,
    dtype_name,
    mapped,
)

PAD = 13  # weights inside an .onnx file begin at any byte


def stored(folder: Path, array: np.ndarray) -> StoredTensor:
    tensor = numpy_helper.from_array(array)
    path = folder / "weights.bin"
    path.write_bytes(b"?" * PAD + tensor.raw_data + b"?" * PAD)
    return StoredTensor(tensor.data_type, array.shape, path, PAD, len(tensor.raw_data))


@st.composite
def boxes(draw):
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    bounds = []
    for extent in shape:
        lo = draw(st.integers(0, extent))
        bounds.append((lo, draw(st.integers(lo, extent))))
    return shape, Region(tuple(bounds))


@given(boxes(), st.sampled_from([(8, 64), (64, 16), (1, 1), (1 << 20, 1 << 20)]))
@settings(max_examples=150, deadline=None)
def test_any_box_equals_a_slice_of_the_whole(tmp_path_factory, box, sizes):
    shape, region = box
    array = np.arange(np.prod(shape, dtype=int), dtype="int32").reshape(shape)
    store = WeightStore({"w": stored(tmp_path_factory.mktemp("w"), array)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_RUN_BYTES", sizes[0])
        patch.setattr(module, "_BLOCK_BYTES", sizes[1])
        part = store.read("w", region)
    assert part.flags.c_contiguous
    assert np.array_equal(part, array[region.slices(Region.full(shape))])
    assert np.array_equal(store.read("w"), array)


@pytest.mark.parametrize(
    "dtype",
    [
        *("float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
        *("bool", "complex64", "complex128"),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4),
        *(ml_dtypes.float4_e2m1fn,),
    ],
)
def test_every_element_type(tmp_path, dtype):
    array = (np.arange(15) % 3).reshape(3, 5).astype(dtype)
    tensor = stored(tmp_path, array)
    part = WeightStore({"w": tensor}).read("w", Region(((1, 3), (2, 5))))
    assert part.dtype == array.dtype
    assert np.array_equal(part, array[1:3, 2:5])
    assert byte_length(tensor.data_type, array.shape) == tensor.length
    assert dtype_name(tensor.data_type) == array.dtype.name


def test_reading_a_slice_reads_little_else(tmp_path):
    array = np.zeros((64, 8192), "float32")
    tensor = stored(tmp_path, array)
    read = 0

    class Counting:
        def __init__(self, path: Path) -> None:
            self.file = path.open("rb", buffering=0)

        def seek(self, place: int) -> None:
            self.file.seek(place)

        def readinto(self, view: memoryview) -> int:
            nonlocal read
            read += len(view)
            return self.file.readinto(view)

    part = module._read(Counting(tensor.path), tensor, Region(((0, 64), (0, 2048))))
    assert read == part.nbytes


def test_digest_is_of_type_shape_and_content(tmp_path):
    array = np.arange(6, dtype="float32").reshape(2, 3)
    raw = array.tobytes()
    digest = digest_of(stored(tmp_path, array))
    assert digest == digest_bytes(1, (2, 3), raw)
    others = {digest_bytes(1, (3, 2), raw), digest_bytes(6, (2, 3), raw), digest_bytes(1, (2, 3), raw[::-1])}
    assert len(others | {digest}) == 4


def test_a_file_that_became_shorter_or_vanished_is_named(tmp_path):
    tensor = stored(tmp_path, np.zeros((4, 4), "float32"))
    store = WeightStore({"w": tensor})
    tensor.path.write_bytes(b"short")
    with pytest.raises(ModelError, match=r"'w' cannot be read from .*too early"):
        store.read("w")
    tensor.path.unlink()
    with pytest.raises(ModelError, match="'w' cannot be read from"):
        store.read("w", Region(((0, 1), (0, 1))))


def test_strings_have_no_byte_length():
    assert byte_length(helper.np_dtype_to_tensor_dtype(np.dtype(object)), (3,)) is None
    assert dtype_name(helper.np_dtype_to_tensor_dtype(np.dtype(object))) == "string"


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (3,), (2, 700, 5), (0, 4)])
def test_a_map_is_the_tensor(tmp_path, dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    found = mapped(stored(tmp_path, array))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert not found.size or not found.flags.writeable


def test_maps_keep_no_file_open(tmp_path):
    tensor = stored(tmp_path, np.arange(5000, dtype=np.float32))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = os.dup(0)  # the lowest number that is free
    os.close(opened)
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 3, hard))
    try:
        maps = [mapped(tensor) for _ in range(20)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(found[-1] == 4999 for found in maps)


def test_a_map_of_a_file_that_became_shorter_or_vanished_is_refused(tmp_path):
    tensor = stored(tmp_path, np.zeros(5000, np.float32))
    tensor.path.write_bytes(b"")
    with pytest.raises(ModelError, match="ends too early"):
        mapped(tensor)
    tensor.path.unlink()
    with pytest.raises(ModelError, match=r"weights\.bin"):
        mapped(tensor)
