"""The ranks behind sessions: what each makes of the root's order."""

from __future__ import annotations

from flexpie_mpi import run_ranks
from flexpie_mpi.session.opening import CostSources, PlanChoice
from flexpie_mpi.session.ranks import Order, Served
from tests.launch import REPOSITORY

BOARDS = str(REPOSITORY / "hostfiles" / "pair-slow.toml")


def test_every_rank_is_as_slow_as_its_board(tmp_path):
    """Also where it goes on to streams, whose engine is another one."""
    order = Order("builtin:tiny_cnn", PlanChoice("rows"), CostSources(BOARDS), cache=str(tmp_path))

    def rank(transport):
        served = Served(transport, order, lambda text: None)
        paces = [pace(served.engine), pace(served._with_depth(2))]
        served.engine.close()
        return paces

    def pace(engine):
        return engine.pacer.slowdown, bool(engine.pacer.steps) and all(step.seconds for step in engine.pacer.steps)

    assert run_ranks(2, rank) == [[(1, False)] * 2, [(2, True)] * 2], "what steps take is measured beforehand"
