"""Fitting: true laws are found again, held-out rows are held out, a file brings back the same model."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi.core.errors import CostError
from flexpie_mpi.cost import fit as fitting
from flexpie_mpi.cost.features import FEATURES
from flexpie_mpi.cost.file import _digest, load_cost, save_cost
from flexpie_mpi.cost.fit import evaluate, fit
from flexpie_mpi.cost.learned import Errors, Ranges, spearman
from flexpie_mpi.cost.rows import COMPUTE_TRACE
from flexpie_mpi.cost.samples import folds, samples, usable
from flexpie_mpi.cost.traces import Origin, Traces, merged
from tests.cost import laws

FACTORS = (1.0, 2.5)


@pytest.fixture(scope="module")
def traces() -> Traces:
    return laws.traces(factors=FACTORS)


@pytest.fixture(scope="module")
def cost(traces):
    return fit(traces)


@pytest.fixture(scope="module")
def errors(traces):
    return evaluate(traces, 3)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def _median_error(predicted, true):
    return np.median(np.abs(predicted / true - 1))


def test_the_law_is_found_again(cost, rng):
    done, called, moved, one = laws.work(500, rng), laws.calls(500, rng), laws.transfers(500, rng), np.ones(500)
    assert _median_error(cost.compute_s(done, one), laws.kernels_s(done, one)) < 0.04
    assert _median_error(cost.compute_s(done, 2 * one), laws.kernels_s(done, 2 * one)) < 0.04
    assert _median_error(cost.call_s(called, one), laws.calls_s(called)) < 0.03
    assert _median_error(cost.exchange_s(moved), laws.transfers_s(moved)) < 0.03


def test_trees_add_to_the_formula(cost, rng):
    done, one = laws.work(500, rng), np.ones(500)
    true = laws.kernels_s(done, one)
    assert _median_error(cost.compute_s(done, one), true) < 0.5 * _median_error(cost.prior.compute_s(done, one), true)


def test_channels_that_nobody_measured_extrapolate(cost, rng):
    done, one = laws.work(400, rng, channels=(40, 72, 144, 288, 384)), np.ones(400)
    assert _median_error(cost.compute_s(done, one), laws.kernels_s(done, one)) < 0.08


def test_devices_are_told_apart_and_seconds_are_the_fastest_one_s(cost, traces):
    assert [device.factor for device in cost.devices] == pytest.approx(FACTORS, rel=0.03)
    assert cost.device_factor(traces.origins[1]) == pytest.approx(2.5, rel=0.03)
    assert cost.device_factor(Origin("job", 0, cpu="unknown")) is None
    assert cost.models == ("made up",)


def test_held_out_errors_are_those_of_unseen_combinations(errors):
    compute = errors["compute"]
    rows = compute.overall.rows
    assert 1000 < rows <= 1200 and compute.combinations > 100
    assert compute.overall.median < 0.06 and compute.overall.p90 < 0.2 and compute.overall.rank > 0.99
    assert sum(each.rows for each in compute.by_label.values()) == rows and set(compute.by_label) == {
        op.decode() for op in laws.OPS
    }
    assert sum(each.rows for each in compute.by_length.values()) == rows and "from 1 ms" in compute.by_length
    assert len(compute.by_device) == 2 and sum(each.rows for each in compute.by_device.values()) == rows
    assert errors["exchange"].overall.median < 0.05 and set(errors["exchange"].by_label) == {
        "halo", "scatter", "gather", "full"
    }  # fmt: skip


def test_nothing_of_a_group_is_seen_when_it_is_held_out(monkeypatch, traces):
    """Kernels of one group take a million times as long: only a model that has seen some of them could know."""
    rows = traces.tables["compute"].copy()
    odd = (rows["op"] == b"Conv") & (rows["in_channels"] == 64) & (rows["out_channels"] == 64)
    rows["seconds"][odd] *= 1e6
    seen = []
    predicted = fitting._predicted

    def watched(table, lessons, test):
        kept = lessons.samples[table]
        seen.append(set(map(tuple, kept.rows[["op", "in_channels", "out_channels"]].tolist())))
        seen[-1] &= set(map(tuple, test.rows[["op", "in_channels", "out_channels"]].tolist()))
        return predicted(table, lessons, test)

    monkeypatch.setattr(fitting, "_predicted", watched)
    found = evaluate(Traces({"compute": rows}, traces.origins), 3)["compute"]
    assert seen == [set()] * 3 and odd.any()
    assert found.overall.total < -0.5 and found.overall.median < 0.08


def test_what_is_far_from_the_measurements_is_flagged(cost, rng):
    done = laws.work(100, rng)
    assert not cost.outside(done).any()
    odd = done[:4].copy()
    odd["op"][0], odd["flops"][1], odd["out_rows"][2] = b"Einsum", 1e13, 2000
    assert cost.outside(odd).tolist() == [True, True, True, False]
    moved = laws.transfers(3, rng)
    moved["kind"][0], moved["port_bytes"][1] = b"local", 1e10
    assert cost.outside(moved).tolist() == [True, True, False]
    assert not cost.outside(laws.calls(20, rng)).any()


def test_ranges_reach_twice_as_far_as_what_was_seen():
    rows = np.zeros(2, laws.WORK)
    rows["op"], rows["flops"] = b"Conv", [10, 100]
    ranges, asked = Ranges.of("compute", rows), np.zeros(4, laws.WORK)
    asked["op"], asked["flops"] = b"Conv", [4.9, 5, 200, 201]
    assert ranges.outside(asked).tolist() == [True, False, False, True]


def test_a_file_brings_back_the_same_model(cost, errors, rng, tmp_path):
    cost, path = replace(cost, held_out=errors), tmp_path / "cost.json"
    save_cost(cost, path)
    found = load_cost(path)
    assert found == cost
    done, one = laws.work(300, rng), np.ones(300)
    assert np.array_equal(found.compute_s(done, one), cost.compute_s(done, one))
    assert np.array_equal(found.exchange_s(laws.transfers(9, rng)[:0]), np.zeros(0))
    assert set(cost.forests) <= set(json.loads(path.read_text())["forests"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record | {"format": "something else"}, "holds no cost model"),
        (lambda record: [record], "holds no cost model"),
        (lambda record: record | {"version": 9}, "version 9"),
        (lambda record: record | {"models": ["other"]}, "damaged or was edited"),
        (lambda record: {key: value for key, value in record.items() if key != "digest"}, "damaged or was edited"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_a_sentence(cost, tmp_path, change, words):
    path = tmp_path / "cost.json"
    save_cost(cost, path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CostError, match=words) as caught:
        load_cost(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def replaced(record: dict, place: str, value: object) -> dict:
    """A record in which something has another value, and the digest that such a file would have."""
    changed = json.loads(json.dumps(record))
    *above, last = place.split(".")
    inner = changed
    for key in above:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[last] = value
    content = {key: each for key, each in changed.items() if key not in ("format", "version", "digest")}
    return changed | {"digest": _digest(content)}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("prior.crowding", "1", "'crowding' is '1', which is no float"),
        ("prior.crowding", 1e9, "'crowding' is 1000000000.0"),
        ("prior.kernels", {}, "has no constants of 'any'"),
        ("prior.kernels.any.flops_per_s", 0, "the constant 'flops_per_s' is 0"),
        ("prior.kernels.any.overhead_s", -1, "the constant 'overhead_s' is -1"),
        ("prior.call.call_s", 1e300, "the constant 'call_s' is 1e[+]300"),
        ("prior.exchange.full_s", None, "which is no float"),
        ("prior.exchange.more_s", 1, "and no others"),
        ("ops", ["Conv\n"], r"no operator is called 'Conv\\n'"),
        ("ops", ["x" * 99], "no operator is called"),
        ("ops", {"Conv": 1}, "'ops' is"),
        ("devices.0.factor", 0, "a device is 0"),
        ("devices.0.threads", True, "which is no int"),
        ("ranges.compute.columns", ["flops"], "the ranges of 'compute' are of other columns"),
        ("ranges.compute.bounds", {"Conv": [[1], [2]]}, "bounds of other columns"),
        ("ranges.compute.label", "kind", "no table 'compute' to have ranges"),
        ("held_out", {"compute": {}}, "lacks the field 'combinations'"),
        ("forests.compute", "tree\n", "the text of the forest is cut off"),
        ("forests.compute", 3, "'forests' is 3, which is no str"),
        ("forests.plan", "tree\n", "no table 'plan' to have a forest"),
        ("features", {}, "does not name the features of 'compute'"),
        ("features.compute", ["op"], "the forest of 'compute' was trained on other features than this version has"),
        ("features.compute", 3, "'features' is 3"),
        ("forests.call", "tree\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=2\nend of trees\n", "of 8"),
        ("provenance", [], "'provenance' is"),
    ],
)
def test_every_number_of_a_file_is_looked_at(cost, tmp_path, place, value, words):
    path = tmp_path / "cost.json"
    save_cost(cost, path)
    path.write_text(json.dumps(replaced(json.loads(path.read_text()), place, value)))
    with pytest.raises(CostError, match=words) as caught:
        load_cost(path)
    assert str(caught.value).isprintable() and str(path) in str(caught.value)


def renamed(features, old, new):
    return {new if name == old else name: feature for name, feature in features.items()}


def turned(features):
    return dict(reversed(features.items()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda features: renamed(features, "overlap", "overlapping"), "this version has: no column 'overlapping'"),
        (lambda features: {**features, "zeros": features["overlap"]}, "this version has: no column 'zeros'"),
        (lambda features: dict(list(features.items())[:-1]), "this version has: an unknown column 'crowd'"),
        (turned, "this version has: columns in another order"),
    ],
)
def test_a_file_of_other_features_is_refused_even_if_they_are_as_many(cost, tmp_path, monkeypatch, change, words):
    path = tmp_path / "cost.json"
    save_cost(cost, path)
    monkeypatch.setitem(FEATURES, "compute", change(FEATURES["compute"]))
    with pytest.raises(CostError, match=words) as caught:
        load_cost(path)
    assert "flexpie-mpi fit" in str(caught.value) and str(path) in str(caught.value)


def test_a_file_from_before_features_had_names_is_refused(cost, tmp_path):
    path = tmp_path / "cost.json"
    save_cost(cost, path)
    record = json.loads(path.read_text()) | {"version": 1}
    content = {key: each for key, each in record.items() if key not in ("format", "version", "digest", "features")}
    path.write_text(json.dumps({"format": record["format"], "version": 1, "digest": _digest(content)} | content))
    with pytest.raises(CostError, match="is in version 1 of the format and this program reads 2"):
        load_cost(path)


def test_a_forest_that_multiplies_without_end_is_refused(cost, tmp_path):
    path = tmp_path / "cost.json"
    save_cost(cost, path)
    record = json.loads(path.read_text())
    text = re.sub(r"leaf_value=\S+", "leaf_value=1e300", record["forests"]["compute"])
    path.write_text(json.dumps(replaced(record, "forests.compute", text)))
    with pytest.raises(CostError, match="multiplies by up to"):
        load_cost(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n", b"[" * 100_000, b"{", None])
def test_a_file_that_is_no_json_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "cost.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CostError, match=re.escape(str(path))) as caught:
        load_cost(path)
    assert "\n" not in str(caught.value)


def test_the_order_of_rows_and_files_does_not_matter_to_the_digest(traces):
    halves = [
        Traces({name: rows[start::2] for name, rows in traces.tables.items()}, traces.origins) for start in (1, 0)
    ]
    assert fitting._digest(merged(*halves)) == fitting._digest(traces)
    assert fitting._digest(halves[0]) != fitting._digest(traces)


def test_repeated_measurements_become_their_median(rng):
    done = np.repeat(laws.work(2, rng), [3, 4])
    rows = laws.traced(COMPUTE_TRACE, done, np.array([5.0, 1.0, 2.0, 1.0, 2.0, 3.0, 9.0]))
    found = samples("compute", rows, (Origin("job", 0),))
    assert found.seconds.tolist() == [2.0, 2.5] and len(found) == 2
    rows["active"][0] = 2
    assert len(samples("compute", rows, (Origin("job", 0),))) == 3


def test_rows_that_were_not_measured_are_left_out(rng):
    rows = laws.traced(COMPUTE_TRACE, laws.work(5, rng), np.array([1.0, 0.0, -1.0, np.nan, np.inf]))
    rows["spread_s"] = np.nan
    assert usable(rows).tolist() == [True, False, False, False, False]
    rows["flops"][0] = np.nan
    assert not usable(rows).any()


def test_nothing_to_fit_is_refused_and_a_little_gives_a_formula(rng):
    with pytest.raises(CostError, match="no usable time of a kernel"):
        fit(Traces())
    done = laws.work(12, rng)
    few = Traces({"compute": laws.traced(COMPUTE_TRACE, done, laws.kernels_s(done, np.ones(12)))}, (Origin("job", 0),))
    cost = fit(few)
    assert not cost.forests and np.array_equal(
        cost.compute_s(done, np.ones(12)), cost.prior.compute_s(done, np.ones(12))
    )
    assert cost.outside(laws.transfers(3, rng)).all() and (cost.exchange_s(laws.transfers(3, rng)) > 0).all()
    assert _median_error(cost.compute_s(done, np.ones(12)), laws.kernels_s(done, np.ones(12))) < 0.4


def test_folds_keep_groups_whole_and_are_of_about_one_size(rng):
    group = rng.integers(0, 40, 500)
    fold = folds(group, 5)
    assert all(len(set(fold[group == name])) == 1 for name in set(group))
    assert np.bincount(fold).min() > 80 and np.array_equal(fold, folds(group, 5))


def test_errors_are_shares_of_what_was_measured():
    found = Errors.of(np.array([1.1, 2.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert (found.rows, found.median) == (3, pytest.approx(0.1)) and found.total == pytest.approx(5.1 / 7 - 1)
    assert spearman(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert spearman(np.ones(3), np.ones(3)) == 0
    assert spearman(np.array([1.0, 1, 2]), np.array([5.0, 5, 7])) == pytest.approx(1)
