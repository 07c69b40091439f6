"""How much time is left for measuring, as all ranks agree."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..runtime.transport import Transport


class Budget:
    """An end that is the same for all ranks: the root's clock counts.

    Made and asked by all ranks together, so that none stops measuring while another waits for it.

    Parameters
    ----------
    transport : Transport
    seconds : float
        From now on.
    clock : callable
        Of the machine, unless a test brings its own.

    Examples
    --------
    >>> from flexpie_mpi.runtime.loopback import alone
    >>> now = iter((100.0, 101.0, 102.5, 102.5, 103.0, 104.0))
    >>> budget = Budget(alone(), 3.0, lambda: next(now))
    >>> budget.left(), budget.is_over()
    (2.0, False)
    >>> part = budget.part(0.5)  # 1.5 s of the 3, but only half a second is left
    >>> part.left(), budget.is_over()
    (0.0, True)
    """

    def __init__(self, transport: Transport, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._transport = transport
        self._clock = clock
        self._end_s = clock() + seconds

    def left(self) -> float:
        """Seconds until the end; not below zero."""
        left_s: float = self._transport.broadcast(max(0.0, self._end_s - self._clock()))
        return left_s

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left() <= 0.0

    def part(self, share: float) -> Budget:
        """A budget of a share of all the seconds, that begins now and ends no later than this one."""
        part = Budget(self._transport, share * self.seconds, self._clock)
        part._end_s = min(part._end_s, self._end_s)
        return part


def with_time_left(tell: Callable[[str], None], budget_s: float) -> Callable[[str], None]:
    """What tells the same behind the seconds that are left of a budget that begins now."""
    end_s = time.monotonic() + budget_s
    return lambda text: tell(f"{max(0.0, end_s - time.monotonic()):.0f} s left: {text}")
