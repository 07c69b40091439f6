"""One trial: the instance that a cell and a number say, and every solver on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from time import process_time

from boards import instance
from networks import network, random_chain
from studies import CHAIN
from trials import Answer, Cell, Trial, answer

from flexpie_mpi.core.versions import machine, versions
from flexpie_mpi.placement import Instance
from flexpie_mpi.placement.solvers import SOLVERS

SEED = 2210


def posed(cell: Cell, seed: tuple[int, ...]) -> Instance:
    """The instance of a cell that is drawn from a seed."""
    if cell.model == CHAIN:
        return instance(random_chain(cell.setting, (*seed, 3)), cell.boards, cell.memory, seed)
    computing = cell.setting if cell.study == "compute" else 0.0
    return instance(network(cell.model, cell.accounting), cell.boards, cell.memory, seed, computing)


def attempt(cell: Cell, number: int, solvers: Sequence[str], limit_s: float, about: Mapping[str, object]) -> Trial:
    """All solvers on trial `number` of a cell; `about` is what :func:`circumstances` says."""
    seed = (SEED, number, cell.boards)
    instance = posed(cell, seed)
    answers = {name: _answered(name, instance, number, limit_s) for name in solvers}
    return Trial(*cell.cell, number, seed, answers, **about)


def _answered(name: str, instance: Instance, number: int, limit_s: float) -> Answer:
    began = process_time()
    outcome = SOLVERS[name].solve(instance, number, limit_s)
    return answer(outcome, process_time() - began)


def again(trial: Trial, solvers: Sequence[str], limit_s: float) -> dict[str, tuple[float, float]]:
    """A trial repeated from its line: seconds as they were and as they are now, by solver."""
    instance = posed(trial, trial.seed)
    return {
        name: (trial.answers[name].seconds, SOLVERS[name].solve(instance, trial.number, limit_s).seconds)
        for name in solvers
    }


def circumstances() -> dict[str, object]:
    """With what, where and when trials are made."""
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"versions": versions(), "machine": machine(), "date": date}
