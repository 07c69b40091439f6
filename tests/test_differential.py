"""A seeded part of the differential test; ``python -m tests.differential`` draws as many cases as one likes."""

import pytest

from .differential.cases import draw
from .differential.running import judge

SEED = 11
CASES = 24
"""Drawn in a part."""

PARTS = [("operators", 0), ("operators", 1), ("operators", 2), ("operators", 3), ("graphs", 0)]


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_random_models_are_equal_to_plain_onnxruntime(kind, part):
    numbers = range(part * CASES, (part + 1) * CASES)
    verdicts = [judge(draw(kind, SEED, number), number, (1, 2, 3)) for number in numbers]
    failed = {verdict.number: verdict.failed for verdict in verdicts if verdict.failed}
    again = [f"python -m tests.differential --seed {SEED} --only {kind}/{number}" for number in failed]
    assert not failed, f"repeat with: {again}"
    assert sum(bool(verdict.op) for verdict in verdicts) > CASES // 2
    assert sum(verdict.sharded for verdict in verdicts) > CASES // 4
