"""Equal to one onnxruntime session? Networks x layouts x fusion x ranks, all ranks of a job in one process.

``python bench/exactness.py [MODEL ...] [--ranks 1,2,3,4,6,8] [--layouts rows,columns,...] [--fusions free,none]
[--boundaries auto,nchw,mixed]``

A MODEL is a file, ``builtin:NAME``, or one of the nine networks that the onnx wheel ships, such as ``light_resnet50``
(with random weights in place of its constant ones); without any, all of these. A row is a network and a layout; a cell
is the largest difference over all outputs, fusions and boundaries, relative to the output's largest magnitude. The
promise is 1e-4. A layout may be one that a search finds, such as ``auto``, for slow boards on a fast network. With
``mixed`` boundaries every second rank keeps values row-major, the others in blocks. The last line says how many plans
have every output bitwise that of the session.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from flexpie_mpi import Engine, Model, Plan, layout_plan, load, run_ranks
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model.zoo import materialise, names
from flexpie_mpi.runtime.loopback import LoopbackTransport
from tests.models import LIGHT, with_random_weights
from tests.planners import SEARCHING, planned

LIMIT = 1e-4


def sources(chosen: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of every network, written into `folder` one at a time."""
    light = {path.stem: path for path in LIGHT}
    for name in chosen or [*(f"builtin:{name}" for name in names()), *light]:
        if name in light:
            yield name, with_random_weights(light[name], folder / light[name].name)
        elif name.startswith("builtin:"):
            yield name, materialise(name.removeprefix("builtin:"), folder)
        else:
            yield name, Path(name)


def plain(path: Path, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Outputs of one session on the original file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def outputs_of(model: Model, plan: Plan, inputs: dict[str, Any], boundaries: str) -> dict[str, np.ndarray]:
    """Outputs of a plan."""
    by_rank = ("blocked", "nchw") if boundaries == "mixed" else (boundaries, boundaries)

    def run(transport: LoopbackTransport) -> dict[str, np.ndarray]:
        engine = Engine(transport, model, plan, boundaries=by_rank[transport.rank % 2])
        outputs = {name: np.array(array) for name, array in engine.run(inputs).items()}
        engine.close()
        return outputs

    return run_ranks(plan.ranks, run, deadline_s=600)[plan.root]


def difference(outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Largest difference relative to each output's largest magnitude; infinite where that is 0 and shows nothing."""
    if outputs.keys() != expected.keys():
        return float("inf")
    found = [np.abs(outputs[name] - value).max() / (np.abs(value).max() or np.nan) for name, value in expected.items()]
    return float(np.max(found)) if np.isfinite(found).all() else float("inf")


def main() -> int:
    """Print the table; 1 when the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--ranks", default="1,2,3,4,6,8")
    parser.add_argument("--layouts", default="rows,columns,grid,channels,single")
    parser.add_argument("--fusions", default="free,none")
    parser.add_argument("--boundaries", default="auto")
    options = parser.parse_args()
    ranks = [int(count) for count in options.ranks.split(",")]
    print(f"{'network':24}{'layout':10}" + "".join(f"{f'{count} ranks':>10}" for count in ranks))
    worst, cases, bitwise = 0.0, 0, 0
    folder = TemporaryDirectory()
    for name, path in sources(options.models, Path(folder.name)):
        model = load(str(path))
        inputs = random_inputs(model.graph, seed=1)
        expected = plain(path, inputs)
        for layout in options.layouts.split(","):
            row = []
            for count in ranks:
                if layout in SEARCHING:
                    plans = [planned(model.graph, count, layout)]
                else:
                    plans = [layout_plan(model.graph, count, layout, fusion=f) for f in options.fusions.split(",")]
                made = [
                    outputs_of(model, plan, inputs, boundaries)
                    for plan in plans
                    for boundaries in options.boundaries.split(",")
                ]
                row.append(max(difference(outputs, expected) for outputs in made))
                cases += len(made)
                bitwise += sum(
                    all(np.array_equal(outputs[name], value) for name, value in expected.items()) for outputs in made
                )
            worst = max(worst, *row)
            print(
                f"{Path(name.removeprefix('builtin:')).stem:24}{layout:10}" + "".join(f"{cell:10.1e}" for cell in row),
                flush=True,
            )
    said = f"{options.fusions.replace(',', ' and ')} fusion and {options.boundaries.replace(',', ' and ')} boundaries"
    print(f"{cases} plans of {said}; largest difference {worst:.1e}, {bitwise} bitwise equal")
    return 1 if worst > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
