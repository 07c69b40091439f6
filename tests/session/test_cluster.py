"""What predictions in a job stand on: measured once, kept, taken from the cache ever after; files come first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest

from flexpie_mpi import load, run_ranks
from flexpie_mpi.core.errors import CostError, TestbedError
from flexpie_mpi.cost.file import save_cost
from flexpie_mpi.cost.fit import fit
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.rows import PLAN_TRACE
from flexpie_mpi.cost.traces import Traces
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure import campaign, profiled_run
from flexpie_mpi.measure.agreement import Budget
from flexpie_mpi.session import cluster
from flexpie_mpi.session.cluster import COST, TRACES, InputsFinder
from flexpie_mpi.session.inputs import UNMEASURED
from flexpie_mpi.session.opening import CostSources

MODEL = load("builtin:tiny_vgg")
OTHER = load("builtin:tiny_cnn")


LOOK_S = 0.02
"""What passes between two looks at the clock of these tests: as much is measured on any machine, busy or not."""


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch):
    monkeypatch.setattr(profiled_run, "PROFILED_S", 0.0)
    monkeypatch.setattr(profiled_run, "PLAIN_S", 0.0)
    monkeypatch.setattr(campaign, "Budget", partial(Budget, clock=partial(next, count(0.0, LOOK_S))))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def said():
    return []


def find(cache, said, model=MODEL, ranks=2, rows=None, has_request=True, **given):
    """The root's inputs in a job of so many ranks in this process, and what adding rows to it says."""
    inputs = random_inputs(model.graph) if has_request else None
    sources = CostSources(**{"trace_budget_s": 1.0, **given})

    def rank(transport):
        tell = said.append if transport.rank == 0 else lambda text: None
        job = InputsFinder(transport, cache if transport.rank == 0 else Cache(None), sources, tell)
        found = job.find(model, inputs if transport.rank == 0 else None)
        assert (found is None) == (transport.rank != 0)
        return found, job.add(rows) if rows and transport.rank == 0 else ""

    return run_ranks(ranks, rank)[0]


def kept(cache, kind):
    (path,) = (path for path in (cache.folder / kind).iterdir() if path.suffix != ".sum")
    return path


def measured(said):
    return any("s left: " in text for text in said)


def test_what_is_measured_once_is_there_at_the_next_start(cache, said):
    first, _ = find(cache, said)
    assert measured(said) and first.is_here and first.testbed.ranks == 2 and "now" in first.testbed_source
    traces = Traces.read(kept(cache, TRACES))
    assert all(len(traces.tables[name]) for name in ("compute", "call", "link", "plan"))
    said.clear()
    second, _ = find(cache, said)
    assert (
        not measured(said)
        and second.is_here
        and "before" in second.testbed_source
        and second.cost_source != first.cost_source
    )
    assert second.testbed.digest == first.testbed.digest
    assert second.cost.provenance == first.cost.provenance
    assert Traces.read(kept(cache, TRACES)) == traces


def test_another_model_is_measured_as_well_and_the_links_are_not_again(cache, said):
    find(cache, said)
    links = Traces.read(kept(cache, TRACES)).tables["link"]
    said.clear()
    both, _ = find(cache, said, OTHER)
    assert measured(said) and {MODEL.name, OTHER.name} <= set(both.cost.models)
    assert len(Traces.read(kept(cache, TRACES)).tables["link"]) == len(links)
    said.clear()
    assert find(cache, said, MODEL)[0].cost.models == find(cache, said, OTHER)[0].cost.models and not measured(said)


def test_without_a_budget_there_are_formulas_or_what_is_known(cache, said):
    inputs, _ = find(cache, said, trace_budget_s=0.0)
    assert isinstance(inputs.cost, AnalyticCost) and inputs.cost_source == UNMEASURED and not inputs.is_here
    assert "assumed" in inputs.testbed_source and not (cache.folder / TRACES).exists()
    find(cache, said, OTHER)
    said.clear()
    inputs, _ = find(cache, said, trace_budget_s=0.0)
    assert "with other models" in inputs.cost_source and inputs.is_here and not measured(said)


def test_damaged_entries_are_measured_anew(cache, said):
    find(cache, said)
    for kind in (TRACES, COST):
        kept(cache, kind).write_text("rubbish")
    said.clear()
    assert find(cache, said)[0].is_here and measured(said)
    assert Traces.read(kept(cache, TRACES)).tables["compute"].size


def test_where_no_plan_can_be_measured_there_are_formulas(cache, said, monkeypatch, caplog):
    """The links that were measured are kept all the same; what is wrong is said once."""

    def refuse(model, program, *rest):
        raise RuntimeError("index out of bounds")

    monkeypatch.setattr(profiled_run, "open_segment", refuse)
    inputs, _ = find(cache, said)
    assert isinstance(inputs.cost, AnalyticCost) and inputs.cost_source == UNMEASURED and inputs.is_here
    assert [MODEL.name in text and "index out of bounds" in text for text in caplog.messages] == [True]
    assert Traces.read(kept(cache, TRACES)).tables["link"].size and not (cache.folder / COST).exists()
    caplog.clear()
    inputs, _ = find(cache, said, has_request=False)
    assert inputs.cost_source == UNMEASURED and [text.count("no request") for text in caplog.messages] == [1]


def test_what_cannot_be_fitted_is_a_warning(cache, said, monkeypatch, caplog):
    monkeypatch.setattr(cluster, "fit_cost", refuse_rows)
    inputs, _ = find(cache, said)
    assert inputs.cost_source == UNMEASURED and inputs.is_here and "too few" in caplog.text


def refuse_rows(traces):
    raise ValueError("too few")


def test_links_that_no_network_has_are_measured_anew(cache, said, caplog):
    find(cache, said)
    path = kept(cache, TRACES)
    traces = Traces.read(path)
    traces.tables["link"]["seconds"] = -1.0
    traces.write(path)
    said.clear()
    inputs, _ = find(cache, said)
    assert inputs.is_here and measured(said) and "measured anew" in caplog.text
    assert (Traces.read(kept(cache, TRACES)).tables["link"]["seconds"] > 0).all()


def test_rows_that_are_added_are_kept_for_the_next_fit(cache, said, tmp_path):
    rows = np.zeros(1, PLAN_TRACE)
    rows["model"], rows["seconds"] = b"mine", 1.0
    _, where = find(cache, said, rows={"plan": rows})
    assert "cache" in where and b"mine" in Traces.read(kept(cache, TRACES)).tables["plan"]["model"]
    file = tmp_path / "mine.h5"
    Traces.read(kept(cache, TRACES)).write(file)
    before = Traces.read(file).tables["plan"]
    inputs, where = find(cache, said, traces=[str(file)], rows={"plan": rows})
    assert inputs.is_here and where == str(file) and len(Traces.read(file).tables["plan"]) == len(before) + 1
    assert not find(cache, said, traces=[str(file)], ranks=1)[0].is_here  # links of two ranks, not of this job


def test_files_come_first(cache, said, tmp_path):
    find(cache, said)
    file, boards = tmp_path / "cost.json", tmp_path / "boards.toml"
    save_cost(replace(fit(Traces.read(kept(cache, TRACES))), provenance={"mine": 1}), file)
    boards.write_text(
        'topology = "switch"\n[link]\nbandwidth = "1Gb/s"\nlatency = "1ms"\n[[device]]\nname = "b"\ncount = 3\n'
    )
    said.clear()
    inputs, _ = find(Cache(tmp_path / "new"), said, OTHER, cost=str(file))
    assert inputs.cost.provenance == {"mine": 1} and inputs.is_here and measured(said)  # links are not in the file
    said.clear()
    inputs, _ = find(Cache(tmp_path / "newer"), said, OTHER, cost=str(file), testbed=str(boards))
    assert inputs.testbed.ranks == 2 and inputs.testbed.name == "boards" and not inputs.is_here and not measured(said)
    with pytest.raises(TestbedError, match="3 boards and 4 ranks"):
        find(cache, said, ranks=4, testbed=str(boards))
    with pytest.raises(CostError, match=r"none\.json"):
        find(cache, said, cost=str(tmp_path / "none.json"))


@pytest.mark.parametrize(("hosts", "expected"), [(["pi1", "pi2"], [4.0, 4.0]), (["pi", "pi"], [None, None])])
def test_ranks_stand_for_boards_that_share_a_machine(cache, said, tmp_path, monkeypatch, hosts, expected):
    boards, told = tmp_path / "boards.toml", []
    boards.write_text(
        'topology = "switch"\n[link]\nbandwidth = "1Gb/s"\nlatency = "1ms"\n'
        '[[device]]\nname = "b"\ncount = 2\nslowdown = 4\n'
    )
    collect = campaign.collect_plans

    def collect_plans(*given, slowdown, **named):
        told.append(slowdown)
        return collect(*given, slowdown=slowdown, **named)

    monkeypatch.setattr(campaign, "places_of", lambda transport: [(host, "one kernel", (0, 1)) for host in hosts])
    monkeypatch.setattr(campaign, "collect_plans", collect_plans)
    find(cache, said, testbed=str(boards))
    assert told and {*told} == {*expected}


def test_a_cache_that_cannot_be_written_is_a_warning(cache, said, monkeypatch, caplog):
    def refuse(self, path):
        raise CostError("the disk is full")

    monkeypatch.setattr(cluster.Traces, "write", refuse)
    inputs, _ = find(cache, said)
    assert inputs.is_here and "the disk is full" in caplog.text
