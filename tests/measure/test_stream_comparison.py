"""The comparison of a stream: every request compared, the first that differs named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.measure.compare import Findings, StreamComparison
from flexpie_mpi.model.equality import Check, compare


class Doubled:
    """A reference for a model that doubles; told to, it cannot run a request."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def compare(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> tuple[Check, ...]:
        if inputs["x"][0] == self.broken:
            raise ModelError("cannot run this")
        return (compare("y", outputs["y"], 2 * inputs["x"]),)


def judged(wrong: set[int], count: int = 20) -> Findings:
    comparison = StreamComparison(Doubled())
    output = np.empty(3)
    for number in range(count):
        inputs = np.full(3, float(number))
        output[:] = 2 * inputs + (number in wrong)
        comparison.add(number, {"x": inputs}, {"y": output})  # overwritten by the next: it must have been copied
    return comparison.close()


def test_all_are_compared() -> None:
    found = judged(set())
    assert found.is_equal and (found.requests, found.different, found.first) == (20, 0, None)
    assert [check.value for check in found.worst] == ["y"]


def test_the_first_that_differs_is_named_and_the_others_are_counted() -> None:
    found = judged({7, 9, 19})
    assert not found.is_equal and (found.requests, found.different, found.first) == (20, 3, 7)
    assert "3 of 3 elements differ" in found.checks[0].problem


def test_what_the_reference_cannot_run_is_raised_where_the_stream_can_end() -> None:
    comparison = StreamComparison(Doubled(broken=0))
    comparison.add(0, {"x": np.zeros(3)}, {"y": np.zeros(3)})
    with pytest.raises(ModelError, match="cannot run this"):
        for number in range(1, 30):
            comparison.add(number, {"x": np.ones(3)}, {"y": np.ones(3)})
    with pytest.raises(ModelError, match="cannot run this"):
        comparison.close()


def test_nothing_to_compare_is_no_difference() -> None:
    assert judged(set(), 0) == Findings()
