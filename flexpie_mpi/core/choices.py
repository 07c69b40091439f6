"""The names by which a plan is asked for.

They stand apart from the planners (:mod:`flexpie_mpi.planner`), so that the command line, files of studies and reports
know them without importing a search.
"""

from __future__ import annotations

from dataclasses import dataclass

from .layout import KINDS

AUTO = "auto"
"""The planner that is taken when none is asked for."""

OF_SEQUENCES = {
    "megatron": "attention by heads, products in pairs by columns and rows, sums left in parts",
    "sequence": "tokens everywhere, keys and values gathered",
}
"""Rules for models of sequences, with a line about each."""

PRESETS = (*(kind for kind in KINDS if kind != "replicated"), *OF_SEQUENCES)
"""Rules that make a plan: one layout wherever it can be, or one for models of sequences."""

FUSIONS = ("free", "none", "all-legal")
"""How a rule fuses. ``free``: as long as nothing is computed twice; ``none``: every node alone;
``all-legal``: as long as the layout stays the same, whatever is computed twice. A number K means up to K nodes."""

PLANNERS = {
    AUTO: "any layout, team of ranks, shares and fusion: the fastest that is predicted",
    "flexpie": "FlexPie: four layouts, fusion, all ranks, equal shares",
    "fused": "AOFL, EdgeCI: one layout, fusion",
    "layerwise": "DINA, PartialDI: four layouts, no redundant work",
    **{preset: f"{preset} wherever an operator allows it" for preset in PRESETS if preset not in OF_SEQUENCES},
    **OF_SEQUENCES,
    "random": "a random legal plan, for tests",
}
"""Every planner, with a line about it. MoDNN and DeepSlicing cut ``rows``, DeepThings ``grid``, Xenos ``channels``."""

SEARCHING = tuple(name for name in PLANNERS if name not in (*PRESETS, "random"))
"""Planners that ask a cost model; the others follow a rule."""

BOUNDARIES = ("auto", "nchw", "blocked")
"""Forms of values between segments. ``auto``: blocked where all ranks of the job compute in blocks of as many channels;
``nchw``: row-major; ``blocked``: blocked on every rank that computes in blocks, whatever the others do."""


@dataclass(frozen=True, slots=True)
class StateChoice:
    """Which outputs of a model are what its next request reads, and stay where they are computed."""

    # ``OUTPUT=INPUT`` with any text where both have a ``*``, ``=INPUT``, which no request changes, or ``auto``: the
    # usual names
    patterns: tuple[str, ...] = ()
    most: int | None = None  # positions that there is room for in states that grow; then patterns may be left out

    @property
    def is_made(self) -> bool:
        """Whether there is to be any state."""
        return bool(self.patterns) or self.most is not None


NO_STATES = StateChoice()
"""Every request of a model stands for itself."""
