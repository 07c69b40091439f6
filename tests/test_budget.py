"""What a file may ask for is weighed, and what a library takes for it is held to a limit."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from flexpie_mpi.core.budget import Budget, at_most
from flexpie_mpi.core.errors import DataError


def test_more_than_the_budget_is_an_error_of_whoever_asks():
    Budget(100).admit(100, "it", DataError)
    with pytest.raises(DataError, match=r"it would take .* allow more with --memory"):
        Budget(100).admit(101, "it", DataError)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one that Linux has")
def test_a_block_takes_no_more_than_it_may_and_the_next_one_does():
    with at_most(64 << 20), pytest.raises(MemoryError):
        np.ones(1 << 30, np.uint8)
    assert np.ones(128 << 20, np.uint8).all()
