"""The constants of analytic prices, and what devices cost relative to each other, as samples show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .constants import positive_constants, weighted_median
from .prior import AnalyticCost, Constants, call_s, exchange_s, family, kernel_s
from .samples import DeviceFactor, Samples

_CROWDED = 20
"""From so many rows with shared cores on, these tell what sharing costs."""

_ROUNDS = 3
"""Devices and constants are fitted in turns; each is right when the other is."""


def calibrated(samples: Mapping[str, Samples], kinds: int) -> tuple[AnalyticCost, np.ndarray]:
    """Analytic prices on the fastest kind of device, and the factor of each kind.

    Parameters
    ----------
    samples : mapping of str to Samples
        ``compute``, ``call`` and ``exchange``; a table without rows leaves constants as they are.
    kinds : int
        Kinds of devices that the samples number.

    Returns
    -------
    prior : AnalyticCost
    factors : float array (kinds,)
        At least 1; 1 also for a kind without rows.
    """
    prior, factors = AnalyticCost(), np.ones(kinds)
    on_cores = {name: samples[name] for name in ("compute", "call")}
    for _ in range(_ROUNDS if kinds > 1 else 1):
        on_reference = {name: each.scaled(factors) for name, each in on_cores.items()}
        prior = replace(prior, crowding=_crowding(prior, on_reference["compute"]))
        prior = _fitted(prior, on_reference)
        factors = _factors(prior, on_cores, kinds)
    on_reference = {name: each.scaled(factors) for name, each in on_cores.items()}
    return replace(prior, exchange=_exchange(prior, samples["exchange"])), factors


def exposed(devices: Sequence[DeviceFactor], factors: np.ndarray) -> tuple[DeviceFactor, ...]:
    """Kinds of devices with their factors."""
    return tuple(replace(device, factor=float(factor)) for device, factor in zip(devices, factors, strict=True))


def _fitted(prior: AnalyticCost, samples: Mapping[str, Samples]) -> AnalyticCost:
    return replace(prior, kernels=_kernels(prior, samples["compute"]), call=_call(prior, samples["call"]))


def _kernels(prior: AnalyticCost, samples: Samples) -> dict[str, Constants]:
    """Constants of every operator with rows, and of families, from all their members, for the others."""
    ordinary = AnalyticCost().kernels
    ops, number = np.unique(samples.rows["op"], return_inverse=True)
    labels = [op.decode() for op in ops]
    families = np.array([family(label) for label in labels], "U24")[number.reshape(-1)]
    found = {
        name: _roofline(prior, samples.part(families == name), start)
        for name, start in ordinary.items()
        if name == family(name)
    }
    pooled = dict(found)
    for label in sorted({*labels, *ordinary} - ({*pooled} - {*labels})):
        # an operator differs from its family as it does on an ordinary core, until its rows say otherwise
        usual = ordinary.get(label, ordinary[family(label)])
        start = np.array(pooled[family(label)]) * usual / np.array(ordinary[family(label)])
        found[label] = _roofline(prior, samples.part(samples.rows["op"] == label.encode()), tuple(start.tolist()))
    return found


def _roofline(prior: AnalyticCost, samples: Samples, start: Constants) -> Constants:
    if not len(samples):
        return start
    alone_s = samples.seconds / samples.active**prior.crowding
    found = positive_constants(
        lambda constants: kernel_s(constants, samples.rows), np.array(start), alone_s, samples.weights
    )
    return tuple(found.tolist())


def _call(prior: AnalyticCost, samples: Samples) -> Constants:
    if not len(samples):
        return prior.call
    alone_s = samples.seconds / samples.active**prior.crowding
    start = np.array(AnalyticCost().call)
    return tuple(positive_constants(lambda c: call_s(c, samples.rows), start, alone_s, samples.weights).tolist())


def _exchange(prior: AnalyticCost, samples: Samples) -> Constants:
    if not len(samples):
        return prior.exchange
    start = np.array(prior.exchange)
    found = positive_constants(lambda c: exchange_s(c, samples.rows), start, samples.seconds, samples.weights)
    return tuple(found.tolist())


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
    found = np.full(kinds, np.nan)
    for kind in range(kinds):
        for name, each in samples.items():
            mine = each.device == kind
            if mine.any() and np.isnan(found[kind]):
                found[kind] = weighted_median(residuals[name][mine], each.weights[mine])
    least = np.nanmin(found) if np.isfinite(found).any() else 0.0
    return np.exp(np.where(np.isnan(found), 0.0, found - least))
