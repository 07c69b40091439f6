"""The placement bench counts as the paper's code does, draws the same boards again, and makes its page."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from math import inf

import numpy as np
import pytest
from published import PUBLISHED, published_artefact
from trials import append_trials, has_trials, read_trials

from flexpie_mpi.placement.baselines import min_sum

from ..launch import LIMIT_S, REPOSITORY, environment

BENCH = REPOSITORY / "bench" / "placement"


@pytest.fixture(scope="module")
def bench():
    """The modules of the bench, which stand beside its script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield {name: import_module(name) for name in ("boards", "networks", "studies", "trying")}


def chosen(bench, model, accounting, level):
    """Sizes of the cuts of the least sum, in Mbit, on 50 boards of `level` MiB."""
    row = bench["networks"].network(model, accounting)
    memory = level * 2**20
    cuts = min_sum(bench["boards"].instance(row, 50, (memory,), (0, 0)), range(50), memory)
    return [round(float(row.crossing[cut]) * 8 / row.megabit, 2) for cut in cuts[1:-1]]


PLANS = {
    ("MobileNetV2", 64): [0.53],
    ("EfficientNetB1", 64): [3.66, 0.76],
    ("EfficientNetB1", 128): [0.76],
    ("ResNet50", 64): [17.01, 17.01, 4.25],
    ("ResNet50", 128): [8.51],
    ("InceptionResNetV2", 64): [14.46, 16.62, 16.62, 13.33, 13.33, 5.64],
    ("InceptionResNetV2", 128): [16.62, 13.33],
    ("InceptionResNetV2", 256): [13.33],
    ("ResNet50", 256): [],
    ("InceptionResNetV2", 512): [],
}
"""Sizes of cuts that the published code chooses, in Mbit."""


@pytest.mark.parametrize(("model", "level"), PLANS)
def test_as_coded_chooses_the_published_cuts(bench, model, level):
    assert chosen(bench, model, "as-coded", level) == PLANS[model, level]


def test_corrected_charges_every_layer_and_sends_a_tensor_once(bench):
    table = bench["networks"].points("ResNet50")
    coded, corrected = (bench["networks"].network("ResNet50", name) for name in ("as-coded", "corrected"))
    elements, consumers, parameters, activations = table[7]
    assert coded.crossing[8] == pytest.approx(consumers * elements * 8 / 1.44) and corrected.crossing[8] == 4 * elements
    assert corrected.need_bytes[7, 8] == 4 * (parameters + activations) and coded.need_bytes[7, 8] == 0
    whole = corrected.need_bytes[0, -1]
    assert whole == pytest.approx(4 * table[:, 2:].sum())
    assert all(corrected.need_bytes[0, cut] + corrected.need_bytes[cut, -1] == whole for cut in range(1, 41))
    lost = coded.need_bytes[0, -1] - coded.need_bytes[0, 8] - coded.need_bytes[8, -1]
    assert lost == parameters * 0 + table[8, 2] + 4 * table[8, 3]


def test_boards_are_as_fast_as_the_paper_says_and_the_same_for_all(bench):
    rates = [bench["boards"].bandwidths(20, (1, seed)) for seed in range(100)]
    upper = np.triu_indices(20, 1)
    found = np.array([rate[upper] for rate in rates])
    assert found.mean() == pytest.approx(6.05, abs=0.2)
    assert found.min(axis=1).mean() == pytest.approx(3.5, abs=0.2)
    assert found.max(axis=1).mean() == pytest.approx(13.6, abs=0.8)
    rows = [bench["networks"].network(*which) for which in (("ResNet50", "corrected"), ("MobileNetV2", "corrected"))]
    one, other = (bench["boards"].instance(row, 6, (2**26,), (7, 7)) for row in rows)
    assert (one.resource_s == other.resource_s).all() and one.routes == other.routes
    levels = set(bench["boards"].capacities(50, (1, 2, 3), (7, 7)).tolist())
    assert levels == {1.0, 2.0, 3.0}


def test_computing_takes_what_its_ratio_says(bench):
    row = bench["networks"].network("builtin:tiny_cnn", "corrected")
    found = bench["boards"].instance(row, 5, (2**30,), (3, 3), computing=2.0)
    mean_s = row.crossing[1:-1].mean() / np.mean(1 / found.resource_s)
    speeds = 2.0 * mean_s / found.compute_s[:, 0, -1]
    assert set(np.round(speeds, 9)) <= {1.0, 0.5, 0.25}
    assert found.compute_s[0, 0, 3] + found.compute_s[0, 3, row.units] == pytest.approx(found.compute_s[0, 0, -1])


def test_a_trial_comes_out_alike_from_its_line(bench, tmp_path):
    about = {"versions": {}, "machine": "m", "date": "2026-01-01"}
    cells = [
        bench["studies"].cells("memory")[0],
        bench["studies"].cells("sizes")[3],
        bench["studies"].Cell("paper", "as-coded", "InceptionResNetV2", 5, (64 * 2**20,), 0.0),
    ]
    solvers = ("random", "greedy", "kpath", "capacity-greedy", "even")
    trials = [bench["trying"].attempt(cell, 3, solvers, 2.0, about) for cell in cells]
    append_trials(tmp_path / "trials.jsonl", trials)
    assert has_trials(tmp_path / "trials.jsonl") and not has_trials(BENCH / "run.py")
    read = read_trials(tmp_path / "trials.jsonl")
    assert list(read) == trials
    assert all(found.seconds == inf and not found.is_found for found in read[2].answers.values())
    for trial in read:
        assert all(then == now for then, now in bench["trying"].again(trial, solvers, 2.0).values())


def test_the_published_headline_is_made_of_zeros():
    assert len(PUBLISHED) == 39 and PUBLISHED["ResNet50", 64, 50] == {"kpath": 1.31, "greedy": 1.31, "random": 7.97}
    found = published_artefact()
    assert (found.cells, found.zeros) == (5, 3)
    assert found.with_zeros.less_than_greedy == pytest.approx(0.35, abs=0.003)
    assert found.with_zeros.random_times == pytest.approx(10.5, abs=0.1)
    assert found.without.less_than_greedy == pytest.approx(-0.04, abs=0.005)
    assert found.without.random_times == pytest.approx(6.6, abs=0.1)


def test_the_quick_run_makes_a_page(tmp_path):
    words = [str(BENCH / "run.py"), "--quick", "--trials", "1", "--studies", "sizes", "--output", "t.jsonl"]
    done = subprocess.run(
        [sys.executable, *words, "--report", "page"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Tensors of different size" in (tmp_path / "page" / "README.md").read_text()
    assert len(read_trials(tmp_path / "t.jsonl")) == 6
