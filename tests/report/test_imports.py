"""Reports show what they are given: they compute nothing themselves, and load nothing that they do not show."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flexpie_mpi.report
from tests.launch import LIMIT_S

COMPUTING = {"lower", "turns_of", "price", "make_plans", "layout_plan", "explain", "why", "replay", "simulate"}
"""Functions that make, price or run plans."""

MODULES = sorted(Path(flexpie_mpi.report.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_report_makes_and_prices_nothing(path):
    imports = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    assert not COMPUTING & {alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("name", ["models", "plans", "run", "streams", "pipelines", "cells"])
def test_who_shows_a_plan_or_a_run_loads_no_planner_and_draws_nothing(name):
    rooms = ("planner", "pipeline", "placement", "cost", "simulate", "session", "measure", "model", "runtime")
    program = (
        f"import sys, flexpie_mpi.report.{name}\n"
        f"print([name for name in sys.modules if name.split('.')[1:2] in {[[room] for room in rooms]!r}\n"
        "    and name.startswith('flexpie_mpi.') or name in ('matplotlib', 'onnx', 'onnxruntime', 'mpi4py')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout.strip() == "[]"
