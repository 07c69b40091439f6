"""Networks as rows of units: what crosses each cut, what units need of memory, and what work they are.

The four networks of the paper's evaluation come from tables of their candidate points, in `tables/`: one line per
point, in order, with the elements of its tensor, the layers that read it, and the parameters and elements of all
activations of the layers since the point before. A unit is a point with those layers, a cut may be behind every point.
Two ways to count bytes are told apart, `as-coded` and `corrected`. The project's own networks (`builtin:NAME`) are cut
wherever its planner may cut them, and have no way of counting but `corrected`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from flexpie_mpi.lower.shards import Growing
from flexpie_mpi.model import load
from flexpie_mpi.planner.rules import ROOT
from flexpie_mpi.planner.units import units

TABLES = Path(__file__).with_name("tables")
PAPER = ("MobileNetV2", "EfficientNetB1", "ResNet50", "InceptionResNetV2")
BUILTIN = "builtin:"

AS_CODED, CORRECTED = "as-coded", "corrected"
MEBIBIT, MEGABIT = 2**20, 10**6


@dataclass(frozen=True, eq=False)
class Row:
    """A network as a row of m units.

    Attributes
    ----------
    crossing : array (m + 1,)
        Bytes sent at each cut. Nothing counts at the first and the last: the paper's dispatcher sends for nothing.
    need_bytes : array (m + 1, m + 1)
        ``[i, j]`` is what units ``[i, j)`` need on one board.
    flops : array (m,) or None
        Work of each unit, where it is known.
    megabit : int
        Bits that a link of 1 Mbit/s carries in a second.
    """

    crossing: np.ndarray
    need_bytes: np.ndarray
    flops: np.ndarray | None
    megabit: int

    @property
    def units(self) -> int:
        return len(self.crossing) - 1


@cache
def network(name: str, accounting: str) -> Row:
    """The row of a network: `name` is one of `PAPER`, ``builtin:NAME``, or ``chain:SPREAD:SEED``."""
    if name.startswith(BUILTIN):
        return own(name, accounting)
    return ACCOUNTINGS[accounting](points(name))


@cache
def points(name: str) -> np.ndarray:
    """The table of a network: array (points, 4) of elements, consumers, parameters, activation elements."""
    return np.loadtxt(TABLES / f"{name}.csv", delimiter=",", skiprows=1, dtype=np.int64)


def as_coded(table: np.ndarray) -> Row:
    """As the paper's code counts.

    A tensor is sent once for each layer that reads it, as numbers of 8 bytes compressed 1.44 times. A parameter takes
    one byte of memory and an activation four, none is ever freed, and the layers between the two points of a cut are
    charged to neither side. A Mbit is 2^20 bits.
    """
    elements, consumers, parameters, activations = table.T
    crossing = np.concatenate([[0.0], consumers * elements * 8 / 1.44])
    need = _sums(4.0 * activations + parameters)
    need[:-1] = need[1:]  # the layers before the first point of a stage are nobody's
    return Row(_inner(crossing), np.maximum(need, 0.0), None, MEBIBIT)


def corrected(table: np.ndarray) -> Row:
    """What running the stages would take, as far as the table knows.

    A tensor is sent once, four bytes an element, without compression: answers are to be exact, and a factor on all
    bytes changes no ratio. Parameters and activations take four bytes each, the layers before a point are in its unit.
    That no activation is freed stays: the table does not say which could be. A Mbit is 10^6 bits, as for any link.
    """
    elements, _, parameters, activations = table.T
    crossing = np.concatenate([[0.0], 4.0 * elements])
    return Row(_inner(crossing), _sums(4.0 * (activations + parameters)), None, MEGABIT)


ACCOUNTINGS: dict[str, Callable[[np.ndarray], Row]] = {AS_CODED: as_coded, CORRECTED: corrected}


def own(name: str, accounting: str) -> Row:
    """A network of the project's zoo: all values alive at a cut cross it, weights and outputs take memory."""
    if accounting != CORRECTED:
        raise ValueError(f"{name} has no table of points, so {accounting} says nothing about it")
    graph = load(name).graph
    cut = units(graph)
    crossing = np.array([float(sum(graph.value(value).nbytes for value in alive)) for alive in cut.alive])
    memory, flops = [], []
    for first, end in pairwise(cut.ends):
        nodes = graph.nodes[first:end]
        weights = {value for node in nodes for value in node.reads if graph.value(value).is_constant}
        made = [value for node in nodes for value in node.writes if not graph.value(value).is_constant]
        memory.append(float(sum(graph.value(value).nbytes for value in (*weights, *made))))
        part = Growing(graph, first, ROOT, 0)
        part.grow(end)
        flops.append(float(part.flops))
    return Row(_inner(crossing), _sums(np.array(memory)), np.array(flops), MEGABIT)


def random_chain(spread: float, seed: tuple[int, ...], units_: int = 24) -> Row:
    """Equal units, and tensors of up to 16 Mbit whose sizes spread log-uniformly over a factor; one byte per unit."""
    numbers = np.random.default_rng(seed)
    crossing = 2e6 * spread ** -numbers.random(units_ + 1)
    return Row(_inner(crossing), _sums(np.ones(units_)), None, MEGABIT)


def _sums(of_units: np.ndarray) -> np.ndarray:
    """Sums over the units ``[i, j)``, 0 where there are none: array (m + 1, m + 1)."""
    before = np.concatenate([[0.0], np.cumsum(of_units)])
    return np.maximum(before[None, :] - before[:, None], 0.0)


def _inner(crossing: np.ndarray) -> np.ndarray:
    crossing[[0, -1]] = 0.0
    return crossing
