"""The names that the package offers."""

from __future__ import annotations

import pytest

import flexpie_mpi


@pytest.mark.parametrize("name", flexpie_mpi.__all__)
def test_every_name_is_there(name):
    assert getattr(flexpie_mpi, name).__name__ == name


def test_no_other_name_is():
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        flexpie_mpi.nobody  # noqa: B018
