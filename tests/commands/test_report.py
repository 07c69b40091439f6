"""The verb ``report``: a page with its pictures, numbers for scripts, mistakes in one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from random import Random

import pytest

from flexpie_mpi.suite.results import append_results
from tests.launch import LIMIT_S
from tests.report import rows


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results in two files: two planners of one cell, and more of another."""
    folder = tmp_path_factory.mktemp("results")
    append_results(folder / "one.jsonl", rows.cell(Random(0), "builtin:resnet18", "pi4x4", 4, ("auto", "fused")))
    append_results(
        folder / "two.jsonl", rows.cell(Random(1), "builtin:resnet18", "pi4x2", 2, ("auto", "rows", "single"))
    )
    return folder / "one.jsonl", folder / "two.jsonl"


def test_report_writes_a_page_with_its_pictures(here, results, tmp_path):
    folder, record = tmp_path / "deep" / "report", tmp_path / "record.json"
    code, out, err = here("report", *results, "--output", folder, "--json", record)
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert "gain" in out and "worst" in out and "report" in out and "error    predicted: median" in out
    page = (folder / "README.md").read_text()
    named = set(re.findall(r'(?:srcset|src)="([^"]+)"', page))
    stems = {name.removesuffix(".png").removesuffix("-dark") for name in named}
    expected = {f"{stem}{dark}.{kind}" for stem in stems for dark in ("", "-dark") for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == {"README.md", *expected} and named < expected
    for name in expected:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml") and len(content) > 5000
    assert json.loads(record.read_text())["provenance"]["sources"] == [str(path) for path in results]


def test_mistakes_are_one_sentence(here, results, tmp_path):
    empty, other = tmp_path / "empty.jsonl", tmp_path / "other.jsonl"
    empty.touch()
    other.write_text("no row\n")
    folder = tmp_path / "report"
    mistakes = (
        (["--output", folder], "report needs to know on what"),
        ([results[0]], "give --output DIR"),
        ([tmp_path / "missing.jsonl", "--output", folder], "missing.jsonl"),
        ([other, "--output", folder], "line 1 is not JSON"),
        ([empty, "--output", folder], "there are no rows in"),
        ([results[0], results[0], "--output", folder], "the same results"),
        ([results[0], "--output", other], "other.jsonl"),
        ([results[0], "--output", folder, "--json", tmp_path / "nowhere" / "x.json"], "no folder"),
    )
    for words, expected in mistakes:
        code, out, err = here("report", *words)
        assert (code, out) == (2, "") and expected in err and len(err.splitlines()) == 1, (words, err)
    assert not folder.exists()


def test_without_matplotlib_a_sentence_says_what_to_install(results, tmp_path):
    program = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['mpi4py'] = None\n"
        "import flexpie_mpi.report.gains, flexpie_mpi.report.theme, flexpie_mpi.report.run\n"
        "from flexpie_mpi.__main__ import main\n"
        "sys.exit(main(['report', *sys.argv[1:]]))\n"
    )
    words = [sys.executable, "-c", program, str(results[0]), "--output", str(tmp_path / "report")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "drawing needs matplotlib: pip install 'flexpie-mpi[plots]'" in done.stderr
