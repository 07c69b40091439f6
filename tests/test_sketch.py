"""Sketches of testbeds: more boards, other boards, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from flexpie_mpi.core.errors import TestbedError
from flexpie_mpi.testbed import TOPOLOGIES, Device, Sketch, read, read_change, read_sketch, ring

MIXED = Path(__file__).parents[1] / "hostfiles" / "pi-mixed.toml"


def sketch(count: int = 2, topology: str = "switch", **more) -> Sketch:
    devices = tuple(Device(f"d{rank}", **more) for rank in range(count))
    return Sketch("some", TOPOLOGIES[topology], devices, (1e8,) * count, (5e-5,) * count)


@pytest.mark.parametrize("path", sorted(MIXED.parent.glob("*.toml")), ids=lambda path: path.stem)
def test_a_sketch_of_a_file_is_its_testbed(path) -> None:
    assert read_sketch(path).testbed() == read(path)


def test_fewer_boards_are_the_first_of_all() -> None:
    assert read_sketch(MIXED).testbed(3) == read(MIXED).subset(3)
    four = sketch(4, "ring")
    assert four.testbed(2) == four.testbed().subset(2)  # boards left out still forward


@pytest.mark.parametrize("topology", ["switch", "star", "ring"])
def test_more_boards_are_like_the_last(topology) -> None:
    small, large = sketch(3, topology), sketch(7, topology)
    found, expected = small.testbed(7), large.testbed()
    assert found.routes == expected.routes
    assert [resource.bandwidth for resource in found.resources] == [r.bandwidth for r in expected.resources]
    assert [device.name for device in found.devices[2:5]] == ["d2", "d2-3", "d2-4"]


def test_more_boards_have_the_port_of_the_last_and_a_host_of_their_own() -> None:
    large = read_sketch(MIXED).testbed(6)
    assert [device.slowdown for device in large.devices] == [3.5, 8, 8, 16, 16, 16]
    slow = {resource.name: resource.bandwidth for resource in large.resources}
    assert slow["pi3-5 in"] == slow["pi3 in"] == 12.5e6
    shared = sketch(2, host="one", cores=2).testbed(4)
    assert shared.active(range(4)) == (1.0, 1.0, 1.0, 1.0) and shared.active(range(2)) == (1.0, 1.0)


def test_a_change_is_that_of_every_board_and_link() -> None:
    found = read_sketch(MIXED).changed(read_change("bandwidth=2Gb/s, latency=1ms, slowdown=5, memory=1GiB")).testbed()
    assert {resource.bandwidth for resource in found.resources} == {250e6}
    assert {route.latency_s for row in found.routes for route in row if route} == {1e-3}
    assert {(device.slowdown, device.memory_bytes) for device in found.devices} == {(5.0, 2**30)}
    same = read_sketch(MIXED).changed(read_change("slowdown=5")).testbed()
    assert same.routes == read(MIXED).routes and same.resources == read(MIXED).resources


def test_without_limits_nothing_else_changes() -> None:
    found = read_sketch(MIXED).changed({"memory_bytes": None})
    assert {device.memory_bytes for device in found.devices} == {None}
    assert found.testbed().routes == read(MIXED).routes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("speed=2", "'speed=2' is no change: write bandwidth="),
        ("bandwidth", "'bandwidth' is no change"),
        ("", "'' is no change"),
        ("bandwidth=1Gb/s,,latency=1us", "'' is no change"),
        ("bandwidth=fast", 'bandwidth = "fast" is no bandwidth: write it like "1Gb/s"'),
        ("memory=1", 'memory = "1" is no size of a memory'),
        ("slowdown=0", 'slowdown = "0" is no slowdown: write a number above 0'),
        ("slowdown=nan", '"nan" is no slowdown'),
        ("latency=1us,latency=2us", "latency is changed twice"),
    ],
)
def test_a_change_that_is_none_is_one_sentence(text, sentence) -> None:
    with pytest.raises(TestbedError) as caught:
        read_change(text)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_board_alone_needs_no_link_and_cannot_be_joined_without() -> None:
    alone = Sketch("one", TOPOLOGIES["switch"], (Device("d"),), (None,), (None,))
    assert alone.testbed().ranks == alone.testbed(1).ranks == 1
    with pytest.raises(TestbedError, match=r"'one' does not say how fast its links are: .* with bandwidth"):
        alone.testbed(2)
    assert alone.changed(read_change("bandwidth=1Gb/s,latency=1us")).testbed(2).resources[0].bandwidth == 125e6


def test_there_are_limits() -> None:
    with pytest.raises(TestbedError, match="2000 devices are more than the 1024 that a switch may have"):
        sketch().testbed(2000)
    with pytest.raises(TestbedError, match="300 devices are more than the 256 that a ring may have"):
        sketch(2, "ring").testbed(300)
    with pytest.raises(TestbedError, match="300 devices are more than the 256"):
        ring([Device(f"d{rank}") for rank in range(300)], 1e8, 0.0)
