"""What goes on, in one line on the terminal that replaces itself; nothing where nobody watches."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import TextIO


class Progress:
    """A line on a terminal; silent on any other stream, and without one.

    It is written when it changes and at no other time, so that it costs nothing while a request is measured.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def tell(self, text: str) -> None:
        """Replace the line."""
        if self._stream is not None:
            width = shutil.get_terminal_size().columns
            try:
                self._stream.write(f"\r\x1b[K{text[: width - 1]}")
                self._stream.flush()
            except OSError:  # the terminal is gone, and what goes on has to go on without it
                self._stream = None

    def clear(self) -> None:
        """Take the line away."""
        self.tell("")
