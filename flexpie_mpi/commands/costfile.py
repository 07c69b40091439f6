"""The cost model of a suite: given, kept beside its results, or measured on this machine before the first cell."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import CostError
from ..cost.model import CostModel
from ..cost.traces import Traces
from ..emulate import available_cores
from ..emulate.launch import AS_ROOT, find_library
from .basis import late, read_traces

MEASURED = "measured"
"""Key in the provenance of a cost model that was measured for a suite: where and for how long, in words."""

EMULATED_SHARE = 0.25
"""Of the time to measure, so much goes to the first emulated boards: messages take another way there."""


_QUIETLY = ("sh", "-c", 'exec "$0" "$@" > /dev/null')
"""Before a command whose summary nobody asked for; what goes wrong is still said on stderr."""


def in_words(cost: CostModel, source: str) -> str:
    """Where a cost model came from, with what it knows of it itself."""
    measured = cost.provenance.get(MEASURED)
    return f"{source}, {measured}" if measured else source


@dataclass
class CostFile:
    """The cost model of one file of results.

    Parameters
    ----------
    args : Namespace
        ``output``, ``cost``, ``traces``.
    tell : callable
        Is told what goes on.
    """

    args: argparse.Namespace
    tell: Callable[[str], None]

    @property
    def path(self) -> Path:
        """Of what is measured or fitted here: ``results.cost.json`` beside ``results.jsonl``."""
        return Path(self.args.output).with_suffix(".cost.json")

    @property
    def traces(self) -> Path:
        """Of the traces behind it."""
        return Path(self.args.output).with_suffix(".traces.h5")

    def given(self) -> str | None:
        """The file that the command line asks for; None when it asks for none.

        Raises
        ------
        CostError
            When a file cannot be used.
        """
        if self.args.cost is not None:
            late("cost.file").load_cost(self.args.cost)
            return str(self.args.cost)
        if self.args.traces is None:
            return None
        traces = read_traces(self.args.traces)
        assert traces is not None, "the option takes one file at least"
        self._fit(traces, f"fitted to {', '.join(self.args.traces)}")
        return str(self.path)

    def known(self) -> str | None:
        """The file that is given, or that an earlier run has left; None when there is none.

        Raises
        ------
        CostError
            When a file cannot be used.
        """
        given = self.given()
        if given is not None or not self.path.exists():
            return given
        late("cost.file").load_cost(self.path)
        return str(self.path)

    def measure(self, words: Sequence[str], budget_s: float) -> None:
        """Measure on this machine as it is, on two ranks where it has two cores.

        Parameters
        ----------
        words : sequence of str
            Of ``flexpie-mpi trace``: models, and where to cache them.
        budget_s : float

        Raises
        ------
        CostError
            When that fails.
        EmulationError
            When there is no mpirun.
        """
        ranks, library = str(min(2, available_cores())), find_library()
        anyhow = ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"] if library.name == "openmpi" else []
        command = [library.mpirun, *anyhow, "-n", ranks, *self.trace_words(words, budget_s)]
        environment = {**os.environ, **AS_ROOT}
        code = subprocess.run(command, env=environment, check=False).returncode
        if code:
            raise CostError(
                f"measuring for the cost model ended with exit code {code}: give --cost, or see what "
                f"'flexpie-mpi trace --output {self.traces}' says"
            )

    def trace_words(self, words: Sequence[str], budget_s: float) -> list[str]:
        """The command that measures, quietly; what the file of traces has already stays."""
        program = [*_QUIETLY, sys.executable, "-m", "flexpie_mpi", "trace"]
        return [*program, *words, "--output", str(self.traces), "--budget", f"{budget_s:g}"]

    def fit(self, measured: str) -> str:
        """Fit what was measured, and return the path of the cost model.

        Raises
        ------
        CostError
            When the traces hold no kernel.
        """
        self.tell("fitting a cost model")
        self._fit(Traces.read(self.traces), measured)
        return str(self.path)

    def _fit(self, traces: Traces, measured: str) -> None:
        cost = late("cost.fit").fit(traces, self.tell)
        cost = replace(cost, provenance={**cost.provenance, MEASURED: measured})
        late("cost.file").save_cost(cost, self.path)
