"""What a verb has to bring: its file and its row; and a solver: its row."""

from __future__ import annotations

import json

import pytest

from flexpie_mpi import Plan, commands, load
from flexpie_mpi.__main__ import main
from flexpie_mpi.commands import VERBS, Verb
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.placement.baselines import chain, outcome
from flexpie_mpi.placement.outcome import Deadline
from flexpie_mpi.placement.solvers import SOLVERS, Solver

TINY = "builtin:tiny_cnn"

WEIGHTS = '''
"""``flexpie-mpi weights``: bytes of all constants of a model."""

from flexpie_mpi.commands.output import publish
from flexpie_mpi.model import load


def add_arguments(parser):
    parser.add_argument("--model", required=True)
    parser.add_argument("--json", metavar="FILE")


def run(args):
    graph = load(args.model).graph
    nbytes = sum(value.nbytes for value in graph.values.values() if value.is_constant)
    publish(lambda: [f"{nbytes} bytes"], {"bytes": nbytes}, args.json)
    return 0
'''

BOARDS = """
topology = "switch"
link = {bandwidth = "10Gb/s", latency = "1us"}
device = [{name = "quick", slowdown = 50}, {name = "slow", count = 2, slowdown = 100}]
"""


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A verb in a file that this program does not have."""
    (tmp_path / "weights.py").write_text(WEIGHTS)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.setitem(VERBS, "weights", Verb("add up the bytes of a model's constants"))


def test_a_verb_is_a_file_and_a_row(here, weights):
    graph = load(TINY).graph
    nbytes = sum(value.nbytes for value in graph.values.values() if value.is_constant)
    assert here("weights", "--model", TINY) == (0, f"{nbytes} bytes\n", "")
    assert json.loads(here("weights", "--model", TINY, "--json", "-")[1]) == {"bytes": nbytes}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["weights"], "required: --model; see flexpie-mpi weights --help"), (["weight"], "invalid choice: 'weight'")],
)
def test_its_mistakes_are_told_as_those_of_all_verbs(here, weights, words, sentence):
    code, out, err = here(*words)
    assert (code, out) == (2, "") and sentence in err and "weights" in err


def halves(instance, seed, limit):
    """Two stages of as many units, the first on rank 0, the second on the last rank."""
    began = Deadline.start()
    placement = chain((0, instance.units // 2, instance.units), (0, instance.boards - 1))
    return outcome(instance, placement, began, 1)


def test_a_solver_is_a_row(here, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(SOLVERS, "halves", Solver("half of the model each for two boards", halves))
    (tmp_path / "boards.toml").write_text(BOARDS)
    words = ("plan", "--model", TINY, "--testbed", tmp_path / "boards.toml", "--objective", "throughput")
    code, out, err = here(*words, "--planner", "halves", "--output", tmp_path / "plan.json", "--json", "-")
    assert (code, err) == (0, ""), err
    record, plan = json.loads(out), Plan.from_json((tmp_path / "plan.json").read_text())
    assert record["planner"] == "halves" and not record["is_optimal"]
    assert {rank for segment in plan.segments for rank in segment.layout.ranks} == {0, 2}
    graph = load(TINY).graph
    assert violations(lower(plan, graph), plan, graph) == []
    best = json.loads(here(*words, "--json", "-")[1])
    assert best["is_optimal"] and best["throughput_rps"] >= record["throughput_rps"]
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    assert "greedy, exact, halves (default" in " ".join(capsys.readouterr().out.split())
