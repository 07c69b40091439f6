"""Max-min fair shares: how fast each of several messages travels while they share what they pass.

No message can be given more without taking from one that has no more than it. Connections that adapt to each other
end up close to this, and a port that has work is never idle::

    a to b, c to b   |  the receiving side of b is full: half of it each
    a to d           |  shares only the sending side of a: what a to b leaves of it
"""

from __future__ import annotations

import numpy as np

_CLOSE = 1 + 1e-9
"""Shares that differ by less are taken for equal."""


def fair_rates(capacity: np.ndarray, flow: np.ndarray, resource: np.ndarray, flows: int) -> np.ndarray:
    """Bytes per second of every flow, float array (flows,); infinite for one that passes nothing.

    All resources none of whose flows has a tighter one elsewhere are filled at once, then what is left of the others.

    Parameters
    ----------
    capacity : float array (resources,)
        Bytes per second.
    flow, resource : int array (n,)
        Each resource that each flow passes.
    flows : int

    Examples
    --------
    >>> fair_rates(np.array([6.0, 1.0]), np.array([0, 1, 1, 2]), np.array([0, 0, 1, 0]), 3).tolist()
    [2.5, 1.0, 2.5]
    """
    rates = np.full(flows, np.inf)
    left = capacity.astype(float)
    while flow.size:
        users = np.bincount(resource, minlength=len(left))
        share = left / np.maximum(users, 1)
        tightest = np.full(flows, np.inf)
        np.minimum.at(tightest, flow, share[resource])
        least = np.full(len(left), np.inf)
        np.minimum.at(least, resource, tightest[flow])
        is_full = share <= least * _CLOSE
        settled = np.zeros(flows, bool)
        settled[flow[is_full[resource]]] = True
        rates[settled] = tightest[settled]
        leaving = settled[flow]
        taken = np.bincount(resource[leaving], weights=rates[flow[leaving]], minlength=len(left))
        left = np.maximum(left - taken, 0.0)
        flow, resource = flow[~leaving], resource[~leaving]
    return rates
