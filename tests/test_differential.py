"""A seeded part of the differential test; ``python -m tests.differential`` draws as many cases as one likes."""

import pytest

from .differential.cases import draw
from .differential.running import judge

SEED = 11
PARTS = {"operators": (3, 50), "graphs": (2, 20)}
"""Parts of each kind, and cases drawn in a part."""


@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind, (parts, _) in PARTS.items() for part in range(parts)])
def test_random_models_are_equal_to_plain_onnxruntime(kind, part):
    parts, cases = PARTS[kind]
    verdicts = [judge(draw(kind, SEED, n), n, (1, 2, 3)) for n in range(part * cases, (part + 1) * cases)]
    failed = {verdict.number: verdict.failed for verdict in verdicts if verdict.failed}
    again = [f"python -m tests.differential --seed {SEED} --only {kind}/{number}" for number in failed]
    assert not failed, f"repeat with: {again}"
    assert sum(bool(verdict.op) for verdict in verdicts) > cases // 2
    assert sum(verdict.sharded for verdict in verdicts) > cases // 4
