"""Analytic prices: weights streamed and a roofline for fused groups, lines for session calls and for exchanges.

========  ====================================================================
group     ``overhead + weights / weights_per_s + max(computing, moving) + epilogue``
call      ``call + groups * group + values * value + bytes / bytes_per_s``
exchange  ``kind + messages * message + latency + wire + bytes and runs copied``
========  ====================================================================

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

KERNEL_CONSTANTS = (
    *("overhead_s", "flops_per_s", "bytes_per_s", "followers_per_s", "weights_per_s", "far_bytes_per_s", "padding"),
)
CALL_CONSTANTS = ("call_s", "kernel_s", "value_s", "bytes_per_s", "blocked_bytes_per_s")
EXCHANGE_CONSTANTS = (*(f"{kind}_s" for kind in KINDS), "message_s", "port_bytes_per_s", "own_bytes_per_s", "run_s")

BLOCK = 16
"""Channels that kernels compute together, about."""

CACHE_BYTES = 1 << 20
"""What a core's own cache holds of values from one kernel to the next, about."""

ANY = "any"
"""The family of operators that have no other."""

_PRODUCTS = (
    "MatMul",
    "Gemm",
    "MatMulInteger",
    "QLinearMatMul",
    "MatMulNBits",
    "QGemm",
    "Einsum",
    "LSTM",
    "GRU",
    "RNN",
) + ("Attention", "GroupQueryAttention", "MultiHeadAttention")
_CONVOLUTIONS = ("ConvTranspose", "ConvInteger", "QLinearConv")

_KERNELS: Mapping[str, Constants] = {
    "Conv": (5e-6, 20e9, 8e9, 4e9, 12e9, 8e9, 0.5),
    "Conv/depthwise": (5e-6, 5e9, 8e9, 4e9, 12e9, 8e9, 0.5),
    "MatMul": (5e-6, 20e9, 8e9, 4e9, 12e9, 8e9, 0.5),
    "LRN": (3e-6, 50e6, 8e9, 4e9, 12e9, 8e9, 0.5),  # raises every element to a power
    ANY: (3e-6, 2e9, 8e9, 4e9, 12e9, 8e9, 0.5),
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
        """Constants (n, 7) of operators, given as an array (n,) of bytes."""
        labels, inverse = np.unique(ops, return_inverse=True)
        constants = [self._constants(label.decode()) for label in labels]
        return np.array(constants).reshape(-1, len(KERNEL_CONSTANTS))[inverse]

    def _constants(self, op: str) -> Constants:
        return self.kernels.get(op) or self.kernels.get(family(op)) or self.kernels[ANY]


def kernel_s(constants: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Seconds (n,) of fused groups on one core, for constants (7,) or (n, 7) and an array (n,) of `WORK`.

    Weights come from memory whatever the rows, and no computing hides that. What is read and written of values is
    hidden by computing, or the other way round; what of it no cache holds is slower. The last block of channels is
    computed in full, however few of its channels exist: `padding` is the part of that which costs time.
    """
    overhead, flops_per_s, bytes_per_s, followers_per_s, weights_per_s, far_per_s, padding = np.moveaxis(
        constants, -1, 0
    )
    computing = work["flops"] * (1 + padding * (waste(work["out_channels"], BLOCK) - 1)) / flops_per_s
    values = touched_bytes(work) - work["weight_bytes"]
    moving = values / bytes_per_s + np.maximum(values - CACHE_BYTES, 0.0) / far_per_s
    epilogue = work["followers"] * elements(work) / followers_per_s
    return overhead + work["weight_bytes"] / weights_per_s + np.maximum(computing, moving) + epilogue


def waste(channels: np.ndarray, block: int) -> np.ndarray:
    """How much larger channels (n,) become when their last block is filled; at least 1."""
    some = np.maximum(channels, 1.0)
    larger: np.ndarray = np.ceil(some / block) * block / some
    return larger


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
