"""The examples in docstrings: each gives what it shows, in this process and in memory."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flexpie_mpi"
STARTS_MPI = ("runtime/mpi.py", "__main__.py")


def with_examples() -> list[str]:
    """Places of the modules that show an example."""
    return sorted(
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text("utf-8")
    )


@pytest.mark.parametrize("place", with_examples())
def test_examples(place: str) -> None:
    assert place not in STARTS_MPI, "an example there would start MPI in the process that launches the ranks"
    parts = place.removesuffix(".py").removesuffix("/__init__").split("/")
    parts = [] if parts == ["__init__"] else parts
    found = doctest.testmod(importlib.import_module(".".join([PACKAGE.name, *parts])))
    assert found.attempted > 0, "the examples are in no docstring that doctest finds"
    assert found.failed == 0, f"{found.failed} of {found.attempted} examples differ; see the captured output"


def test_examples_are_found() -> None:
    assert {"core/region.py", "core/layout.py"} <= set(with_examples())
