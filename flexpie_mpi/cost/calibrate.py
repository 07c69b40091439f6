"""The constants of analytic prices, and what devices cost relative to each other, as samples show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from .prior import AnalyticCost, Constants, call_s, exchange_s, family, kernel_s
from .samples import Samples

_CROWDED = 20
"""From so many rows with shared cores on, these tell what sharing costs."""

_ROUNDS = 3
"""Devices and constants are fitted in turns; each is right when the other is."""


def calibrated(samples: Mapping[str, Samples], kinds: int) -> tuple[AnalyticCost, np.ndarray]:
    """Analytic prices on the fastest kind of device, and the factor of each kind.

    Samples are of the tables ``compute``, ``call`` and ``exchange``, of which one without rows leaves constants as they
    are, and number so many kinds of devices. Factors (kinds,) are at least 1, and 1 also for a kind without rows.
    """
    prior, factors = AnalyticCost(), np.ones(kinds)
    on_cores = {name: samples[name] for name in ("compute", "call")}
    for _ in range(_ROUNDS if kinds > 1 else 1):
        on_reference = {name: each.scaled(factors) for name, each in on_cores.items()}
        prior = replace(prior, crowding=_crowding(prior, on_reference["compute"]))
        kernels = _kernels(prior, on_reference["compute"])
        call = _constants(call_s, AnalyticCost().call, on_reference["call"], prior.crowding)
        prior = replace(prior, kernels=kernels, call=call)
        factors = _factors(prior, on_cores, kinds)
    return replace(prior, exchange=_constants(exchange_s, prior.exchange, samples["exchange"])), factors


def _kernels(prior: AnalyticCost, samples: Samples) -> dict[str, Constants]:
    """Constants of every operator with rows, and of families, from all their members, for the others."""
    ordinary = AnalyticCost().kernels
    ops, number = np.unique(samples.rows["op"], return_inverse=True)
    labels = [op.decode() for op in ops]
    families = np.array([family(label) for label in labels], "U24")[number.reshape(-1)]
    pooled = {
        name: _constants(kernel_s, start, samples.part(families == name), prior.crowding)
        for name, start in ordinary.items()
        if name == family(name)
    }
    constants = dict(pooled)
    for label in sorted({*labels, *ordinary} - ({*pooled} - {*labels})):
        # an operator differs from its family as it does on an ordinary core, until its rows say otherwise
        usual = ordinary.get(label, ordinary[family(label)])
        start = np.array(pooled[family(label)]) * (np.array(usual) / np.array(ordinary[family(label)]))
        mine = samples.part(samples.rows["op"] == label.encode())
        constants[label] = _constants(kernel_s, tuple(start.tolist()), mine, prior.crowding)
    return constants


def _constants(
    formula: Callable[[np.ndarray, np.ndarray], np.ndarray], start: Constants, samples: Samples, crowding: float = 0.0
) -> Constants:
    """Constants of a formula, from where they start; without samples they stay there."""
    if not len(samples):
        return start
    alone_s = samples.seconds / samples.active**crowding
    fitted = positive_constants(lambda c: formula(c, samples.rows), np.array(start), alone_s, samples.weights)
    return tuple(fitted.tolist())


def _crowding(prior: AnalyticCost, samples: Samples) -> float:
    """The power of `active` that rows with shared cores show against those without."""
    crowded = samples.active > 1.0
    if min(crowded.sum(), (~crowded).sum()) < _CROWDED:
        return prior.crowding
    alone = replace(prior, kernels=_kernels(prior, samples.part(~crowded)))
    shared = samples.part(crowded)
    residual = np.log(shared.seconds / alone.compute_s(shared.rows, np.ones(len(shared))))
    power = weighted_median(residual / np.log(shared.active), shared.weights)
    return float(np.clip(power, 0.0, 3.0))


def _factors(prior: AnalyticCost, samples: Mapping[str, Samples], kinds: int) -> np.ndarray:
    """Median factor between what each kind of device took and the reference device would, the fastest being 1."""
    compute, call = samples["compute"], samples["call"]
    residuals = {
        "compute": np.log(compute.seconds / prior.compute_s(compute.rows, compute.active)),
        "call": np.log(call.seconds / prior.call_s(call.rows, call.active)),
    }
    factors = np.full(kinds, np.nan)
    for kind in range(kinds):
        for name, each in samples.items():
            mine = each.device == kind
            if mine.any() and np.isnan(factors[kind]):
                factors[kind] = weighted_median(residuals[name][mine], each.weights[mine])
    least = np.nanmin(factors) if np.isfinite(factors).any() else 0.0
    return np.exp(np.where(np.isnan(factors), 0.0, factors - least))


# Positive constants of a formula


_STEPS = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.01)
"""Steps of the search on the log scale: from a factor of e down to 1 %."""

_SWEEPS = 12
"""At most so many rounds over all directions for each step."""

_BEND = 0.05
"""Relative error from which on errors count by their size and no longer by their square."""


def positive_constants(
    formula: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    seconds: np.ndarray,
    weights: np.ndarray,
    pull: float = 0.2,
) -> np.ndarray:
    """Constants c > 0 that minimise ``sum(w * h(log(formula(c) / seconds))) + pull * sum(log(c / start) ** 2)``.

    h is quadratic for small errors and linear for large ones. The second term keeps constants that the rows say nothing
    about where they were; in weight it is a fraction of one row. The search walks along each constant, and along all
    together, with ever smaller steps: no derivatives, no random numbers, and no way to a worse place than `start`.

    The formula takes constants (P,) to seconds (n,); what was measured, (n,), is positive, too.

    >>> nbytes = np.array([1e3, 1e5, 1e6, 1e7])
    >>> line = lambda c: c[0] + nbytes / c[1]
    >>> constants = positive_constants(line, np.array([1e-6, 1e9]), line(np.array([2e-5, 5e9])), np.ones(4), pull=1e-3)
    >>> np.allclose(constants, [2e-5, 5e9], rtol=0.05)
    True
    """
    target = np.log(seconds)
    origin = np.log(start)

    def loss(point: np.ndarray) -> float:
        error = np.log(formula(np.exp(point))) - target
        bent = np.sqrt(error**2 + _BEND**2) - _BEND
        return float(weights @ bent + pull * np.square(point - origin).sum())

    return np.exp(_descended(loss, origin))


def _descended(loss: Callable[[np.ndarray], float], point: np.ndarray) -> np.ndarray:
    """A point of low loss, by ever smaller steps along all axes together and along each."""
    directions = np.vstack((np.ones(len(point)), np.eye(len(point))))
    best = loss(point)
    for step in _STEPS:
        for _ in range(_SWEEPS):
            before, start = best, point
            for direction in directions:
                point, best = _walked(loss, point, best, step * direction)
            if best >= before:
                break
            point, best = _walked(loss, point, best, point - start)  # valleys that lie across the directions
    return point


def _walked(
    loss: Callable[[np.ndarray], float], point: np.ndarray, best: float, step: np.ndarray
) -> tuple[np.ndarray, float]:
    """As far as it goes down one way, or else the other: the point and its loss."""
    for move in (step, -step):
        moved = False
        while (here := loss(point + move)) < best:
            point, best, moved = point + move, here, True
        if moved:
            break
    return point, best


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value with half of the weight on either side.

    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 1.0]))
    3.0
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
