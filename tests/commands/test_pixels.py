"""Pictures of ``infer``: sent as pixels where all requests are pictures, with the results of numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from flexpie_mpi import Plan, load
from flexpie_mpi.core.budget import Budget
from flexpie_mpi.core.graph import Value
from flexpie_mpi.files.images import read_image
from tests.arrays import read_hdf5, read_provenance

TINY = "builtin:tiny_cnn"
MEAN, SCALE = [123.675, 116.28, 103.53], [0.0171, 0.0175, 0.0174]
NORMALISED = ["--mean", ",".join(map(str, MEAN)), "--scale", ",".join(map(str, SCALE))]


@pytest.fixture
def photos(tmp_path):
    """Three pictures of a size of their own, and the first as the numbers that it stands for."""
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photo{number}.png")
    graph = load(TINY).graph
    value: Value = graph.value(graph.inputs[0])
    numbers = read_image(tmp_path / "photo0.png", value, MEAN, SCALE, Budget.of_machine())
    np.save(tmp_path / "numbers.npy", numbers)
    return tmp_path


def scattered(path) -> int:
    """Bytes of the first exchange of a run."""
    return json.loads(path.read_text())["plan_facts"]["segments"][0]["exchange"]["bytes"]


@pytest.mark.mpi
def test_a_picture_is_a_quarter_of_its_numbers_to_send_and_gives_their_outputs(job, photos):
    words = ["infer", "--model", TINY, "--repeat", 1, "--verify"]
    runs = {
        "pixels": ["--input", photos / "photo0.png", *NORMALISED, "--layout", "rows", "--save-plan", photos / "p.json"],
        "numbers": ["--input", photos / "numbers.npy", "--layout", "rows"],
        "planned": ["--input", photos / "photo0.png", *NORMALISED, "--plan", photos / "p.json"],
    }
    for name, asked in runs.items():
        done = job(3, *words, *asked, "--json", photos / f"{name}.json", "--output", photos / f"{name}.h5")
        assert done.code == 0 and "verify   equal" in done.out, done
    assert scattered(photos / "pixels.json") == scattered(photos / "planned.json")
    assert scattered(photos / "numbers.json") == 4 * scattered(photos / "pixels.json") > 0
    scores = {name: read_hdf5(photos / f"{name}.h5")["scores"].tobytes() for name in runs}
    assert scores["pixels"] == scores["numbers"] == scores["planned"]
    digests = {read_provenance(photos / f"{name}.h5")["model_digest"] for name in runs}
    assert digests == {load(TINY).graph.digest} == {Plan.from_json((photos / "p.json").read_text()).model}


@pytest.mark.mpi
def test_a_stream_of_pictures_goes_on_with_numbers(job, photos):
    words = ["infer", "--model", TINY, "--layout", "rows", "--verify", "--output", photos / "out.h5"]
    done = job(2, *words, "--input", photos / "photo*.png", *NORMALISED)
    assert done.code == 0 and "verify   " in done.out, done
    done = job(2, *words, "--append", "--requests", 1, "--input", photos / "numbers.npy")
    assert done.code == 0, done
    scores = read_hdf5(photos / "out.h5")["scores"]
    assert len(scores) == 4 and scores[0].tobytes() == scores[3].tobytes() != scores[1].tobytes()


def test_a_mean_that_does_not_fit_is_said_as_ever(one, photos):
    code, _, err = one("infer", "--model", TINY, "--input", photos / "photo0.png", "--mean", "1,2")
    assert code == 2 and "mean has 2 numbers" in err
