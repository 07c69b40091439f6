"""Figures that the authors of the placement paper published, and what became of the zeros among them.

"Partitioning and Placement of Deep Neural Networks on Distributed Edge Devices to Maximize Inference Throughput"
(arXiv 2210.12219), as in the tables beside its code: mean bottleneck in seconds of 50 trials, 20 classes of bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from ratios import CellResults

COUNTS = (5, 10, 15, 20, 50)
_ROWS = """
MobileNetV2        64   .0577/.0586/2.44  .0478/.0461/1.54  .0423/.0410/2.18  .0392/.0390/2.34  .0326/.0331/2.20
EfficientNetB1     64   .430/.404/4.13    .324/.325/3.96    .287/.289/3.85    .268/.270/4.94    .225/.227/4.70
EfficientNetB1     128  .0852/.0836/2.84  .0668/.0692/2.45  .0584/.0593/2.18  .0574/.0542/2.09  .0477/.0476/2.61
ResNet50           64   2.40/2.45/6.90    1.89/1.91/7.26    1.65/1.65/7.01    1.53/1.55/7.85    1.31/1.31/7.97
ResNet50           128  .970/.944/4.52    .764/.738/4.40    .664/.666/4.54    .630/.625/5.37    .532/.536/4.25
InceptionResNetV2  64   -                 2.29/2.09/10.1    1.92/1.82/9.76    1.83/1.68/10.4    1.52/1.38/10.9
InceptionResNetV2  128  2.56/2.49/9.32    1.96/1.83/8.14    1.69/1.59/7.96    1.59/1.52/8.54    1.34/1.24/7.83
InceptionResNetV2  256  1.45/1.50/5.42    1.18/1.18/6.50    1.06/1.04/5.89    .983/1.00/5.73    .820/.826/5.41
"""
"""Network, MiB, and for each of `COUNTS` boards the seconds of `SOLVERS`; infeasible where there is a dash."""

SOLVERS = ("kpath", "greedy", "random")
PLOTTED = ("ResNet50", "InceptionResNetV2")
"""Networks in the paper's figures, from which its headline comes."""

CLAIM_GREEDY, CLAIM_RANDOM = 0.35, 10.0
"""The abstract: so much less than the joint baseline takes, and so many times less than a random one."""


def _published() -> Mapping[tuple[str, int, int], Mapping[str, float]]:
    seconds = {}
    for line in _ROWS.strip().splitlines():
        model, size, *entries = line.split()
        for boards, entry in zip(COUNTS, entries, strict=True):
            if entry != "-":
                seconds[model, int(size), boards] = dict(zip(SOLVERS, map(float, entry.split("/")), strict=True))
    return seconds


PUBLISHED = _published()
"""Seconds by solver, by (network, MiB, boards)."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The mean of ``kpath`` against those of two baselines, over cells.

    `less_than_greedy` is the share by which it is smaller, negative where it is larger; `random_times` how many times
    as long ``random`` takes.
    """

    less_than_greedy: float
    random_times: float


@dataclass(frozen=True, slots=True)
class Artefact:
    """The headline as published, with the 0 s of cells that need one board only averaged in, and without them."""

    zeros: int
    cells: int
    with_zeros: Headline
    without: Headline


def artefact(seconds: Iterable[Mapping[str, float]], zeros: int) -> Artefact:
    """What `zeros` cells of 0 s do to the mean of ``kpath``; those of the baselines never had them.

    >>> zeros = artefact([{"kpath": 1.0, "greedy": 1.0, "random": 4.0}], 1)
    >>> zeros.with_zeros, zeros.without
    (Headline(less_than_greedy=0.5, random_times=8.0), Headline(less_than_greedy=0.0, random_times=4.0))
    """
    rows = list(seconds)
    kpath, greedy, random = ([row[name] for row in rows] for name in SOLVERS)
    padded = fmean([*kpath, *[0.0] * zeros])
    return Artefact(
        zeros,
        len(rows),
        Headline(1 - padded / fmean(greedy), fmean(random) / padded),
        Headline(1 - fmean(kpath) / fmean(greedy), fmean(random) / fmean(kpath)),
    )


def published_artefact() -> Artefact:
    """Of the figures that were published: three of eight cells of the two plotted networks need one board only."""
    return artefact(
        (row for (model, _, boards), row in PUBLISHED.items() if model in PLOTTED and boards == COUNTS[-1]), 3
    )


def repeated_artefact(cells: Iterable[CellResults]) -> Artefact | None:
    """The same done to the same cells of trials made here; None where some solver or all cells are missing."""
    those = [cell for cell in cells if cell.model in PLOTTED and cell.boards == COUNTS[-1]]
    rows = [{name: cell.seconds(name) for name in SOLVERS} for cell in those if cell.compared]
    whole = [{name: seconds for name, seconds in row.items() if seconds is not None} for row in rows]
    if not whole or any(len(row) < len(SOLVERS) for row in whole):
        return None
    return artefact(whole, sum(not cell.compared and bool(cell.alone) for cell in those))
