"""A feature is one row of a table: it is trained on, kept in the file, and asked for in predictions."""

from __future__ import annotations

import numpy as np

from flexpie_mpi.cost.features import COMPUTE, Feature, features_of
from flexpie_mpi.cost.file import load_cost, save_cost
from flexpie_mpi.cost.fit import fit
from tests.cost import laws


def test_a_feature_is_one_row_of_the_table(monkeypatch, tmp_path):
    """Maps that are not square, which no other column says by itself."""
    monkeypatch.setitem(COMPUTE, "aspect", Feature(0, lambda d: d["out_columns"] / np.maximum(d["out_rows"], 1)))
    cost = fit(laws.traces(rows=300))
    work = laws.work(50, np.random.default_rng(1))
    columns = features_of("compute", work, np.ones(50), cost.prior, cost.ops)
    assert np.array_equal(columns[:, -1], work["out_columns"] / work["out_rows"])
    assert cost.forests["compute"].columns == len(COMPUTE) == columns.shape[1]
    save_cost(cost, tmp_path / "cost.json")
    again = load_cost(tmp_path / "cost.json")
    assert np.array_equal(again.compute_s(work, np.ones(50)), cost.compute_s(work, np.ones(50)))
