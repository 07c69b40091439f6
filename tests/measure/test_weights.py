"""Made-up weights have the right sizes and harmless numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.measure.weights import SyntheticWeights
from flexpie_mpi.model import Model, load
from flexpie_mpi.model.weights import byte_length
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.executor import Executor
from flexpie_mpi.runtime.kernels import Sessions, make_kernel, make_provider
from flexpie_mpi.runtime.loopback import LoopbackTransport, run_ranks
from flexpie_mpi.runtime.provider import ProviderOptions


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_bert"])
@pytest.mark.parametrize("preset", ["rows", "channels"])
def test_outputs_are_ordinary_numbers(name: str, preset: str, tmp_path: Path) -> None:
    """A whole plan runs on them, and nothing in it becomes infinite, undefined, or too small to be computed fast."""
    source = load(f"builtin:{name}")
    plan = layout_plan(source.graph, 2, preset)

    def one_rank(transport: LoopbackTransport) -> list[np.ndarray]:
        model = Model.from_skeleton(source.skeleton())
        program = lower(plan, model.graph)[transport.rank]
        folder = tmp_path / str(transport.rank)
        folder.mkdir()
        sessions = Sessions(
            model, SyntheticWeights(folder).files(model, program.weights), make_provider("cpu", ProviderOptions())
        )

        def kernel(step, values):  # type: ignore[no-untyped-def]
            return make_kernel(sessions, program, step, values)

        executor = Executor(program, transport, kernel)
        return list(executor.run(random_inputs(model.graph)).values())

    for array in run_ranks(2, one_rank)[0]:
        assert np.isfinite(array).all()
        assert np.abs(array[array != 0]).min(initial=1.0) > np.finfo(np.float32).tiny


def test_files_grow_with_what_is_asked_of_them(tmp_path: Path) -> None:
    model = load("builtin:tiny_resnet")
    stored = [value for value in model.graph.constants if model.is_stored(value.name)]
    made = SyntheticWeights(tmp_path)
    for value in sorted(stored, key=lambda value: value.nbytes):
        files = made.files(model, [(value.name, None)])
        nbytes = byte_length(model.element_type(value.name), value.shape or ())
        assert (tmp_path / files.names[value.name, None]).stat().st_size >= (nbytes or 0)
    assert len(list(tmp_path.iterdir())) < len(stored)
