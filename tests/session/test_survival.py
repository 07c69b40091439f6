"""What a job that has lost ranks goes on with, and why some jobs cannot."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import crew as crews
from flexpie_mpi.runtime.crew import Loss
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.session.choosing import Chosen
from flexpie_mpi.session.inputs import PredictionInputs
from flexpie_mpi.session.opening import PlanChoice, TestbedError, boards_of
from flexpie_mpi.session.survival import Course, Kept, sentence
from flexpie_mpi.testbed import Device, switch
from tests.graphs import chain

BED = switch([Device(f"pi{number}") for number in range(4)], 125e6, 50e-6)
ULFM = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_MCA_mpi_ft_enable": "1"}


@dataclass
class Crew:
    places: tuple[int, ...]
    losses: list[Loss] = field(default_factory=list)


def course(places=(0, 1, 2, 3)):
    plan = layout_plan(chain(), len(places), "rows")
    return Course(plan, places, PredictionInputs(BED.only(places), AnalyticCost(), "", ""), is_stream=True)


def names(testbed):
    return [device.name for device in testbed.devices]


def test_the_next_plan_is_for_the_boards_that_are_left():
    assert names(course().known((0, 2, 3)).testbed) == ["pi0", "pi2", "pi3"]
    assert names(course((0, 2, 3)).known((2, 3)).testbed) == ["pi2", "pi3"]
    assert names(boards_of(BED, (3, 1))) == ["pi3", "pi1"]
    with pytest.raises(TestbedError, match="has 4 boards and 5 ranks are asked for"):
        boards_of(BED, (0, 4))


def test_what_was_given_for_every_rank_is_given_for_those_that_are_left():
    asked = PlanChoice("grid", weights=(5, 6, 7, 8), grid=(2, 2), autotune=3)
    assert Kept(Crew((0, 1, 2, 3))).choice(asked) == asked  # before the job begins
    assert Kept(Crew((0, 2, 3)), course()).choice(asked) == PlanChoice("grid", weights=[5, 7, 8])


def test_where_spares_take_all_places_the_plan_stays():
    kept = Kept(Crew((0, 1, 2, 3)), course())
    assert kept.same_plan().plan == kept.course.plan
    kept.chosen = Chosen(kept.same_plan().plan, measured_s=(0.5,))
    assert kept.same_plan() is kept.chosen
    assert Kept(Crew((0, 2, 3)), course()).same_plan() is None


@pytest.mark.parametrize("knowing", [(1, 2), (0,), ()])
def test_a_rank_that_comes_in_is_told_the_course(knowing):
    def rank(transport):
        kept = Kept(Crew((0, 1, 2)), course() if transport.rank in knowing else None)
        return kept.catch_up(transport)

    found = run_ranks(3, rank)
    assert [each and each.plan for each in found] == [course().plan if knowing else None] * 3


def test_a_loss_in_words():
    loss = Loss((2, 3), ("a", "b"), (0, 1, 4), (4,), 0.0)
    said = "rank 2 on 'a' and rank 3 on 'b' were lost: ranks 0, 1, 4 (spare so far) go on"
    assert sentence(loss) == said


@pytest.mark.parametrize(
    ("library", "environment", "why"),
    [
        ("MPICH 5.0.2", ULFM, "MPICH 5.0.2 ends a job that loses a rank"),
        ("Open MPI v5.0.9", ULFM, "Open MPI v5.0.9 ends a job that loses a rank"),
        ("", ULFM, "no MPI library ends a job"),
        ("Open MPI v5.0.11", {}, "a rank alone has nobody"),
        ("Open MPI v5.0.11", {"OMPI_COMM_WORLD_SIZE": "4"}, "started without --with-ft ulfm"),
        ("Open MPI v5.0.10", ULFM, None),
        ("Open MPI v6.0.0", ULFM, None),
    ],
)
def test_why_a_job_cannot_outlive_a_rank(monkeypatch, library, environment, why):
    monkeypatch.setattr(crews, "library", lambda: library)
    found = crews.refusal(environment)
    assert (why in found and "--with-ft ulfm of Open MPI 5.0.10 or newer" in found) if why else found == ""
