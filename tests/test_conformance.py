"""A seeded part of the operator conformance suite; ``python -m tests.conformance`` runs all of it."""

import random

import pytest

from .conformance.cases import passes_alone, suite, variants
from .conformance.run import Tally

PARTS = 8
SAMPLE = 160


@pytest.mark.parametrize("part", range(PARTS))
def test_a_part_of_the_suite(part, tmp_path):
    cases = random.Random(20).sample(suite(), SAMPLE)[part::PARTS]
    tally = Tally()
    for case in variants(tuple(cases)):
        if passes_alone(case):
            folder = tmp_path / str(tally.cases)
            folder.mkdir()
            tally.add(case, folder, (3,))
    assert tally.failed == []
    assert tally.cases > 10 and tally.sharded > 5
