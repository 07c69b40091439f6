from __future__ import annotations

from io import StringIO

from flexpie_mpi.commands.output import Progress
from tests.report.test_tables import Terminal


def test_a_terminal_sees_the_line_and_then_nothing():
    stream = Terminal()
    with Progress(stream) as progress:
        progress.tell("loading")
        progress.tell("running " + "x" * 500)
    assert "loading" in stream.getvalue() and "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K") and len(stream.getvalue()) < 300


def test_any_other_stream_sees_nothing():
    stream = StringIO()
    for target in (stream, None):
        with Progress(target) as progress:
            progress.tell("loading")
    assert stream.getvalue() == ""
