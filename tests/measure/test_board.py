"""What a board says of itself, read from made-up system files; and what all ranks see of each other."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import pytest

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.measure import examination, limits
from flexpie_mpi.measure.board import board_here, boards_of, cores_of, free_bytes, versions_of
from flexpie_mpi.measure.clocking import Clocking, clocking_here, is_slowed
from flexpie_mpi.measure.examination import Link, Pace, examine
from flexpie_mpi.measure.interfaces import grown, interfaces, sent_here
from flexpie_mpi.measure.limits import memory_here, processors_here
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.session.link_verdicts import judge_paces

GIB = 1 << 30


@pytest.fixture
def system(tmp_path):
    """Writes files of a system, and gives its root."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


CPU = "sys/devices/system/cpu/cpu0/cpufreq"
PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
COOLING = "sys/class/thermal/cooling_device0"


def test_a_clock_that_nothing_is_said_of(system):
    assert clocking_here(system({})) == Clocking() and not is_slowed(Clocking())


def test_governor_and_frequency(system):
    root = system(
        {f"{CPU}/scaling_governor": "powersave\n", f"{CPU}/scaling_max_freq": "900", f"{CPU}/cpuinfo_max_freq": "1800"}
    )
    found = clocking_here(root)
    assert found == Clocking("powersave", 0.5) and is_slowed(found)


@pytest.mark.parametrize(
    ("said", "now", "ever"),
    [
        ("0", (), ()),
        ("50005", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("80000", (), ("too hot",)),
        ("nonsense", (), ()),
    ],
)
def test_what_the_firmware_of_a_raspberry_pi_says(system, said, now, ever):
    found = clocking_here(system({PI: said}))
    assert (found.held_back, found.was_held_back) == (now, ever)


@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [("cpufreq-cpu0", "2", ("too hot",)), ("cpufreq-cpu0", "0", ()), ("pwm-fan", "3", ()), ("Processor", "1", ())],
)
def test_cooling_counts_where_it_slows_the_processor(system, kind, state, expected):
    root = system({f"{COOLING}/type": kind, f"{COOLING}/cur_state": state})
    assert clocking_here(root).held_back == expected


def test_interfaces_by_kind_and_speed(system):
    net = "sys/class/net"
    root = system(
        {
            f"{net}/eth0/operstate": "up", f"{net}/eth0/device/uevent": "", f"{net}/eth0/speed": "1000\n",
            f"{net}/wlan0/operstate": "up", f"{net}/wlan0/device/uevent": "", f"{net}/wlan0/wireless/x": "",
            f"{net}/veth1/operstate": "up", f"{net}/veth1/speed": "10000",
            f"{net}/usb0/operstate": "up", f"{net}/usb0/device/uevent": "", f"{net}/usb0/speed": "-1",
            f"{net}/eth1/operstate": "down", f"{net}/eth1/device/uevent": "",
        }
    )  # fmt: skip
    found = {each.name: each for each in interfaces(root)}
    assert list(found) == ["eth0", "usb0", "veth1", "wlan0"]
    assert found["eth0"].is_wired and found["eth0"].speed == 1e9 / 8
    assert found["wlan0"].is_wireless and not found["wlan0"].is_wired
    assert not found["veth1"].is_wired and found["veth1"].speed is None
    assert found["usb0"].is_wired and found["usb0"].speed is None


def test_bytes_that_interfaces_sent(system):
    root = system(
        {"proc/thread-self/net/dev": "Inter-|\n face |\n  lo: 1 1 0 0 0 0 0 0 1 1\neth0: 5 1 0 0 0 0 0 0 77 1\n"}
    )
    assert sent_here(root) == {"eth0": 77} and grown({"eth0": 70}, sent_here(root)) == {"eth0": 7}
    assert sent_here(root / "elsewhere") == {}


# Limits

V2 = {"proc/self/cgroup": "0::/job/rank\n"}
V1 = {"proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n"}
CGROUP = "sys/fs/cgroup"


@pytest.fixture
def roomy(monkeypatch):
    """A host with 8 GiB free, and a process without limits that has taken 1 GiB."""
    monkeypatch.setattr(limits, "kernel_bytes", lambda file, key: 8 * GIB if file == "meminfo" else GIB)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_memory_without_limits_is_the_host_s(roomy, system):
    found = memory_here(system({}))
    assert (found.free_bytes, found.bound_by) == (8 * GIB, "the host's memory") and found.total_bytes > 0


def test_memory_of_the_tightest_control_group_around(roomy, system):
    around = {f"{CGROUP}/job/memory.max": str(3 * GIB), f"{CGROUP}/job/memory.current": str(2 * GIB)}
    stat = {f"{CGROUP}/job/memory.stat": f"anon 1\ninactive_file {GIB // 2}\n"}
    own = {f"{CGROUP}/job/rank/memory.max": "max", f"{CGROUP}/job/rank/memory.current": "1"}
    found = memory_here(system({**V2, **around, **stat, **own}))
    assert (found.free_bytes, found.bound_by) == (GIB + GIB // 2, "a control group")


def test_memory_of_a_control_group_of_version_1(roomy, system):
    folder = f"{CGROUP}/memory/job"
    files = {"memory.limit_in_bytes": str(GIB), "memory.usage_in_bytes": str(2 * GIB), "memory.stat": ""}
    found = memory_here(system({**V1, **{f"{folder}/{name}": text for name, text in files.items()}}))
    assert (found.free_bytes, found.bound_by) == (0, "a control group")


def test_memory_of_a_process_that_is_limited(roomy, system, monkeypatch):
    monkeypatch.setattr(
        resource, "getrlimit", lambda limit: (3 * GIB if limit == resource.RLIMIT_AS else resource.RLIM_INFINITY,) * 2
    )
    found = memory_here(system({}))
    assert (found.free_bytes, found.bound_by) == (2 * GIB, "ulimit -v")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({**V2, f"{CGROUP}/job/rank/cpu.max": "50000 100000", f"{CGROUP}/job/cpu.max": "max 100000"}, 0.5),
        ({**V1, f"{CGROUP}/cpu/job/cpu.cfs_quota_us": "-1", f"{CGROUP}/cpu/job/cpu.cfs_period_us": "100000"}, None),
        ({**V1, f"{CGROUP}/cpu/cpu.cfs_quota_us": "150000", f"{CGROUP}/cpu/cpu.cfs_period_us": "100000"}, 1.5),
    ],
)
def test_processor_time_that_control_groups_leave(system, files, expected):
    assert processors_here(system(files)) == expected


def test_cores_of_hardware_threads(system):
    said = ("0,4", "1-2", "1-2", "3")
    root = system({f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": text for n, text in enumerate(said)})
    assert cores_of((0, 1, 2, 3), root) == (0, 1, 3) and cores_of((2, 3, 9), root) == (1, 3, 9)


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)


# All ranks


def test_this_board_is_known_on_every_rank():
    here = board_here({"python": "3"})
    assert here.versions == {"python": "3"} and here.architecture and here.block in (0, 8, 16)
    for boards in run_ranks(3, lambda transport: boards_of(transport, versions_of(transport))):
        assert [board.place for board in boards] == [here.place] * 3


def test_a_doubtful_link_and_rank_are_looked_at_again(monkeypatch):
    """What was slow for a moment is not slow; what stays slow is."""
    looks: dict[tuple[int, int], list[int]] = {(0, 1): [0] * 3, (0, 2): [0] * 3, (1, 2): [0] * 3}
    bandwidth = {(0, 1): [1.0, 5.0] * 9, (0, 2): [10.0] * 9, (1, 2): [3.0] * 9}

    def look_at(transport, ends):
        looks[ends][transport.rank] += 1
        return Link(ends, 1e-3, bandwidth[ends][looks[ends][transport.rank] - 1], 0, ({}, {}))

    monkeypatch.setattr(examination, "_look_at", look_at)
    monkeypatch.setattr(
        examination, "pace_here", lambda: Pace(1.0 + (threading.current_thread().name == "rank 1"), 1.0)
    )
    monkeypatch.setattr(Link, "is_local", lambda link, boards: False)
    found = run_ranks(3, lambda transport: examine(transport, [{}] * 3, Cache(None)))
    assert {link.ends: link.bandwidth for link in found[0].links} == {(0, 1): 5.0, (0, 2): 10.0, (1, 2): 3.0}
    assert looks == {(0, 1): [4] * 3, (0, 2): [1] * 3, (1, 2): [2] * 3}
    assert all(len(each.links) == 3 and set(each.offsets_s) == {0.0} for each in found)
    slow = [verdict.ranks for each in found for verdict in judge_paces(each.boards, each.paces)]
    assert slow == [(1,)] * 3


def test_the_better_of_two_looks():
    slow, quick = Link((0, 1), 1.0, 5.0, 7, ({}, {})), Link((0, 1), 2.0, 6.0, 8, ({}, {}))
    assert slow.better(quick) == quick.better(slow) == Link((0, 1), 1.0, 6.0, 8, ({}, {}))
    assert Pace(1.0, 0.5).better(Pace(2.0, 0.9)) == Pace(1.0, 0.9)
