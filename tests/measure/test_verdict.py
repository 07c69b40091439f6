"""Verdicts of races on latencies that are made up: drift counts for nothing, disturbance is noticed."""

from __future__ import annotations

import pytest

from flexpie_mpi.measure.verdict import Verdict, contenders, verdict

MOODS = (1.0, 3.0, 1.5, 5.0, 1.2, 2.0)
"""How slow the whole machine is, round by round."""


def times(factor, seconds=MOODS):
    return [factor * each for each in seconds]


@pytest.mark.parametrize(
    ("spent_s", "found"),
    [
        # Rounds that differ more than the plans do
        ({0: [1.0, 1.02] * 4, 1: [0.9, 0.92] * 4}, Verdict(1, True)),
        ({0: [1.0, 1.1] * 4, 1: [0.98, 1.08] * 4}, Verdict(0, True)),
        ({0: [1.0] * 4, 1: [1.5] * 3, 2: [0.8] * 4}, Verdict(2, True)),
        # Something beside the job: who is predicted stays, but where it loses by far
        ({0: times(1.0), 1: times(0.9)}, Verdict(0, False)),
        ({0: times(1.0), 1: times(0.7)}, Verdict(1, True)),
        ({0: times(1.0), 1: times(1.1)}, Verdict(0, False)),
        ({0: [1.0, 1.6, 1.0, 1.7, 1.1, 1.4], 1: [1.0] * 6}, Verdict(0, False)),
        ({0: [1.5, 1.9, 1.6, 2.4, 1.5, 2.2], 1: [1.0] * 6}, Verdict(1, True)),
        ({0: [1.0] * 6, 1: [0.9, 1.2, 0.8, 1.1, 0.9, 1.3]}, Verdict(0, False)),
        # A single bad moment
        ({0: [1.0, 1.0, 9.0, 1.0, 1.0, 1.0], 1: [1.1] * 6}, Verdict(0, True)),
        # Few requests tell little
        ({0: [1.0], 1: [0.9]}, Verdict(0, False)),
        ({0: [1.0], 1: [1.1]}, Verdict(0, False)),
        ({0: [1.0], 1: [0.5]}, Verdict(1, True)),
        # One that failed
        ({2: [1.0] * 4, 3: [0.9] * 4}, Verdict(3, True)),
    ],
)
def test_another_plan_is_kept_only_where_it_is_clearly_faster(spent_s, found):
    assert verdict(spent_s, [0]) == found


def test_among_the_favoured_the_fastest_is_kept():
    assert verdict({0: [1.0] * 4, 1: [0.99] * 4, 2: [0.97] * 4}, [0, 1]).kept == 1
    assert verdict({0: [1.0] * 4, 1: [0.99] * 4, 2: [0.95] * 4}, [0, 1]).kept == 2
    assert verdict({0: [1.0] * 4, 1: [0.99] * 4}, [1, 0]).kept == 1
    assert verdict({1: [0.99] * 4, 2: [1.0] * 4}, [0, 2]).kept == 2


def test_rounds_that_all_share_put_nobody_out_that_they_do_not_tell_apart():
    assert contenders([times(1.0), times(1.05), times(1.2)]) == [0, 1], "the third has lost every round"
    assert contenders([[1.0, 2.0] * 12, [2.0, 1.0] * 12]) == [0, 1], "who was faster alternates"
    assert contenders([[1.0, 5.0] * 10, [1.02, 5.1] * 10]) == [0], "as good as equal, and for long"
