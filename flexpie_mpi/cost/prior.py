"""Analytic prices: a roofline for fused groups, a line for session calls, latency plus volume for exchanges.

========  =============================================================================
group     ``overhead + max(flops / flops_per_s, bytes / bytes_per_s) + epilogue``
call      ``call + groups * group + values * value + bytes / bytes_per_s``
exchange  ``kind + messages * message + latency + wire + bytes and runs copied``
========  =============================================================================

Groups and calls take ``active ** crowding`` times as long where ranks share cores. A learned model corrects these
prices by a factor, so their form is what extrapolates; constants come from traces, or are those of an ordinary core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .model import CostModel
from .rows import KINDS

Constants = tuple[float, ...]

KERNEL_CONSTANTS = ("overhead_s", "flops_per_s", "bytes_per_s", "followers_per_s")
CALL_CONSTANTS = ("call_s", "kernel_s", "value_s", "bytes_per_s", "blocked_bytes_per_s")
EXCHANGE_CONSTANTS = (*(f"{kind}_s" for kind in KINDS), "message_s", "port_bytes_per_s", "own_bytes_per_s", "run_s")

ANY = "any"
"""The family of operators that have no other."""

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum", "LSTM", "GRU", "RNN")
_CONVOLUTIONS = ("ConvTranspose", "ConvInteger", "QLinearConv")

_KERNELS: Mapping[str, Constants] = {
    "Conv": (5e-6, 20e9, 8e9, 4e9),
    "Conv/depthwise": (5e-6, 5e9, 8e9, 4e9),
    "MatMul": (5e-6, 20e9, 8e9, 4e9),
    ANY: (3e-6, 2e9, 8e9, 4e9),
}
_CALL: Constants = (10e-6, 1e-6, 1e-6, 8e9, 4e9)
_EXCHANGE: Constants = (2e-6, 10e-6, 10e-6, 10e-6, 20e-6, 15e-6, 20e9, 8e9, 10e-9)


def family(op: str) -> str:
    """The operators whose constants serve one that nobody has measured.

    >>> family("Conv/1x1"), family("Gemm"), family("Softmax")
    ('Conv', 'MatMul', 'any')
    """
    if op.startswith("Conv/") or op in ("Conv", *_CONVOLUTIONS):
        return "Conv"
    return "MatMul" if op in _PRODUCTS else ANY


@dataclass(frozen=True)
class AnalyticCost(CostModel):
    """A :class:`flexpie_mpi.cost.model.CostModel` of formulas only; without arguments, of an ordinary core."""

    # `KERNEL_CONSTANTS` by the label of an operator; those of `ANY` and of families serve the labels left out
    kernels: Mapping[str, Constants] = field(default_factory=lambda: dict(_KERNELS))
    call: Constants = _CALL  # `CALL_CONSTANTS`
    exchange: Constants = _EXCHANGE  # `EXCHANGE_CONSTANTS`
    crowding: float = 1.0  # what ranks on the same cores cost each other: 1 when cores are shared and nothing is lost

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of fused groups, float array (n,); see the base class."""
        return kernel_s(self.constants_of(work["op"]), work) * active**self.crowding

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of session calls, float array (n,)."""
        return call_s(np.array(self.call), calls) * active**self.crowding

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        """Seconds of exchanges, float array (n,)."""
        return exchange_s(np.array(self.exchange), transfers)

    def constants_of(self, ops: np.ndarray) -> np.ndarray:
        """Constants (n, 4) of operators, given as an array (n,) of bytes."""
        labels, inverse = np.unique(ops, return_inverse=True)
        return np.array([self._constants(label.decode()) for label in labels]).reshape(-1, 4)[inverse]

    def _constants(self, op: str) -> Constants:
        return self.kernels.get(op) or self.kernels.get(family(op)) or self.kernels[ANY]


def kernel_s(constants: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Seconds (n,) of fused groups on one core, for constants (4,) or (n, 4) and an array (n,) of `WORK`."""
    overhead, flops_per_s, bytes_per_s, followers_per_s = np.moveaxis(constants, -1, 0)
    epilogue = work["followers"] * elements(work) / followers_per_s
    return overhead + np.maximum(work["flops"] / flops_per_s, touched_bytes(work) / bytes_per_s) + epilogue


def touched_bytes(work: np.ndarray) -> np.ndarray:
    """Bytes (n,) that each group reads and writes once."""
    return work["in_bytes"] + work["weight_bytes"] + work["out_bytes"] * (1 + work["sums"])


def elements(work: np.ndarray) -> np.ndarray:
    """Elements (n,) that each group computes."""
    return work["batch"] * work["out_channels"] * work["out_rows"] * work["out_columns"]


def call_s(constants: np.ndarray, calls: np.ndarray) -> np.ndarray:
    """Seconds (n,) of session calls on one core, for constants (5,) and an array (n,) of `CALL`."""
    call, kernel, value, plain, blocked = constants
    moved = relaid_bytes(calls) / np.where(calls["blocked"] > 0, blocked, plain)
    return call + kernel * calls["kernels"] + value * (calls["inputs"] + calls["outputs"]) + moved


def relaid_bytes(calls: np.ndarray) -> np.ndarray:
    """Bytes (n,) that each call takes or gives row-major, of an array (n,) of `CALL`."""
    relaid: np.ndarray = calls["in_bytes"] + calls["out_bytes"] - calls["laid_bytes"]
    return relaid


def exchange_s(constants: np.ndarray, transfers: np.ndarray) -> np.ndarray:
    """Seconds (n,) of exchanges, for constants (9,) and an array (n,) of `TRANSFER`.

    The links' own price stays as it is: constants are what the software adds to it on any link.
    """
    begin = constants[: len(KINDS)][kind_numbers(transfers)]
    message, port, own, run = constants[len(KINDS) :]
    software = begin + message * transfers["messages"]
    copied = transfers["port_bytes"] / port + transfers["local_bytes"] / own + transfers["runs"] * run
    return software + transfers["latency_s"] + transfers["wire_s"] + copied


def kind_numbers(transfers: np.ndarray) -> np.ndarray:
    """The place of each transfer's kind in `KINDS`, int array (n,); an unknown kind counts as the last, the dearest."""
    known = transfers["kind"][:, None] == np.array(KINDS, "S8")
    return np.where(known.any(axis=1), known.argmax(axis=1), len(KINDS) - 1)
