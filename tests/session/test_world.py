"""What changes while a stream runs is noticed when it lasts, said, and answered by a plan that pays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from flexpie_mpi.core.plan import Plan
from flexpie_mpi.cost.model import CostModel
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import turns_of
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.life import Answer, Doing
from flexpie_mpi.session.inputs import PredictionInputs
from flexpie_mpi.session.opening import PlanChoice
from flexpie_mpi.session.world import REST_S, Factors, World
from flexpie_mpi.testbed import Device, switch

BED = switch([Device(f"pi{rank}", slowdown=800.0) for rank in range(3)], 125e6, 5e-5)


class Measured(CostModel):
    """Formulas that count as measured."""

    compute_s = staticmethod(AnalyticCost().compute_s)
    call_s = staticmethod(AnalyticCost().call_s)
    exchange_s = staticmethod(AnalyticCost().exchange_s)


class Boards:
    """A stream that answers: every look finds ten requests more, each of so many seconds of a rank."""

    def __init__(self, model, plan: Plan) -> None:
        self.model, self.plan, self.transport = model, plan, self
        self.programs_by_turn = turns_of(plan, model.graph)
        self.busy_s, self.rates = [0.0] * plan.ranks, [125e6] * plan.ranks
        self.period_s = 0.01
        self.done, self.spent, self.now_s = 0, [0.0] * plan.ranks, 0.0

    def go_on(self) -> None:
        self.done += 10
        self.now_s += 10 * self.period_s
        self.spent = [spent + 10 * each for spent, each in zip(self.spent, self.busy_s, strict=True)]

    def asked(self, rank: int, *, loaded: bool = False) -> Answer:
        doing = Doing("computes", requests=self.done, busy_s=self.spent[rank])
        return Answer(doing, 0.0, self.now_s, "R", self.rates[rank] if loaded else None)


@pytest.fixture
def stream(cache_model):
    plan = layout_plan(cache_model.graph, 3, "rows")
    boards, turned = Boards(cache_model, plan), []
    inputs = PredictionInputs(BED, Measured(), "", "")
    hosts = {f"pi{rank}": (rank,) for rank in range(3)}
    world = World(inputs, hosts, PlanChoice(), turned.append, lambda: boards.now_s, partial(ThreadPoolExecutor, 1))
    world._over.set()  # looks are made by the test
    world.follow(boards)
    boards.busy_s = world._predicted(boards)

    def looks(count: int) -> list[Plan]:
        for _ in range(count):
            boards.go_on()
            world.look()
        return turned

    world._over.clear()
    looks(2)
    return boards, looks


@pytest.fixture(scope="module")
def cache_model(tmp_path_factory):
    return load("builtin:tiny_cnn", cache=Cache(tmp_path_factory.mktemp("cache")))


def test_a_board_that_is_slow_for_long_gets_less_to_do(stream, caplog):
    boards, looks = stream
    assert not looks(5) and not caplog.text, "all goes as predicted"
    boards.busy_s[2] *= 10
    looks(2)
    boards.busy_s[2] /= 10
    assert not looks(3) and not caplog.text, "a bad moment is not for long"
    boards.busy_s[2] *= 10
    (plan,) = looks(4)
    assert "rank 2 on 'pi2' computes 10 times as long as predicted, for 6 s now" in caplog.text
    assert "another plan is made ready beside the stream: predicted" in caplog.text
    used = [layout for segment in plan.segments for layout in segment.layouts]
    assert sum(2 in layout.ranks for layout in used) < len(used) / 2, "it is left out, or nearly"
    caplog.clear()
    boards.now_s += REST_S
    looks(5)
    assert not caplog.text, "what is known is not said again"
    boards.busy_s[2] /= 10
    looks(3)
    assert "rank 2 on 'pi2' computes as fast as predicted again" in caplog.text


def test_a_link_is_looked_at_when_requests_take_longer_and_no_board_does(stream, caplog):
    boards, looks = stream
    boards.rates[1] = 12.5e6
    assert not looks(5) and not caplog.text
    boards.period_s *= 3
    looks(4)
    assert "rank 1 on 'pi1' sends to the root 10 times as long as predicted" in caplog.text


def test_without_predictions_the_beginning_of_the_stream_is_what_is_expected(cache_model, caplog):
    boards = Boards(cache_model, layout_plan(cache_model.graph, 3, "rows"))
    world = World(None, {"pi": (0, 1, 2)}, PlanChoice(), lambda plan: pytest.fail("nothing to plan with"))
    world._over.set()
    world.follow(boards)
    boards.busy_s = [0.1, 0.1, 0.1]
    for number in range(9):
        boards.busy_s[1] = 0.1 if number < 4 else 0.3
        boards.go_on()
        world.look()
    assert caplog.text.count("rank 1 on 'pi' computes 3 times as long as at the beginning of the stream") == 1
    boards.period_s, boards.rates[2] = 0.03, 12.5e6
    for _ in range(4):
        boards.go_on()
        world.look()
    assert "rank 2 on 'pi' sends to the root 10 times as long as the fastest rank does, for 6 s now" in caplog.text


def test_a_slow_link_is_one_of_its_own_port():
    slow = Factors((1.0, 4.0, 1.0), (1.0, 1.0, 10.0)).applied(BED)
    assert [device.slowdown for device in slow.devices] == [800.0, 3200.0, 800.0]
    assert {r.name: 125e6 / r.bandwidth for r in slow.resources if r.bandwidth < 125e6} == {"pi2 out": 10, "pi2 in": 10}
