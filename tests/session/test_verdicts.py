"""What is said of boards and links that are not as they should be, and nothing of those that are."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from flexpie_mpi.core.errors import TransportError
from flexpie_mpi.lower.memory import RankMemory
from flexpie_mpi.measure import board as board_module
from flexpie_mpi.measure.clocking import Clocking
from flexpie_mpi.measure.examination import Pace
from flexpie_mpi.measure.interfaces import Interface
from flexpie_mpi.measure.limits import Memory
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.session.doctor import judge_files, judge_programs, judge_room
from flexpie_mpi.session.greeting import greet
from flexpie_mpi.session.link_verdicts import judge_links, judge_paces, judge_places
from flexpie_mpi.session.verdicts import (
    ERROR,
    NOTE,
    OK,
    WARNING,
    Verdict,
    judge_boards,
    judge_clocks,
    judge_disks,
    judge_sources,
    judge_start,
    worst,
)
from flexpie_mpi.testbed import Device, switch
from tests.session.boards import ETH0, GIGABIT, VERSIONS, WLAN0, board, cluster, examination, link

ONE_THREAD = (1, 1, 1, 1)
SLOW = GIGABIT / 10


def said(verdicts) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(each.level, each.finding, each.ranks) for each in verdicts]


def the(verdicts) -> Verdict:
    (verdict,) = verdicts
    return verdict


def testbed(**changes):
    return switch([Device(f"pi{rank}", **changes) for rank in range(4)], GIGABIT, 1e-4, "four")


testbed.__test__ = False


def test_nothing_is_said_of_boards_that_are_well():
    boards = cluster()
    found = examination(boards)
    assert judge_boards(boards, ONE_THREAD) == judge_links(found) == judge_links(found, testbed()) == []
    assert not [*judge_clocks(boards, found.offsets_s), *judge_disks(boards, found.disks)]
    assert not [*judge_sources([VERSIONS] * 4, ["same"] * 4), *judge_paces(boards, found.paces)]
    assert not [*judge_places(boards, testbed())] and worst([]) == OK


# Versions


@pytest.mark.parametrize(
    ("package", "level"),
    [("flexpie-mpi", ERROR), ("mpi", ERROR), ("onnxruntime", WARNING), ("python", NOTE)],
)
def test_mixed_versions(package, level):
    other = VERSIONS | {package: "9.9"}
    verdict = the(judge_start(cluster(versions=[None, None, other, None])))
    assert (verdict.level, verdict.ranks) == (level, (2,))
    assert f"{package}: {VERSIONS[package]} on ranks 0, 1 and 3, 9.9 on rank 2; " in verdict.finding


def test_a_package_that_one_board_lacks():
    other = {name: version for name, version in VERSIONS.items() if name != "flexpie-mpi"}
    verdict = the(judge_start(cluster(versions=[other, None, None, None])))
    assert verdict.level == ERROR and "none on rank 0" in verdict.finding and verdict.ranks == (0,)


@pytest.mark.parametrize(
    ("version", "has_sme", "is_bad"), [("1.27.0", True, True), ("1.27.0", False, False), ("1.27.1", True, False)]
)
def test_an_onnxruntime_that_computes_wrongly(version, has_sme, is_bad):
    versions = VERSIONS | {"onnxruntime": version}
    boards = cluster(versions=[versions] * 4, has_sme=[None, has_sme, None, None])
    found = judge_start(boards)
    assert [(each.level, each.ranks) for each in found] == [(ERROR, (1,))] * is_bad
    assert all("wrongly" in each.finding and "pip install" in each.remedy for each in found)


@pytest.mark.parametrize(
    ("library", "count"),
    [
        ("Open MPI v5.0.8", 1),
        ("Open MPI v5.0.9rc1", 1),
        ("Open MPI v5.0.0a1", 1),
        ("Open MPI v5.0.10", 0),
        ("Open MPI v4.1.4", 0),
        ("MPICH 5.0.2", 0),
    ],
)
def test_a_library_that_may_crash_when_a_board_is_lost(library, count):
    found = judge_start(cluster(versions=[VERSIONS | {"mpi": library}] * 4))
    assert [(each.level, each.ranks) for each in found] == [(NOTE, (0, 1, 2, 3))] * count


def test_files_changed_by_hand():
    verdict = the(judge_sources([VERSIONS] * 4, ["a", "a", "b", "a"]))
    assert (verdict.level, verdict.ranks) == (ERROR, (2,))
    mixed = [VERSIONS, VERSIONS, VERSIONS | {"flexpie-mpi": "9"}, VERSIONS]
    assert not [*judge_sources(mixed, ["a", "a", "b", "a"])], "another version has other files, and is said already"


# What boards have


def test_little_memory_names_what_takes_it():
    verdict = the(judge_start(cluster(memory=[None, Memory(1 << 30, 50_000_000, "ulimit -v"), None, None])))
    assert (verdict.level, verdict.ranks) == (WARNING, (1,))
    assert "50 MB of memory are free on 'pi1', as ulimit -v has it" in verdict.finding


def test_shared_memory_counts_where_ranks_share_a_host():
    small = [board("pi", shared_bytes=20 << 20)] * 3
    assert "has 21 MB for 3 ranks" in the(judge_start(small)).finding
    assert judge_start(small[:2]) == [] and judge_start(cluster(shared_bytes=[1000] * 4)) == []


def test_a_full_disk():
    verdict = the(judge_disks(cluster(), [1 << 35, None, 1 << 20, 1 << 35]))
    assert (verdict.level, verdict.ranks) == (WARNING, (2,)) and "has 1 MB left" in verdict.finding


@pytest.mark.parametrize(
    ("clocking", "level", "text"),
    [
        (Clocking("performance", 1.0, ("too hot",)), WARNING, "slowed down now: too hot"),
        (Clocking("performance", 1.0, (), ("under-voltage",)), NOTE, "at some time since the start: under-voltage"),
        (Clocking("performance", 0.5), NOTE, "no more than 50% of the full frequency"),
        (Clocking("powersave", 1.0), NOTE, "the governor 'powersave'"),
    ],
)
def test_a_processor_that_is_held_back(clocking, level, text):
    verdict = the(judge_boards(cluster(clocking=[None, None, None, clocking]), ONE_THREAD))
    assert (verdict.level, verdict.ranks) == (level, (3,)) and text in verdict.finding and verdict.remedy


def test_boards_with_the_same_complaint_share_a_line():
    verdict = the(judge_boards(cluster(clocking=[None, *[Clocking("ondemand")] * 3]), ONE_THREAD))
    assert verdict.ranks == (1, 2, 3) and verdict.finding.startswith("'pi1', 'pi2' and 'pi3': the governor 'ondemand'")


def test_more_threads_than_cores_or_than_time():
    verdict = the(judge_boards(cluster(), (1, 5, 1, 4)))
    assert (verdict.level, verdict.ranks) == (NOTE, (1,)) and "5 threads of 1 rank share 4 cores" in verdict.finding
    hyper = cluster(cores=[(0, 2), None, None, None])
    assert "3 threads of 1 rank share 2 cores" in the(judge_boards(hyper, (3, 1, 1, 1))).finding
    verdict = the(judge_boards(cluster(processors=[0.5, 2.0, None, None]), ONE_THREAD))
    assert (verdict.level, verdict.ranks) == (WARNING, (0,)) and "the time of 0.5 cores" in verdict.finding


def test_blocks_that_differ_and_clocks():
    verdict = the(judge_boards(cluster(block=[16, 16, None, 16]), ONE_THREAD))
    assert (verdict.level, verdict.ranks) == (NOTE, (2,)) and "row-major on rank 2" in verdict.finding
    late, early = judge_clocks(cluster(), (0.0, 2.5, 0.4, -90.0))
    assert "'pi1' is 2.5 s behind" in late.finding and "'pi3' is 90 s ahead of" in early.finding


# Links


def test_a_board_with_a_slow_port_is_named_and_not_its_links():
    links = {f"_{a}_3": link(a, 3, SLOW) for a in range(3)}
    for bed in (None, testbed()):
        verdict = the(judge_links(examination(cluster(), **links), bed))
        assert (verdict.level, verdict.ranks) == (WARNING, (3,))
        assert "all links of 'pi3' (rank 3) carry 100 Mb/s" in verdict.finding and verdict.remedy


def test_a_slow_link_between_boards_with_better_ones():
    verdict = the(judge_links(examination(cluster(), _0_2=link(0, 2, SLOW))))
    assert verdict.ranks == (0, 2) and "'pi0' (rank 0) and 'pi2' (rank 2) carries 100 Mb/s" in verdict.finding
    assert "others carry 940 Mb/s" in verdict.finding


def test_links_that_are_all_slower_or_faster_than_a_testbed_says():
    links = {f"_{a}_{b}": link(a, b, SLOW) for a in range(4) for b in range(a + 1, 4)}
    slow = examination(cluster(), **links)
    verdict = the(judge_links(slow, testbed()))
    assert verdict.ranks == (0, 1, 2, 3) and "all links carry 100 Mb/s, and testbed 'four' says 1000" in verdict.finding
    assert judge_links(slow) == [], "without a testbed nobody knows"
    quick = judge_links(examination(cluster(), _0_1=link(0, 1, 2 * GIGABIT)), testbed())
    assert said(quick)[0][::2] == (NOTE, (0, 1)) and "mend the testbed" in quick[0].remedy


def test_two_boards_are_held_against_a_testbed():
    pair = examination(cluster(2), _0_1=link(0, 1, SLOW))
    bed = testbed().subset(2)
    assert judge_links(pair) == [] and "carries 100 Mb/s" in the(judge_links(pair, bed)).finding


def test_a_shortcut_past_the_network():
    links = {f"_{a}_{b}": link(a, b, 20 * GIGABIT, through="") for a in range(3) for b in range(a + 1, 3)}
    verdict = the(judge_links(examination(cluster(3), **links), testbed().subset(3)))
    assert (verdict.level, verdict.ranks) == (WARNING, (0, 1, 2)) and "3 links" in verdict.finding
    same = [board("pi0"), board("pi0")]
    assert judge_links(examination(same, _0_1=link(0, 1, 20 * GIGABIT, through=""))) == [], "one host has no network"


def test_where_interfaces_do_not_count_nothing_is_said():
    found = examination(cluster(2))
    unknown = replace(found.links[0], passed=({}, {}))
    assert judge_links(replace(found, links=(unknown,))) == []


@pytest.mark.parametrize(
    ("carrier", "other", "is_wrong"),
    [
        (WLAN0, ETH0, True),
        (Interface("usb0", True, False, SLOW), ETH0, True),
        (ETH0, WLAN0, False),
        (ETH0, Interface("docker0", False, False, None), False),
    ],
)
def test_the_wrong_interface(carrier, other, is_wrong):
    boards = cluster(2, interfaces=[(carrier, other), None])
    found = judge_links(examination(boards, _0_1=link(0, 1, through=carrier.name)))
    mine = [each for each in found if 0 in each.ranks]
    assert [(each.level, each.ranks) for each in mine] == [(WARNING, (0,))] * is_wrong
    assert all(f"although {other.name}" in each.finding and f"-iface {other.name}" in each.remedy for each in mine)


def test_a_port_with_four_wires():
    boards = cluster(2, interfaces=[None, (Interface("eth0", True, False, SLOW),)])
    verdict = the(judge_links(examination(boards, _0_1=link(0, 1, 0.94 * SLOW))))
    assert verdict.ranks == (1,) and "eth0 (100 Mb/s) of 'pi1'" in verdict.finding and "cable" in verdict.remedy


def test_a_late_link():
    late = examination(cluster(), _1_2=link(1, 2, latency_s=2e-3))
    for bed in (None, testbed()):
        verdict = the(judge_links(late, bed))
        assert verdict.ranks == (1, 2) and "takes 2 ms" in verdict.finding
    assert judge_links(examination(cluster(), _1_2=link(1, 2, latency_s=3.5e-4))) == [], "a moment is no fault"


def test_a_slow_board_and_a_busy_one():
    slow = the(judge_paces(cluster(), [Pace(1e-3, 1.0), Pace(2e-3, 1.0), Pace(1e-3, 1.0), Pace(1.1e-3, 0.9)]))
    assert (slow.level, slow.ranks) == (WARNING, (1,)) and "'pi1' takes 2 times as long" in slow.finding
    busy = the(judge_paces(cluster(), [Pace(1e-3, 1.0), Pace(2e-3, 0.5), Pace(1e-3, 1.0), Pace(1e-3, 0.9)]))
    assert busy.ranks == (1,) and "50% of a core's time" in busy.finding and "'pi1'" in busy.finding
    others = cluster(processor=[None, "an older one", None, None])
    assert not [*judge_paces(others, [Pace(1e-3, 1.0), Pace(2e-3, 1.0), Pace(1e-3, 1.0), Pace(1e-3, 0.9)])]


def test_boards_in_another_order_than_the_testbed_s_and_with_less_memory():
    swapped = [board(f"pi{rank}") for rank in (0, 2, 1, 3)]
    verdict = the(judge_places(swapped, testbed()))
    assert verdict.ranks == (1,) and "rank 1 runs on 'pi2', and the testbed's board 1 is 'pi1'" in verdict.finding
    assert not [*judge_places([board(name) for name in "abcd"], testbed())], "a testbed may name boards as it likes"
    small = [*judge_places(cluster(), testbed(memory_bytes=8 << 30))]
    assert len(small) == 4 and "'pi0' has 4295 MB of memory" in small[0].finding


# Models and plans


def test_files_that_differ_and_files_that_are_not_there():
    assert not [*judge_files("model", "m.onnx", ("a", None, "a"))]
    verdict = the(judge_files("model", "m.onnx", ("a", None, "b")))
    assert (verdict.level, verdict.check, verdict.ranks) == (WARNING, "model", (2,)) and "'m.onnx'" in verdict.finding
    assert not [*judge_programs("aaa")] and the(judge_programs("aab")).level == ERROR


def need(rank: int, weights: int) -> RankMemory:
    return RankMemory(rank, weights, 0, 1 << 20, 1 << 20, 1 << 20, 1, rank == 0)


def test_a_plan_that_does_not_fit_the_memory_that_is_free():
    needs = [need(rank, 500 << 20) for rank in range(4)]
    tight = cluster(memory=[None, Memory(4 << 30, 200 << 20, "a control group"), None, None])
    assert not [*judge_room(needs, examination(cluster()), None)]
    verdict = the(judge_room(needs, examination(tight), None))
    assert (verdict.level, verdict.ranks) == (ERROR, (1,))
    assert "210 MB of memory free, as a control group" in verdict.finding
    together = [board("pi", memory=Memory(1 << 31, 1500 << 20, "the host's memory"))] * 4
    assert the(judge_room(needs, examination(together), None)).ranks == (0, 1, 2, 3)
    assert len([*judge_room(needs, examination(cluster()), testbed(memory_bytes=300 << 20))]) == 4


def test_weights_that_the_cache_s_disk_cannot_hold():
    full = replace(examination(cluster()), disks=(1 << 35, 1 << 20, None, 1 << 35))
    verdict = the(judge_room([need(rank, 500 << 20) for rank in range(4)], full, None))
    assert (verdict.level, verdict.ranks) == (WARNING, (1,)) and "disk has 1 MB" in verdict.finding


# At the start of a job


@pytest.fixture
def answers(monkeypatch):
    """Makes rank 2 of a job answer with another version."""

    def patch(package: str, version: str) -> None:
        real = board_module.versions

        def versions(library: str) -> dict[str, str]:
            found = real(library) | {"flexpie-mpi": "0.2.0"}
            return found | {package: version} if threading.current_thread().name == "rank 2" else found

        monkeypatch.setattr(board_module, "versions", versions)

    return patch


def test_a_job_of_two_versions_does_not_start(answers):
    answers("flexpie-mpi", "0.1.0")
    caught: list[str] = []

    def start(transport):
        with pytest.raises(TransportError) as error:
            greet(transport)
        caught.append(str(error.value))

    run_ranks(3, start)
    assert len(set(caught)) == 1 and len(caught) == 3
    assert "0.1.0 on rank 2" in caught[0] and "install the same version on all boards" in caught[0]


def test_what_is_to_be_mended_is_said_once_and_the_job_goes_on(answers, caplog):
    answers("onnxruntime", "1.0")
    run_ranks(3, greet)
    assert [record.message for record in caplog.records if "1.0 on rank 2" in record.message] and len(
        caplog.records
    ) == 1


def test_a_job_that_is_well_says_nothing(caplog):
    run_ranks(3, greet)
    assert not caplog.records
