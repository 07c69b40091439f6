"""Fitting: from traces to a learned cost model, and to its held-out errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import CostError
from ..core.versions import versions
from .calibrate import calibrated
from .features import FEATURES, features_of
from .forest import Forest
from .gbdt import Lesson, best_rounds, train
from .learned import HeldOut, LearnedCost, Ranges, held_out
from .model import DeviceFactor, devices_of
from .prior import AnalyticCost
from .rows import PRICED
from .samples import Samples, folds, samples
from .traces import Traces

FEWEST_ROWS, FEWEST_GROUPS = 40, 8
"""A forest is learned from so many distinct rows, in so many groups, at least; from fewer, the constants alone."""

_ROUND_FOLDS = 4

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Traces made ready: samples of every learned table, and what they are of."""

    samples: Mapping[str, Samples]
    devices: tuple[DeviceFactor, ...]  # kinds of devices, as the samples number them

    @classmethod
    def of(cls, traces: Traces) -> Lessons:
        """Samples of traces.

        Raises CostError when no kernel was measured: nothing could be planned with what is left.
        """
        tables = {table: samples(table, traces.tables[table], traces.origins) for table in PRICED}
        if not len(tables["compute"]):
            rows = len(traces.tables["compute"])
            raise CostError(
                f"the traces hold no usable time of a kernel ({rows} rows of table 'compute'): "
                "measure some with 'flexpie-mpi trace'"
            )
        return cls(tables, devices_of(traces.origins))

    def only(self, table: str, kept: np.ndarray) -> Lessons:
        """Without the other tables, but for the work that tells devices apart, and with some rows of this one."""
        tables = {name: each.part(np.zeros(len(each), bool)) for name, each in self.samples.items()}
        if table == "call":
            tables["compute"] = self.samples["compute"]
        return Lessons(tables | {table: self.samples[table].part(kept)}, self.devices)


def fit(traces: Traces, tell: Tell = lambda text: None) -> LearnedCost:
    """A cost model of everything that traces tell; the same on every run. `tell` is told what goes on.

    Raises CostError when no kernel was measured.
    """
    lessons = Lessons.of(traces)
    tell("fitting constants")
    prior, factors = calibrated(lessons.samples, len(lessons.devices))
    ops = _ops(lessons)
    forests = {}
    for table, each in lessons.samples.items():
        tell(f"fitting {table} to {len(each)} rows")
        forest = _forest(table, each, prior, factors, ops)
        if forest is not None:
            forests[table] = forest
    return LearnedCost(
        prior=prior,
        ops=ops,
        forests=forests,
        ranges={table: Ranges.of(table, each.rows) for table, each in lessons.samples.items() if len(each)},
        devices=tuple(
            replace(device, factor=float(factor)) for device, factor in zip(lessons.devices, factors, strict=True)
        ),
        models=_models(traces),
        provenance=_provenance(traces, lessons),
    )


def evaluate(traces: Traces, count: int = 5, tell: Tell = lambda text: None) -> dict[str, HeldOut]:
    """Held-out errors, by table, over `count` folds of groups; a table with fewer groups than folds has none.

    Raises CostError when no kernel was measured.
    """
    lessons = Lessons.of(traces)
    return {
        table: held_out(table, each, _predictions(table, lessons, count, tell), lessons.devices)
        for table, each in lessons.samples.items()
        if len(np.unique(each.group)) >= max(2, count)
    }


def _predictions(table: str, lessons: Lessons, count: int, tell: Tell) -> np.ndarray:
    """Seconds of every row of a table (n,), each by a model that has seen nothing of the row's group."""
    rows = lessons.samples[table]
    fold = folds(rows.group, count)
    predicted = np.full(len(rows), np.nan)
    for number in range(count):
        tell(f"held-out errors of {table}: fold {number + 1} of {count}")
        test = rows.part(fold == number)
        predicted[fold == number] = _predicted(table, lessons.only(table, fold != number), test)
    return predicted


def _predicted(table: str, lessons: Lessons, test: Samples) -> np.ndarray:
    """Seconds of rows that the lessons do not hold, on the devices that measured them."""
    prior, factors = calibrated(lessons.samples, len(lessons.devices))
    ops = _ops(lessons)
    forest = _forest(table, lessons.samples[table], prior, factors, ops)
    cost = LearnedCost(prior, ops, {} if forest is None else {table: forest})
    seconds = cost.seconds(table, test.rows, test.active)
    return seconds if table == "exchange" else seconds * factors[test.device]


def _ops(lessons: Lessons) -> tuple[str, ...]:
    return tuple(op.decode() for op in np.unique(lessons.samples["compute"].rows["op"]))


def _forest(
    table: str, samples: Samples, prior: AnalyticCost, factors: np.ndarray, ops: tuple[str, ...]
) -> Forest | None:
    """The factor on a table's prior; None where rows are too few, or where constants do as well."""
    if len(samples) < FEWEST_ROWS or len(np.unique(samples.group)) < FEWEST_GROUPS:
        return None
    features = features_of(table, samples.rows, samples.active, prior, ops)
    prior_s = prior.seconds(table, samples.rows, samples.active)
    if table != "exchange":
        prior_s *= factors[samples.device]
    target = np.log(samples.seconds / prior_s)
    lesson = Lesson(features, target, samples.weights, tuple(feature.sign for feature in FEATURES[table].values()))
    rounds = best_rounds(lesson, folds(samples.group, _ROUND_FOLDS))
    return train(lesson, rounds) if rounds else None


def _models(traces: Traces) -> tuple[str, ...]:
    """Names of the models in which anything was measured."""
    names = {name.decode(errors="replace") for table in PRICED for name in np.unique(traces.tables[table]["model"])}
    return tuple(sorted(names - {""}))


def _provenance(traces: Traces, lessons: Lessons) -> dict[str, object]:
    rows = {}
    for table, each in lessons.samples.items():
        measured, combinations = len(traces.tables[table]), len(np.unique(each.group))
        rows[table] = {"measured": measured, "distinct": len(each), "combinations": combinations}
    return {"traces": _digest(traces), "rows": rows, "versions": versions()}


def _digest(traces: Traces) -> str:
    """Hex digest of traces, the same in whatever order they were merged."""
    origins, tables = traces.content()
    digest = hashlib.blake2b(repr(origins).encode(), digest_size=16)
    for name in sorted(tables):
        digest.update(name.encode())
        for row in tables[name]:
            digest.update(row)
    return digest.hexdigest()
