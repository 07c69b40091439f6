"""The word that ends a source."""

from __future__ import annotations


class Stop:
    """Whether nothing more is wanted, for other threads to look at.

    No lock is behind it, as one is behind an event: a signal handler that interrupts another may set it.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Nothing more is wanted."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether that has been said."""
        return self._is_set
