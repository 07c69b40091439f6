"""The verb ``fit``: a file that loads, tables that fit, mistakes in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from flexpie_mpi.cost.file import load_cost
from flexpie_mpi.cost.traces import Traces
from tests.cost import laws
from tests.launch import LIMIT_S


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Traces in two files."""
    whole, folder = laws.traces(rows=500, factors=(1.0, 3.0)), tmp_path_factory.mktemp("traces")
    paths = [folder / "one.h5", folder / "two.h5"]
    for start, path in enumerate(paths):
        Traces({name: rows[start::2] for name, rows in whole.tables.items()}, whole.origins).write(path)
    return paths


def test_fit_writes_a_model_and_says_how_good_it_is(here, halves, tmp_path):
    path, json_path = tmp_path / "cost.json", tmp_path / "record.json"
    code, out, err = here("fit", *halves, "--output", path, "--json", json_path, "-v")
    cost, record = load_cost(path), json.loads(json_path.read_text())
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert all(word in out for word in ("made up", "compute", "exchange", "MatMul", "halo", "median", "rank", "x 1.00"))
    assert record["held_out"]["compute"]["overall"]["median"] == cost.held_out["compute"].overall.median < 0.1
    assert record["provenance"]["rows"]["compute"]["measured"] == 500 and "forests" not in record
    assert (cost.compute_s(laws.work(10, np.random.default_rng(0)), np.ones(10)) > 0).all()


def test_a_record_alone_on_stdout(here, tmp_path):
    path = tmp_path / "few.h5"
    whole = laws.traces(rows=60)
    Traces({"compute": whole.tables["compute"][:20]}, whole.origins).write(path)
    code, out, _ = here("fit", path, "--output", tmp_path / "cost.json", "--json", "-")
    record = json.loads(out)
    assert code == 0 and record["trees"] == {} and len(record["notes"]) == 3


def test_mistakes_are_one_sentence(here, halves, tmp_path):
    empty, other = tmp_path / "empty.h5", tmp_path / "other.h5"
    Traces().write(empty)
    other.write_text("no traces")
    cost = tmp_path / "cost.json"
    mistakes = (
        ([tmp_path / "missing.h5", "--output", cost], "missing.h5"),
        ([other, "--output", cost], "other.h5"),
        ([empty, "--output", cost], "no usable time of a kernel"),
        ([halves[0], "--output", tmp_path / "nowhere" / "cost.json"], "no folder"),
        ([halves[0], "--output", halves[0]], "traces that are to be read"),
        ([halves[0], halves[0], "--output", cost], "the same traces"),
        ([halves[0], "--output", cost, "--json", cost], "two different files"),
    )
    for words, expected in mistakes:
        code, out, err = here("fit", *words)
        assert (code, out) == (2, "") and expected in err and len(err.splitlines()) == 1, (words, err)
    assert not cost.exists() and Traces.read(halves[0]).origins


def test_fit_needs_no_mpi(tmp_path):
    whole, path = laws.traces(rows=60), tmp_path / "few.h5"
    Traces({"compute": whole.tables["compute"][:20]}, whole.origins).write(path)
    program = (
        "import sys; sys.modules['mpi4py'] = None; sys.modules['onnxruntime'] = None\n"
        "from flexpie_mpi.__main__ import main\n"
        "sys.exit(main(['fit', sys.argv[1], '--output', sys.argv[2]]))\n"
    )
    words = [sys.executable, "-c", program, str(path), str(tmp_path / "cost.json")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
