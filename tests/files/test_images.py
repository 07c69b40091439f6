"""Pictures: pixels at the right places, in the right range, or a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files.inputs import load_inputs

from .graphs import graph_of

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
"""(H, W, C) = (5, 7, 3): no two extents alike, so that a swapped axis shows."""


def stored(folder: Path, name: str = "x.png", pixels: np.ndarray = PIXELS) -> str:
    Image.fromarray(pixels).save(folder / name)
    return str(folder / name)


def loaded(path: str, shape: tuple[int, ...], dtype: str = "float32", **options: object) -> np.ndarray:
    return load_inputs([path], graph_of(x=(dtype, shape)), **options)["x"]


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.ppm", "x.PNG"])
@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (3, 5, 7), (1, 5, 7, 3), (5, 7, 3)])
def test_every_pixel_at_its_place(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    found = loaded(stored(tmp_path, name), shape, scale=1)
    expected = PIXELS if shape[-1] == 3 else np.moveaxis(PIXELS, -1, 0)
    np.testing.assert_array_equal(found, expected.reshape(shape).astype(np.float32))


@pytest.mark.parametrize("name", ["x.jpg", "x.jpeg", "x.webp"])
def test_lossy_formats(tmp_path: Path, name: str) -> None:
    grey = np.full((16, 16, 3), 200, dtype=np.uint8)
    assert abs(loaded(stored(tmp_path, name, grey), (1, 3, 16, 16), scale=1) - 200).max() <= 3


def test_default_is_zero_to_one(tmp_path: Path) -> None:
    found = loaded(stored(tmp_path), (1, 5, 7, 3))
    np.testing.assert_allclose(found[0], PIXELS / 255, rtol=1e-6)


def test_mean_and_scale_per_channel(tmp_path: Path) -> None:
    mean, scale = [123.7, 116.3, 103.5], [1 / 58.4, 1 / 57.1, 1 / 57.4]
    expected = (PIXELS - np.array(mean)) * np.array(scale)
    path = stored(tmp_path)
    np.testing.assert_allclose(loaded(path, (1, 5, 7, 3), mean=mean, scale=scale)[0], expected, rtol=1e-5)
    first = loaded(path, (1, 3, 5, 7), mean=mean, scale=scale)
    np.testing.assert_allclose(np.moveaxis(first[0], 0, -1), expected, rtol=1e-5)


def test_one_mean_for_all_channels(tmp_path: Path) -> None:
    found = loaded(stored(tmp_path), (1, 5, 7, 3), mean=[128], scale=[0.5])
    np.testing.assert_array_equal(found[0], (PIXELS - 128.0) * 0.5)


def test_raw_pixels_for_uint8(tmp_path: Path) -> None:
    found = loaded(stored(tmp_path), (1, 5, 7, 3), "uint8")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], PIXELS)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floats(tmp_path: Path, dtype: str) -> None:
    found = loaded(stored(tmp_path), (1, 5, 7, 3), dtype, scale=1)
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(found[0], PIXELS)


def test_grey_and_transparent(tmp_path: Path) -> None:
    grey = np.full((4, 4, 3), 90, dtype=np.uint8)
    path = stored(tmp_path, "grey.png", grey)
    np.testing.assert_array_equal(loaded(path, (1, 1, 4, 4), scale=1), np.full((1, 1, 4, 4), 90))
    np.testing.assert_array_equal(loaded(path, (1, 4, 4, 4), scale=1)[0, 3], np.full((4, 4), 255))
    clear = np.dstack([grey, np.zeros((4, 4), dtype=np.uint8)])
    np.testing.assert_array_equal(
        loaded(stored(tmp_path, "clear.png", clear), (1, 3, 4, 4), scale=1)[0, 0], grey[..., 0]
    )


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.array([[0, 0x7F00], [0x8000, 0xFFFF]], dtype=np.uint16)
    found = loaded(stored(tmp_path, "deep.png", deep), (1, 1, 2, 2), scale=1)
    np.testing.assert_array_equal(found[0, 0], [[0, 0x7F], [0x80, 0xFF]])


def test_resized_to_the_models_size(tmp_path: Path) -> None:
    halves = np.zeros((40, 20, 3), dtype=np.uint8)
    halves[:20] = 255
    found = loaded(stored(tmp_path, "x.png", halves), (1, 3, 8, 12))
    assert found.shape == (1, 3, 8, 12)
    np.testing.assert_allclose(found[0, :, :3], 1)
    np.testing.assert_allclose(found[0, :, -3:], 0)


def test_turned_upright(tmp_path: Path) -> None:
    turned = Image.fromarray(PIXELS)
    exif = turned.getexif()
    exif[0x0112] = 3  # taken upside down
    turned.save(tmp_path / "x.png", exif=exif)
    found = loaded(str(tmp_path / "x.png"), (1, 5, 7, 3), "uint8")
    np.testing.assert_array_equal(found[0], PIXELS[::-1, ::-1])


def refused(path: str, shape: tuple[int, ...], dtype: str = "float32", **options: object) -> str:
    with pytest.raises(DataError) as caught:
        loaded(path, shape, dtype, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("shape", [(1, 128), (2, 3, 5, 7), (1, 5, 5, 7), (3,), (), (1, 3, 0, 7), (1, 1, 3, 5, 7)])
def test_inputs_that_take_no_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert f"'x' wants shape {shape}" in refused(stored(tmp_path), shape)


def test_types_that_take_no_picture(tmp_path: Path) -> None:
    assert "'x' wants int64" in refused(stored(tmp_path), (1, 3, 5, 7), "int64")
    assert "of type bfloat16" in refused(stored(tmp_path), (1, 3, 5, 7), "bfloat16")


def test_means_that_do_not_fit(tmp_path: Path) -> None:
    assert "mean has 2 numbers" in refused(stored(tmp_path), (1, 3, 5, 7), mean=[1, 2])
    assert "scale has 4 numbers" in refused(stored(tmp_path), (1, 3, 5, 7), scale=[1, 2, 3, 4])
    assert "mean and scale do not apply" in refused(stored(tmp_path), (1, 3, 5, 7), "uint8", mean=[1])


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.bmp"])
def test_truncated_pictures(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = Path(stored(tmp_path, name, noise))
    whole = path.read_bytes()
    for length in (0, 4, 30, len(whole) // 2, len(whole) * 3 // 4):
        path.write_bytes(whole[:length])
        assert "cannot be read as a picture" in refused(str(path), (1, 3, 40, 40))


def test_only_the_listed_formats_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path, format="TIFF")
    assert "cannot be read as a picture" in refused(str(path), (1, 3, 5, 7))
