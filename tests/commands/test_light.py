"""A rank imports only what it uses."""

from __future__ import annotations

import json
import sys

import pytest

from flexpie_mpi import layout_plan, load
from tests.launch import PROGRAMS, run

TINY = "builtin:tiny_cnn"
PROGRAM = str(PROGRAMS / "modules_program.py")
PLANNING = ("planner", "pipeline", "placement", "cost", "simulate", "suite", "emulate")


def imported(folder, rank):
    """Rooms and modules of the package that a rank has imported, and other packages."""
    modules = json.loads((folder / f"{rank}.json").read_text())
    parts = [name.split(".") for name in modules]
    rooms = {part[1] for part in parts if part[0] == "flexpie_mpi" and len(part) > 1}
    return rooms, {part[0] for part in parts}, {".".join(part[1:]) for part in parts if part[0] == "flexpie_mpi"}


@pytest.mark.mpi
@pytest.mark.parametrize("stream", [[], ["--requests", "4"]])
def test_ranks_that_are_given_their_plan_import_no_planner(mpirun, tmp_path, stream):
    plan = tmp_path / "plan.json"
    plan.write_text(layout_plan(load(TINY).graph, 2, "rows").to_json())
    words = ["infer", "--model", TINY, "--plan", str(plan), *stream, "--json", str(tmp_path / "run.json")]
    done = mpirun.outcome(2, PROGRAM, str(tmp_path), *words)
    assert done.code == 0, done
    for rank in (0, 1):
        rooms, packages, _ = imported(tmp_path, rank)
        assert not rooms & {*PLANNING} and not packages & {"lightgbm", "matplotlib"}
    rooms, packages, modules = imported(tmp_path, 1)
    assert "report" not in rooms and not packages & {"rich", "h5py", "PIL"} | ({"files.inputs"} & modules)
    assert not modules & {"model.load", "model.prepare", "model.read", "model.zoo"}


def test_who_inspects_imports_no_planner(tmp_path):
    done = run([sys.executable, PROGRAM, str(tmp_path), "inspect", TINY])
    assert done.code == 0, done
    rooms, packages, _ = imported(tmp_path, 0)
    assert not rooms & {"planner", "pipeline", "placement", "simulate", "suite", "emulate", "measure"}
    assert not packages & {"mpi4py", "lightgbm", "matplotlib", "h5py", "PIL"}
