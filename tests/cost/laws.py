"""Traces of machines that obey a known law, so that a fit can be judged by what is true."""

from __future__ import annotations

import numpy as np

from flexpie_mpi.cost.rows import CALL, CALL_TRACE, COMPUTE_TRACE, EXCHANGE_TRACE, KINDS, TRANSFER, WORK
from flexpie_mpi.cost.traces import Origin, Traces

OPS = np.array([b"Conv", b"Conv/1x1", b"Conv/depthwise", b"MatMul", b"Softmax"])
RATES = {b"Conv": 80e9, b"Conv/1x1": 60e9, b"Conv/depthwise": 12e9, b"MatMul": 50e9, b"Softmax": 1e9}
CHANNELS = (16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 512)


def work(rows: int, rng: np.random.Generator, channels=CHANNELS) -> np.ndarray:
    """Random rows of WORK that agree with themselves."""
    made = np.zeros(rows, WORK)
    made["op"] = op = rng.choice(OPS, rows)
    read, written = rng.choice(channels, rows), rng.choice(channels, rows)
    by_channel = (op == b"Conv/depthwise") | (op == b"Softmax")
    kernel = np.where((op == b"Conv") | (op == b"Conv/depthwise"), 3, 1)
    made["in_channels"] = np.where(op == b"Conv/depthwise", 1, read)
    made["out_channels"] = np.where(by_channel, read, written)
    made["groups"] = np.where(op == b"Conv/depthwise", read, 1)
    made["kernel_rows"] = made["kernel_columns"] = kernel
    made["stride"] = made["batch"] = 1
    made["out_columns"] = made["in_columns"] = rng.choice([7, 14, 28, 56], rows)
    made["out_rows"] = np.ceil(made["out_columns"] / rng.choice([1, 2, 3, 4], rows))
    made["in_rows"] = made["out_rows"] + kernel - 1
    elements = made["out_channels"] * made["out_rows"] * made["out_columns"]
    made["flops"] = 2 * elements * np.where(by_channel, 1, read) * kernel**2
    made["out_bytes"], made["in_bytes"] = 4 * elements, 4 * read * made["in_rows"] * made["in_columns"]
    made["weight_bytes"] = np.where(op == b"Softmax", 0, 4 * made["out_channels"] * made["in_channels"] * kernel**2)
    made["followers"] = rng.choice([0, 1], rows)
    return made


def kernels_s(rows: np.ndarray, active: np.ndarray) -> np.ndarray:
    """A machine with blocks of 16 channels, a cache, and a dislike of small maps."""
    rate = np.array([RATES[op] for op in rows["op"]])
    waste = np.ceil(rows["out_channels"] / 16) * 16 / rows["out_channels"]
    small = 1 + 0.8 / rows["out_rows"] + 0.3 * (rows["out_columns"] < 10)
    nbytes = rows["in_bytes"] + rows["out_bytes"] + rows["weight_bytes"]
    cache = 1 + 0.4 / (1 + np.exp(20 - np.log2(nbytes)))
    longer = np.maximum(rows["flops"] / rate * waste * small * cache, nbytes / 15e9)
    return active * (3e-6 + longer + rows["followers"] * rows["out_bytes"] / 4 / 8e9)


def calls(rows: int, rng: np.random.Generator) -> np.ndarray:
    made = np.zeros(rows, CALL)
    made["kernels"], made["inputs"], made["outputs"] = rng.integers(1, 20, rows), rng.integers(1, 3, rows), 1
    made["in_bytes"], made["out_bytes"] = 2.0 ** rng.uniform(10, 22, (2, rows))
    made["blocked"] = rng.integers(0, 2, rows)
    return made


def calls_s(rows: np.ndarray) -> np.ndarray:
    per_byte = np.where(rows["blocked"] > 0, 1 / 3e9, 1 / 10e9)
    return 12e-6 + 5e-7 * rows["kernels"] + (rows["in_bytes"] + rows["out_bytes"]) * per_byte


def transfers(rows: int, rng: np.random.Generator) -> np.ndarray:
    made = np.zeros(rows, TRANSFER)
    made["kind"] = rng.choice([kind.encode() for kind in KINDS[1:]], rows)
    made["ranks"] = rng.integers(2, 5, rows)
    made["messages"] = np.where(made["kind"] == b"halo", 2, made["ranks"] - 1)
    made["port_bytes"] = 2.0 ** rng.uniform(9, 21, rows)
    made["total_bytes"] = made["port_bytes"] * made["ranks"]
    made["local_bytes"] = made["port_bytes"] * rng.uniform(0, 3, rows)
    made["runs"] = np.floor(2.0 ** rng.uniform(0, 11, rows))
    made["latency_s"], made["wire_s"] = 2e-6 * made["messages"], made["port_bytes"] / 5e9
    return made


def transfers_s(rows: np.ndarray) -> np.ndarray:
    """Long messages shake hands."""
    messages = 4e-6 * rows["messages"] * np.where(rows["port_bytes"] > 65536, 1.5, 1.0)
    return 8e-6 + messages + rows["latency_s"] + rows["wire_s"] + rows["local_bytes"] / 6e9 + rows["runs"] * 2e-8


def traced(dtype: np.dtype, rows: np.ndarray, seconds: np.ndarray, active=1.0, origin=0) -> np.ndarray:
    """Rows with how they were measured."""
    made = np.zeros(len(rows), dtype)
    for name in rows.dtype.names:
        made[name] = rows[name]
    made["seconds"], made["active"], made["origin"] = seconds, active, origin
    made["repeats"], made["model"] = 5, b"made up"
    return made


def traces(seed=0, rows=1200, noise=0.03, factors=(1.0,)) -> Traces:
    """Measurements of all three laws, on devices that take `factors` times as long."""
    rng = np.random.default_rng(seed)

    def disturbed(seconds):
        return seconds * np.exp(noise * rng.standard_normal(len(seconds)))

    done, called, moved = work(rows, rng), calls(rows // 4, rng), transfers(rows // 4, rng)
    active, origin = rng.choice([1.0, 1.0, 2.0], rows), rng.integers(0, len(factors), rows)
    done_s = disturbed(kernels_s(done, active) * np.array(factors)[origin])
    return Traces(
        {
            "compute": traced(COMPUTE_TRACE, done, done_s, active, origin),
            "call": traced(CALL_TRACE, called, disturbed(calls_s(called)) * factors[0]),
            "exchange": traced(EXCHANGE_TRACE, moved, disturbed(transfers_s(moved))),
        },
        tuple(Origin("job", rank, cpu=f"cpu {rank}", onnxruntime="1.20") for rank in range(len(factors))),
    )
