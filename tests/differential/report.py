"""The table of what came of the cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from .running import Verdict


def report(found: Mapping[str, list[Verdict]], seed: int) -> int:
    """Print the table and every failure with the command that repeats it; 1 when there is one."""
    kinds = [kind for kind, several in found.items() if several]
    print(f"{'':32}" + "".join(f"{kind:>12}" for kind in kinds))
    run = {kind: [item for item in found[kind] if item.op] for kind in kinds}
    rows: list[tuple[str, dict[str, int]]] = [
        ("drawn", {kind: len(found[kind]) for kind in kinds}),
        ("refused by plain onnxruntime", {kind: len(found[kind]) - len(run[kind]) for kind in kinds}),
        ("cases", {kind: len(run[kind]) for kind in kinds}),
        ("of these ran sharded", {kind: sum(item.sharded for item in run[kind]) for kind in kinds}),
        ("equal in every plan", {kind: sum(not item.failed for item in run[kind]) for kind in kinds}),
    ]
    passed = {kind: Counter(layout for item in run[kind] for layout in item.passed) for kind in kinds}
    rows += [(f"  equal, {layout}", {kind: passed[kind][layout] for kind in kinds}) for layout in _keys(passed)]
    causes = {kind: Counter(cause for item in run[kind] for cause in _causes(item)) for kind in kinds}
    rows += [(f"not equal: {cause}", {kind: causes[kind][cause] for kind in kinds}) for cause in _keys(causes)]
    for title, numbers in rows:
        print(f"{title:32}" + "".join(f"{numbers[kind]:>12}" for kind in kinds))
    failures = [(kind, item) for kind in kinds for item in run[kind] if item.failed]
    for kind, item in failures:
        print(failure(kind, item))
    if failures:
        kind, item = failures[0]
        print(f"repeat one with: python -m tests.differential --seed {seed} --only {kind}/{item.number}")
    return 1 if failures else 0


def failure(kind: str, verdict: Verdict) -> str:
    """What failed, in a line."""
    layouts = ", ".join(sorted({layout for layout, _, _ in verdict.failed}))
    cause, words = verdict.failed[0][1:]
    words = words if words.startswith(cause) else f"{cause}: {words}"
    return f"FAILED {kind}/{verdict.number} {verdict.op} [{layouts}] {words}"


def _keys(counters: Mapping[str, Counter[str]]) -> Iterable[str]:
    return dict.fromkeys(key for counter in counters.values() for key in counter)


def _causes(verdict: Verdict) -> set[str]:
    return {cause for _, cause, _ in verdict.failed}
