"""What tests of emulation share: an eye on what they leave behind."""

from __future__ import annotations

import os

import pytest

from flexpie_mpi.emulate.cleanup import SPACES, abandoned, is_abandoned, prefix_of, scratch
from flexpie_mpi.emulate.system import memory_here


@pytest.fixture
def leaves_nothing(namespaces):
    """After the test nothing of it is there: namespaces with their interfaces, processes, control groups, files."""
    yield
    assert remains() == []


def remains() -> list[str]:
    """What is left of this process, and of those that are gone."""
    memory = memory_here()
    names = [*_listed(SPACES), *_listed(scratch("")), *(memory.names() if memory else ())]
    mine = f"flexpie-{os.getpid()}-"
    found = [name for name in names if (prefix := prefix_of(name)) and (is_abandoned(prefix) or name.startswith(mine))]
    return found + abandoned()


def _listed(folder) -> list[str]:
    return os.listdir(folder) if folder.exists() else []
