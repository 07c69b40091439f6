"""Suites, on the ranks of a job and on boards that something builds."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager

import pytest

from flexpie_mpi import Plan, load
from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.cost.file import save_cost
from flexpie_mpi.cost.learned import LearnedCost
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.traces import Traces
from flexpie_mpi.emulate.system import check_system
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.facts import facts_of
from flexpie_mpi.lower.memory import memory_of
from flexpie_mpi.session import suite_boards
from flexpie_mpi.suite.results import read_results

TINY = "builtin:tiny_cnn"
BOARDS = 'topology = "switch"\n[link]\nbandwidth = "1Gb/s"\nlatency = "50us"\n[[device]]\nname = "pi"\ncount = 2\n'
TERMS = "repeats = 3\nwarmup = 1\nseed = 1\n"


@pytest.fixture(scope="module")
def cost(tmp_path_factory):
    """Formulas alone, in a file."""
    path = tmp_path_factory.mktemp("cost") / "cost.json"
    save_cost(LearnedCost(AnalyticCost()), path)
    return path


@pytest.fixture
def suite(tmp_path):
    """``suite(planners, study)``: path of a suite beside a testbed of two boards."""
    (tmp_path / "two.toml").write_text(BOARDS + "slowdown = 2\n")

    def write(planners, study=""):
        path = tmp_path / "study.toml"
        listed = json.dumps(planners)
        path.write_text(f'planners = {listed}\n{TERMS}[[study]]\nmodels = ["{TINY}"]\n{study}')
        return path

    return write


@pytest.fixture
def bench(one, monkeypatch, tmp_path):
    """``bench(suite, *words)`` in a job of one rank, in this process."""

    def call(path, *words):
        monkeypatch.setenv("PMI_RANK", "0")
        return one("bench", path, "--output", tmp_path / "results.jsonl", *words)

    return call


@pytest.mark.mpi
def test_a_job_of_two_ranks_measures_its_own_hosts(job, suite, cost, tmp_path):
    path = suite(["auto", "rows", "single"], 'testbeds = ["hosts"]\nbatch = [2]\n')
    out = tmp_path / "results.jsonl"
    words = ["bench", path, "--output", out, "--cost", cost]
    done = job(2, *words, "--json", tmp_path / "summary.json")
    assert done.code == 0 and "1 of 1 cell: tiny_cnn/hosts/2/2: auto " in done.err, done
    rows = read_results(out)
    assert [row.planner for row in rows] == ["auto", "rows", "single"]
    model = load(TINY, batch=2)
    for row in rows:
        _check_row(row, model)
    assert f"{TINY} on hosts, 2 ranks, batch 2 (3 rounds)" in done.out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["left"] == 0 and summary["cells"][0]["planners"][0]["ratio"] == 1
    before = out.read_bytes()
    again = job(2, *words)
    assert (again.code, again.err) == (0, "") and out.read_bytes() == before, again


def _check_row(row, model):
    plan = Plan.from_json(json.dumps(row.plan))
    programs = lower(plan, model.graph)
    facts = facts_of(plan, model.graph, programs)
    assert (row.ranks, row.batch, row.repeats, row.warmup, row.turn) == (2, 2, 3, 1, 0)
    assert (row.suite, row.model, row.model_digest, row.testbed) == ("study", TINY, model.graph.digest, "hosts")
    assert row.topology == "measured" and row.bandwidth > 0 and not row.is_emulated and row.testbed_digest
    assert len(row.measured_s) == 3 and min(row.measured_s) > 0
    assert min(row.predicted_s, row.simulated_s, row.planning_s) > 0 and row.flops == facts.flops
    assert row.machine and row.versions["mpi"] and row.cost.endswith("cost.json") and row.date.endswith("+00:00")
    for rank, needs, memory in zip(row.per_rank, facts.ranks, memory_of([programs], model.graph), strict=True):
        names = ("rank", "flops", "weight_bytes", "arena_bytes", "sent_bytes", "messages")
        assert [getattr(rank, name) for name in names] == [getattr(needs, name) for name in names]
        assert rank.needed_bytes == memory.total_bytes() and rank.peak_rss_bytes > 1 << 20
        assert rank.compute_s > 0 or not needs.flops
    longest = max(rank.compute_s + rank.send_s + rank.receive_s + rank.wait_s for rank in row.per_rank)
    assert longest < 2 * max(row.measured_s)


def test_planners_that_find_the_same_plan_share_a_measurement(bench, suite, cost, tmp_path):
    path = suite(["auto", "rows", "single"], 'testbeds = ["hosts"]\n')
    code, out, err = bench(path, "--cost", cost)
    auto, rows, single = read_results(tmp_path / "results.jsonl")
    assert code == 0 and "auto, rows, single" in out, err
    assert auto.plan_digest == rows.plan_digest == single.plan_digest
    assert auto.measured_s == rows.measured_s == single.measured_s


def test_a_planner_more_measures_the_whole_cell_again(bench, suite, cost, tmp_path):
    study = 'testbeds = ["hosts"]\n'
    assert bench(suite(["auto", "rows"], study), "--cost", cost)[0] == 0
    before = {row.planner: row for row in read_results(tmp_path / "results.jsonl")}
    assert bench(suite(["auto", "single"], study), "--cost", cost)[0] == 0
    after = {row.planner: row for row in read_results(tmp_path / "results.jsonl")}
    assert after["rows"] == before["rows"] and after["auto"].measured_s != before["auto"].measured_s
    assert after["single"].date == after["auto"].date


def test_a_cell_that_cannot_be_measured_is_said_and_the_next_goes_on(bench, suite, cost, tmp_path):
    path = suite(["single"], 'testbeds = ["hosts"]\n')
    path.write_text(path.read_text().replace(f'["{TINY}"]', f'["none.onnx", "{TINY}"]'))
    code, out, err = bench(path, "--cost", cost)
    assert code == 1 and "none.onnx/hosts/1/1 is left out: " in err
    assert len(read_results(tmp_path / "results.jsonl")) == 1 and "1 cell without rows" in out


@pytest.mark.parametrize(
    ("study", "words", "sentence"),
    [
        ('testbeds = ["two.toml"]\n', [], "has no cell for 1 rank on hosts; its ranks are 2 on two"),
        ('testbeds = ["hosts"]\n', ["--only", "vgg*"], "on hosts that --only matches"),
        ('testbeds = ["hosts"]\nbatch = 3\n', [], "batch = 3 must be a list"),
        ('testbeds = ["hosts"]\n', ["--cost", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_is_one_sentence(bench, suite, study, words, sentence):
    code, out, err = bench(suite(["auto"], study), *words)
    assert (code, out) == (2, "") and sentence in err and err.count("\n") == 1


@pytest.fixture
def boards(here, one, monkeypatch):
    """Outside of a job: ``boards(*words)``, with clusters that only write down what they run, on one rank here."""
    built: list[tuple[str, int]] = []

    class Cluster:
        def __init__(self, testbed):
            self.testbed = testbed

        def run(self, words, *, ranks):
            built.append((self.testbed.name, ranks))
            assert words[:3] == [sys.executable, "-m", "flexpie_mpi"]
            with monkeypatch.context() as inside:
                inside.setenv("PMI_RANK", "0")
                code, out, err = one(*words[3:])
            assert out == "" and err.count("\n") == 1
            return code

    @contextmanager
    def emulated(testbed, **options):
        yield Cluster(testbed)

    monkeypatch.setattr(suite_boards, "check_system", lambda: None)
    monkeypatch.setattr(suite_boards, "emulated", emulated)
    return lambda *words: (built, *here("bench", *words))


def test_outside_of_a_job_boards_are_built_for_what_is_not_done(boards, suite, cost, tmp_path):
    path = suite(["auto", "single"], 'testbeds = ["two.toml", "hosts"]\nranks = [1]\nbatch = [1, 2]\n')
    words = [path, "--output", tmp_path / "results.jsonl", "--cost", cost]
    built, code, out, _ = boards(*words, "--only", "tiny*/1/2")
    assert code == 0 and built == [("two", 1)] and "1 rank, batch 2 (" in out
    rows = read_results(tmp_path / "results.jsonl")
    assert [(row.testbed, row.batch, row.is_emulated, row.topology) for row in rows] == [("two", 2, True, "switch")] * 2
    assert rows[0].bandwidth == 125e6 and rows[0].per_rank[0].slowdown == 2
    built, code, out, _ = boards(*words)
    assert code == 0 and built == [("two", 1)] * 2 and "1 rank (" in out and "1 rank, batch 2 (" in out
    assert len(read_results(tmp_path / "results.jsonl")) == 4
    assert boards(*words)[:2] == ([("two", 1)] * 2, 0)  # nothing is left to do, so nothing is built


def test_hosts_need_a_job(boards, suite, cost, tmp_path):
    path = suite(["auto"], 'testbeds = ["hosts"]\n')
    built, code, out, err = boards(path, "--output", tmp_path / "results.jsonl", "--cost", cost)
    assert (built, code, out) == ([], 2, "") and "mpirun -n N flexpie-mpi bench" in err


def test_where_boards_cannot_be_emulated_it_is_said_before_anything_is_measured(here, suite, tmp_path, monkeypatch):
    def refuse():
        raise EmulationError("emulating boards needs root")

    monkeypatch.setattr(suite_boards, "check_system", refuse)
    path = suite(["auto"], 'testbeds = ["two.toml"]\n')
    code, out, err = here("bench", path, "--output", tmp_path / "results.jsonl")
    assert (code, out) == (2, "") and "needs root" in err and not list(tmp_path.glob("results*"))


@pytest.mark.mpi
def test_on_emulated_boards_with_a_cost_model_measured_before(job, suite, tmp_path):
    try:
        check_system()
    except EmulationError as error:
        pytest.skip(str(error))
    path = suite(["auto", "rows"], 'testbeds = ["two.toml"]\n')
    (tmp_path / "two.toml").write_text((tmp_path / "two.toml").read_text().replace("1Gb/s", "200Mb/s"))
    out = tmp_path / "results.jsonl"
    done = job(1, "bench", path, "--output", out, "--trace-budget", 2)
    if done.code == 2 and ("this machine refuses" in done.err or "too busy" in done.err):
        pytest.skip(done.err)
    assert done.code == 0 and done.out.startswith(f"{TINY} on two, 2 ranks"), done
    rows = read_results(out)
    assert [row.planner for row in rows] == ["auto", "rows"] and all(row.is_emulated for row in rows)
    assert rows[0].cost == f"{tmp_path}/results.cost.json, measured on two for 2 s"
    assert {rank.device for rank in rows[1].per_rank} == {"pi0", "pi1"} and rows[1].sent_bytes > 0
    traces = Traces.read(tmp_path / "results.traces.h5")
    boards = {place for place, origin in enumerate(traces.origins) if origin.slowdown == 2}
    assert len(boards) == 2 and boards == set(traces.tables["compute"]["origin"])
