"""Real boards: jobs run on them, their links are what the testbed says, and nothing is left, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.emulate import emulated, launch
from flexpie_mpi.emulate.check import measure_links
from flexpie_mpi.emulate.cleanup import SPACES, abandoned
from flexpie_mpi.emulate.network import network_of
from flexpie_mpi.emulate.system import memory_here
from tests.emulate.beds import GIGABIT, bed
from tests.launch import LIMIT_S, REPOSITORY, environment

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("leaves_nothing")]

SLOW = GIGABIT / 10
"""However busy this machine is, it carries so much."""
NAP = ["sleep", "0.2"]
INFER = ["infer", "--model", "builtin:tiny_cnn", "--layout", "rows", "--no-cache", "--repeat", "2"]
RING = """
topology = "ring"
[link]
bandwidth = "100Mb/s"
latency = "50us"
[[device]]
name = "dsp"
count = 4
slowdown = 8
memory = "1GiB"
"""


@pytest.fixture
def ring_file(tmp_path) -> Path:
    path = tmp_path / "ring.toml"
    path.write_text(RING)
    return path


@pytest.mark.mpi_short
def test_a_verb_runs_on_a_ring_and_its_result_is_exact(ring_file):
    process = started("-m", "flexpie_mpi", "emulate", ring_file, "--", *INFER, "--verify")
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert "verify   equal to one onnxruntime session" in out
    assert "4 on dsp0 (0), dsp1 (1), dsp2 (2), dsp3 (3)" in out, "every board has a name of its own"
    assert "flexpie-mpi: 'ring' is built, 4 boards in a ring" in err and "bandwidths are within" in err


def test_jobs_run_one_after_the_other_on_a_star(capfd):
    fails = "import sys; sys.exit(7)"
    greets = "import os, sys; sys.stdout.write(f'{os.environ[\"GREETING\"]} in {os.getcwd()}\\n')"
    with emulated(bed("star", 3, memory_bytes=1 << 30), check=False) as cluster:
        assert cluster.run([sys.executable, "-m", "flexpie_mpi", *INFER, "--verify"]) == 0
        assert "equal to one onnxruntime session" in capfd.readouterr().out
        assert cluster.run([sys.executable, "-c", fails], ranks=1) == 7
        assert cluster.run([sys.executable, "-c", greets], ranks=2, environment={"GREETING": "hello"}) == 0
        assert capfd.readouterr().out.count("hello in " + os.getcwd()) == 2
        with pytest.raises(EmulationError, match="has 3 boards, so it cannot run 4 ranks"):
            cluster.run(["true"], ranks=4)


def test_links_are_as_fast_as_the_testbed_says_and_noticed_when_they_are_not():
    testbed = bed("switch", 3, [SLOW, SLOW, SLOW / 2])
    with emulated(testbed, check=False) as cluster:
        found = {link.resource: link.carried for link in measure_links(cluster.network, lambda text: None)}
        assert found["d2 in"] == pytest.approx(SLOW / 2, rel=0.15)
        assert found["d0 out"] == pytest.approx(SLOW, rel=0.15)
        faster = network_of(bed("switch", 3, 2 * SLOW), cluster.network.prefix)
        with pytest.raises(EmulationError, match=r"carries .* and testbed 'switch' says 200: this machine is too slow"):
            measure_links(faster, lambda text: None)


def test_a_library_that_goes_through_shared_memory_is_found_out(monkeypatch):
    if launch.find_library().name != "mpich":
        pytest.skip("Open MPI is told by its own options")
    monkeypatch.setattr(launch, "_SWITCHES", {"mpich": {"UCX_TLS": "all"}})
    with pytest.raises(EmulationError, match="left its board: MPI knows another way"), emulated(bed("ring", 2, SLOW)):
        pass


def test_memory_is_limited_where_the_kernel_can(caplog):
    if memory_here() is None:
        pytest.skip("this kernel has no memory controller for control groups")
    eats = "b = b'x' * 300_000_000"
    with emulated(bed("ring", 2, memory_bytes=100_000_000), check=False) as cluster:
        if not cluster.groups:
            pytest.skip(caplog.text)
        assert cluster.run([sys.executable, "-c", "pass"], ranks=1) == 0 and not caplog.records
        assert cluster.run([sys.executable, "-c", eats], ranks=1) != 0
    assert "board 'd0' ran out of memory" in caplog.text


# However it ends


SLEEPS = """
import sys
from flexpie_mpi.emulate import emulated
from flexpie_mpi.testbed import read
with emulated(read(sys.argv[1]), check=False) as cluster:
    cluster.run(["sleep", "600"])
"""


def test_an_interrupt_takes_everything_down(ring_file):
    words = ["-m", "flexpie_mpi", "emulate", ring_file, "--no-check", "--ranks", "2", "--", *INFER[:-1], "1000000"]
    process = running(2, "infer", *words)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130 and "Traceback" not in err, err


def test_the_end_of_the_process_takes_everything_down(ring_file):
    process = running(4, "sleep", "-c", SLEEPS, ring_file)
    process.terminate()
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 128 + signal.SIGTERM


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_runs_is_not(ring_file):
    with emulated(bed("ring", 2), check=False) as living:
        process = running(4, "sleep", "-c", SLEEPS, ring_file)
        process.kill()
        process.wait(LIMIT_S)
        left = [prefix for prefix in abandoned() if prefix.startswith(f"flexpie-{process.pid}-")]
        assert len(left) == 1, "a killed process cannot clean up"
        with emulated(bed("switch", 2), check=False) as following:
            assert left[0] not in abandoned()
            assert living.network.prefix != following.network.prefix
            assert following.run(NAP) == 0
        assert living.run(NAP) == 0, "the one that was there before still works"


def test_an_error_in_between_takes_everything_down():
    with pytest.raises(ZeroDivisionError), emulated(bed("star", 2), check=False) as cluster:
        assert (SPACES / cluster.network.device_spaces[0]).exists()
        raise ZeroDivisionError
    assert not (SPACES / cluster.network.device_spaces[0]).exists()


def running(boards: int, word: str, *words: object) -> subprocess.Popen[str]:
    """This python with `words`, as soon as commands with `word` run on so many boards."""
    process = started(*words)
    until = time.monotonic() + LIMIT_S
    while len(_busy_boards(f"flexpie-{process.pid}-", word)) < boards:
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def started(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
    )


def _busy_boards(prefix: str, word: str) -> set[str]:
    """Namespaces with a process that was started with `word`, launchers aside."""
    spaces = {path.stat().st_ino: path.name for path in SPACES.glob(f"{prefix}*")} if SPACES.exists() else {}
    return {spaces[found] for process in Path("/proc").glob("[0-9]*") if (found := _space(process, word)) in spaces}


def _space(process: Path, word: str) -> int | None:
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().split(b"\0")
        if word.encode() in words and Path(os.fsdecode(words[0])).name.startswith(("python", word)):
            return (process / "ns" / "net").stat().st_ino
    return None
