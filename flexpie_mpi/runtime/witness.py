"""A process beside a rank that does what is left to do when the rank is gone.

A rank that is killed for want of memory has no time for a word, and its launcher knows the signal alone, 9, which
anybody may have sent. So a shell, which takes a megabyte, waits until the rank is gone, and then looks whether the
kernel counts more of them than before, and, where its log may be read, whether that names the process.

And when a rank gives up on one that is cut off, the launcher of Open MPI 5 waits for ever for the host that it cannot
reach, and does not end by any signal but that one.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

COUNTS = Path("/proc/vmstat")
"""Counts, in a line `oom_kill`, the processes that the kernel has ended for want of memory, also those of groups."""

_SCRIPT = """
trap '' INT TERM HUP
if read -r launcher patience; then
  exec 2>/dev/null  # which the launcher reads
  test "$launcher" -gt 0 && sleep "$patience" && grep -q prterun "/proc/$launcher/cmdline" && kill -9 "$launcher"
  exit 0
fi
test "$(sed -n 's/^oom_kill //p' "$3")" -gt "$2" 2>/dev/null || exit 0
log=$(dmesg 2>/dev/null | tail -n 200)
sure=${log:+indeed}
test -z "$log" || echo "$log" | grep -q "Killed process $1 " || exit 0
who="rank $4 on '$5' was killed, ${sure:-probably} for want of memory"
echo "$who: take more boards, or a plan with less on that one" >&2
"""


class Witness:
    """Waits for the end of this process from now on, and says why, unless :meth:`dismiss` came before."""

    def __init__(self, rank: int, host: str, counts: Path = COUNTS) -> None:
        self._pipe: IO[bytes] | None = None
        kills = _kills(counts)
        if kills is not None:
            words = ["sh", "-c", _SCRIPT, "sh", str(os.getpid()), str(kills), str(counts), str(rank), host]
            with suppress(OSError):  # no shell, or no room for it: then nobody says why
                self._pipe = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
                ).stdin

    def dismiss(self, launcher: int | None = None, patience_s: float = 3.0) -> None:
        """This process ends as it should; so has its `launcher` to within some seconds, where that is given."""
        if self._pipe is not None:
            with suppress(OSError):
                self._pipe.write(f"{launcher or 0} {patience_s:g}\n".encode())
                self._pipe.close()
            self._pipe = None


def _kills(counts: Path) -> int | None:
    """How many processes the kernel has ended for want of memory; None where it does not say."""
    with suppress(OSError):
        for line in counts.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None
