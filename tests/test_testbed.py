"""Testbeds: routes obey the laws of their topology, files mean what they say, every mistake is one sentence."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import pytest

from flexpie_mpi.core.errors import TestbedError
from flexpie_mpi.emulate.network import network_of
from flexpie_mpi.testbed import (
    TOPOLOGIES,
    Device,
    Resource,
    Route,
    Testbed,
    Topology,
    measured,
    one_host,
    read,
    read_sketch,
    ring,
    star,
    switch,
)
from flexpie_mpi.testbed.topologies import forwarded

HOSTFILES = Path(__file__).parents[1] / "hostfiles"
SHAPES = {"switch": switch, "ring": ring, "star": star}


def devices(count: int) -> list[Device]:
    return [Device(f"d{rank}") for rank in range(count)]


def pairs(count: int) -> list[tuple[int, int]]:
    return [(s, t) for s in range(count) for t in range(count) if s != t]


def passed(testbed: Testbed, source: int, target: int) -> list[str]:
    return [testbed.resources[number].name for number in testbed.routes[source][target].resources]


# Topologies


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pair_has_a_route_and_every_resource_a_user(shape, count):
    testbed = SHAPES[shape](devices(count), 1e8, 5e-5)
    assert (testbed.ranks, testbed.topology.name) == (count, shape)
    assert all((testbed.routes[s][t] is None) == (s == t) for s in range(count) for t in range(count))
    users = {number for s, t in pairs(count) for number in testbed.routes[s][t].resources}
    assert users == set(range(len(testbed.resources)))
    assert len({resource.name for resource in testbed.resources}) == len(testbed.resources)
    assert {resource.bandwidth for resource in testbed.resources} <= {1e8}


def test_behind_a_switch_messages_share_the_port_of_their_source_and_that_of_their_target():
    testbed = switch(devices(5), 1e8, 5e-5)
    for s, t in pairs(5):
        assert passed(testbed, s, t) == [f"d{s} out", f"d{t} in"]
        assert testbed.routes[s][t].latency_s == 5e-5


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 7, 8])
def test_a_ring_forwards_over_neighbours_the_shorter_way(count):
    testbed = ring(devices(count), 1e8, 5e-5)
    for s, t in pairs(count):
        links = passed(testbed, s, t)
        stations = [links[0].split(" -> ")[0], *(link.split(" -> ")[1] for link in links)]
        places = [int(station[1:]) for station in stations]
        assert (places[0], places[-1]) == (s, t)
        assert all((b - a) % count in (1, count - 1) for a, b in pairwise(places))
        assert len(links) == min((t - s) % count, (s - t) % count)
        assert [link.split(" -> ")[0] for link in links[1:]] == [link.split(" -> ")[1] for link in links[:-1]]
        assert testbed.routes[s][t].latency_s == pytest.approx(5e-5 * len(links))
    assert len(testbed.resources) == (2 if count == 2 else 2 * count)


def test_opposite_messages_of_an_even_ring_load_both_directions_alike():
    testbed = ring(devices(8), 1e8, 5e-5)
    load = dict.fromkeys([resource.name for resource in testbed.resources], 0)
    for s in range(8):
        for link in passed(testbed, s, (s + 4) % 8):
            load[link] += 1
    ways = [sum(n for link, n in load.items() if _step(link, 8) == step) for step in (1, 7)]
    assert ways[0] == ways[1] and set(load.values()) == {2}


def _step(link: str, count: int) -> int:
    source, target = (int(end[1:]) for end in link.split(" -> "))
    return (target - source) % count


def test_in_a_star_the_first_device_forwards():
    testbed = star(devices(4), 1e8, 5e-5)
    assert passed(testbed, 0, 3) == ["d0 -> d3"] and passed(testbed, 3, 0) == ["d3 -> d0"]
    assert passed(testbed, 1, 2) == ["d1 -> d0", "d0 -> d2"]
    assert testbed.routes[1][2].latency_s == pytest.approx(2 * testbed.routes[0][2].latency_s)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_slower_port_slows_what_it_takes_part_in_and_nothing_else(shape):
    plain = SHAPES[shape](devices(5), 1e8, 5e-5)
    slow = SHAPES[shape](devices(5), [1e8, 1e8, 1e8, 1e7, 1e8], [5e-5, 5e-5, 5e-5, 2e-4, 5e-5])
    for s, t in pairs(5):
        through = any("d3" in name for name in passed(slow, s, t))
        least = min(slow.resources[number].bandwidth for number in slow.routes[s][t].resources)
        assert least == (1e7 if through else 1e8)
        assert (slow.routes[s][t].latency_s > plain.routes[s][t].latency_s) == through


def test_ports_must_be_as_many_as_devices():
    with pytest.raises(TestbedError, match="3 devices need 3 ports, not 2"):
        switch(devices(3), [1e8, 1e8], 5e-5)


@pytest.mark.parametrize("shape", ["switch", "star"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_first_devices_of_a_switch_or_star_are_a_smaller_one(shape, count):
    bandwidths = [1e8, 2e8, 5e7, 1e7, 3e8]
    whole, part = SHAPES[shape](devices(5), bandwidths, 5e-5), SHAPES[shape](devices(count), bandwidths[:count], 5e-5)
    assert whole.subset(count) == part
    assert whole.subset(5) == whole


def test_boards_left_out_of_a_ring_still_forward():
    whole = ring(devices(6), 1e8, 5e-5)
    part = whole.subset(5)
    assert all(passed(part, s, t) == passed(whole, s, t) for s, t in pairs(5))
    assert passed(part, 4, 0) == ["d4 -> d5", "d5 -> d0"]


@pytest.mark.parametrize("count", [0, 4, -1])
def test_a_subset_has_at_least_one_device_and_no_more_than_there_are(count):
    with pytest.raises(TestbedError, match=rf"has 3 devices, so it cannot give {count} ranks"):
        switch(devices(3), 1e8, 5e-5).subset(count)


# Measurements


def test_measured_pairs_are_as_fast_as_measured_and_share_their_ports():
    bandwidth = [[9, 4, 2], [4, 9, 3], [1, 3, 9]]
    latency = [[0, 1, 2], [3, 0, 4], [5, 6, 0]]
    testbed = measured(devices(3), latency, bandwidth)
    for s, t in pairs(3):
        route = testbed.routes[s][t]
        assert route.latency_s == latency[s][t]
        assert min(testbed.resources[number].bandwidth for number in route.resources) == bandwidth[s][t]
        assert passed(testbed, s, t)[:2] == [f"d{s} out", f"d{t} in"]
    ports = {resource.name: resource.bandwidth for resource in testbed.resources if "->" not in resource.name}
    assert ports == {"d0 out": 4, "d1 out": 4, "d2 out": 3, "d0 in": 4, "d1 in": 4, "d2 in": 3}
    assert {resource.name for resource in testbed.resources if "->" in resource.name} == {"d0 -> d2", "d2 -> d0"}


def test_equal_measurements_are_a_switch():
    even = measured(devices(4), [[5e-5] * 4] * 4, [[1e8] * 4] * 4)
    assert even.routes == switch(devices(4), 1e8, 5e-5).routes
    assert even.resources == switch(devices(4), 1e8, 5e-5).resources


@pytest.mark.parametrize(
    ("latency", "bandwidth", "sentence"),
    [
        ([[0, 1]], [[0, 1], [1, 0]], "2 devices need 2 x 2 measured latencies"),
        ([[0, 1], [1, 0]], [[0, 1], [1]], "2 devices need 2 x 2 measured bandwidths"),
        ([[0, 1], [1, 0]], [[0, 0], [1, 0]], r"d0 out: a bandwidth of 0.0 bytes/s must be a number above 0"),
        ([[0, 1], [1, 0]], [[0, float("nan")], [1, 0]], "a bandwidth of nan bytes/s"),
        ([[0, -1], [1, 0]], [[0, 1], [1, 0]], "a latency of -1.0 s must be a number, and 0 or more"),
    ],
)
def test_measurements_that_cannot_be(latency, bandwidth, sentence):
    with pytest.raises(TestbedError, match=sentence):
        measured(devices(2), latency, bandwidth)


# Cores


def test_ranks_of_one_host_overload_it_once_they_outnumber_its_cores():
    testbed = one_host(4, 2)
    assert testbed.active([0]) == (1.0,)
    assert testbed.active([0, 3]) == (1.0, 1.0)
    assert testbed.active([0, 1, 2]) == (1.5, 1.5, 1.5)
    assert testbed.active(range(4)) == (2.0,) * 4
    assert testbed.active([]) == ()


def test_paced_ranks_keep_a_part_of_a_core_busy():
    mixed = [Device("a", 1.0, host="h", cores=1), Device("b", 4.0, host="h", cores=1), Device("c", 0.5, threads=3)]
    testbed = switch([*mixed, Device("d", 2.0, host="h", cores=1)], 1e8, 5e-5)
    assert testbed.active([3, 0, 2, 1]) == (1.75, 1.75, 1.0, 1.75)
    assert testbed.active([1, 3]) == (1.0, 1.0)
    assert Device("e", 4.0, threads=2).busy_cores == 0.5
    assert Device("f", 0.5).busy_cores == 1.0, "a faster machine than the reference is not paced"


# Identity


def test_the_digest_knows_everything_but_the_name():
    base = switch(devices(3), 1e8, 5e-5, name="one")
    others = [
        switch(devices(2), 1e8, 5e-5),
        switch(devices(3), 2e8, 5e-5),
        switch(devices(3), 1e8, 6e-5),
        switch([*devices(2), Device("d2", 2.0)], 1e8, 5e-5),
        switch([*devices(2), Device("d2", memory_bytes=5)], 1e8, 5e-5),
        star(devices(3), 1e8, 5e-5),
    ]
    assert base.digest == switch(devices(3), 1e8, 5e-5, name="two").digest
    assert len({base.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_a_testbed_travels_between_ranks():
    testbed = ring(devices(4), 1e8, 5e-5)
    assert pickle.loads(pickle.dumps(testbed)) == testbed  # noqa: S301 - our own bytes


# Things that cannot exist


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "two words"}, r"device 'two words': its name may have letters, digits and - \. _ only"),
        ({"name": ""}, "device '': its name"),
        ({"slowdown": 0}, "device 'd': slowdown = 0 must be a number above 0"),
        ({"slowdown": float("nan")}, "slowdown = nan"),
        ({"slowdown": float("inf")}, "slowdown = inf"),
        ({"threads": 0}, "device 'd': threads = 0 must be at least 1"),
        ({"cores": 0}, "device 'd': cores = 0 must be at least 1"),
        ({"memory_bytes": 0}, "memory of 0 bytes"),
    ],
)
def test_devices_that_cannot_exist(fields, sentence):
    with pytest.raises(TestbedError, match=sentence):
        Device(**{"name": "d"} | fields)


@pytest.mark.parametrize(
    ("resources", "routes", "sentence"),
    [
        ((), ((None,),), "has 2 devices, so its routes must be 2 x 2"),
        ((), ((None, None), (Route(0.0, ()), None)), "needs a route from rank 0 to rank 1"),
        ((), ((Route(0.0, ()),) * 2, (Route(0.0, ()), None)), "cannot have a route from rank 0 to rank 0"),
        ((Resource("x", 1.0),), ((None, Route(0.0, (0, 1))), (Route(0.0, ()), None)), "from rank 0 to rank 1 passes a"),
    ],
)
def test_routes_that_cannot_exist(resources, routes, sentence):
    with pytest.raises(TestbedError, match=sentence):
        Testbed("t", tuple(devices(2)), resources, routes, TOPOLOGIES["switch"])


def test_names_are_distinct_and_hosts_agree_on_their_cores():
    with pytest.raises(TestbedError, match="two devices are called 'a'"):
        switch([Device("a"), Device("a")], 1e8, 5e-5)
    with pytest.raises(TestbedError, match="'b': cores = 2, but 'a' on the same host 'h' has cores = 4"):
        switch([Device("a", host="h", cores=4), Device("b", host="h", cores=2)], 1e8, 5e-5)
    with pytest.raises(TestbedError, match="at least one device"):
        one_host(0, 2)


# Files

FULL = """
format = 1
name = "all keys"
topology = "ring"
[link]
bandwidth = "1Gb/s"
latency = "50us"
[[device]]
name = "pi"
count = 2
slowdown = 8
threads = 4
memory = "512 MiB"
host = "box"
cores = 6
[[device]]
name = "old"
slowdown = 20.5
memory = "1.5GB"
bandwidth = "12.5MB/s"
latency = "0.2ms"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "bed.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_with_every_key(tmp_path):
    pis = [Device(f"pi{n}", 8.0, 4, 512 * 2**20, "box", 6) for n in range(2)]
    old = Device("old", 20.5, memory_bytes=1_500_000_000)
    expected = ring([*pis, old], [125e6, 125e6, 12.5e6], [50e-6, 50e-6, 0.2e-3], name="all keys")
    assert read(written(tmp_path, FULL)) == expected


def test_what_is_left_out(tmp_path):
    found = read(str(written(tmp_path, 'topology = "star"\n[[device]]\nname = "only"\n')))
    assert found == star([Device("only")], 1.0, 0.0, name="bed")


def test_ports_of_their_own_need_no_link_table(tmp_path):
    port = 'bandwidth = "1MB/s"\nlatency = "0s"\n'
    text = f'topology = "switch"\n[[device]]\nname = "a"\n{port}[[device]]\nname = "b"\n{port}'
    assert read(written(tmp_path, text)) == switch([Device("a"), Device("b")], 1e6, 0.0, name="bed")


@pytest.mark.parametrize(
    ("written_as", "seconds_or_bytes"),
    [
        (("memory", "3B"), 3),
        (("memory", "3kB"), 3e3),
        (("memory", "3MB"), 3e6),
        (("memory", "3GB"), 3e9),
        (("memory", "3KiB"), 3 * 2**10),
        (("memory", "3MiB"), 3 * 2**20),
        (("memory", "3GiB"), 3 * 2**30),
        (("bandwidth", "800b/s"), 100),
        (("bandwidth", "800kb/s"), 100e3),
        (("bandwidth", "800Mb/s"), 100e6),
        (("bandwidth", "8Gb/s"), 1e9),
        (("bandwidth", "1e2MB/s"), 100e6),
        (("bandwidth", "2MiB/s"), 2 * 2**20),
        (("latency", "1.5s"), 1.5),
        (("latency", "1.5ms"), 1.5e-3),
        (("latency", "1.5us"), 1.5e-6),
        (("latency", "1.5ns"), 1.5e-9),
    ],
)
def test_units(written_as, seconds_or_bytes, tmp_path):
    key, text = written_as
    values = {"bandwidth": "1Gb/s", "latency": "1us", "memory": "1GiB", key: text}
    keys = "".join(f'{name} = "{value}"\n' for name, value in values.items())
    found = read(written(tmp_path, f'topology = "switch"\n[[device]]\nname = "d"\ncount = 2\n{keys}'))
    route = found.routes[0][1]
    numbers = {
        "memory": found.devices[1].memory_bytes,
        "bandwidth": found.resources[0].bandwidth,
        "latency": route.latency_s,
    }
    assert numbers[key] == pytest.approx(seconds_or_bytes, rel=1e-12)


HEAD = 'topology = "switch"\n'
LINK = '[link]\nbandwidth = "1Gb/s"\nlatency = "50us"\n'
DEVICE = '[[device]]\nname = "a"\n'

MISTAKES = {
    "no TOML": ("topology = switch", "is not TOML: "),
    "of a newer format": ("format = 2\n" + HEAD + DEVICE, "format = 2, and this version reads format 1"),
    "unknown key": (HEAD + "links = 3\n" + DEVICE, "an unknown key 'links'; it may have format, name, topology, link"),
    "unknown key of a device": (
        HEAD + DEVICE + "speed = 3\n",
        "device 'a' has an unknown key 'speed'; it may have name",
    ),
    "unknown key of the link": (
        HEAD + DEVICE + LINK + "loss = 1\n",
        r"\[link\] has an unknown key 'loss'; it may have b",
    ),
    "no topology": (DEVICE, "the testbed lacks the key 'topology'"),
    "unknown topology": ('topology = "mesh"\n' + DEVICE, '"mesh" must be one of switch, ring, star'),
    "topology of no text": ("topology = 3\n" + DEVICE, "topology = 3 must be a text"),
    "no devices": (HEAD, r"there are no devices; write a table headed \[\[device\]\]"),
    "one table of devices": (HEAD + '[device]\nname = "a"\n', r"a table of its own, headed \[\[device\]\]"),
    "devices without a table": (HEAD + "device = [1]\n", r"headed \[\[device\]\]"),
    "a device without a name": (HEAD + "[[device]]\nslowdown = 2\n", "device 0 lacks the key 'name'"),
    "a name with a space": (HEAD + '[[device]]\nname = "a b"\n', "device 'a b': its name may have letters"),
    "two of one name": (HEAD + LINK + DEVICE + DEVICE, "two devices are called 'a'"),
    "link that is no table": ('link = "1Gb/s"\n' + HEAD + DEVICE, r"link must be one table, headed \[link\]"),
    "no bandwidth": (HEAD + DEVICE + "count = 2\n", r"\[link\] lacks the key 'bandwidth', and device 'a' has none"),
    "no latency": (HEAD + '[link]\nbandwidth = "1B/s"\n' + DEVICE + "count = 2\n", r"\[link\] lacks the key 'latency'"),
    "slowdown of 0": (HEAD + DEVICE + "slowdown = 0\n", "device 'a': slowdown = 0.0 must be a number above 0"),
    "negative slowdown": (HEAD + DEVICE + "slowdown = -1\n", "slowdown = -1.0 must be a number above 0"),
    "endless slowdown": (HEAD + DEVICE + "slowdown = inf\n", "slowdown = inf must be a number above 0"),
    "slowdown as a text": (HEAD + DEVICE + 'slowdown = "8"\n', "slowdown = '8' must be a number above 0"),
    "true slowdown": (HEAD + DEVICE + "slowdown = true\n", "slowdown = True must be a number above 0"),
    "half a thread": (
        HEAD + DEVICE + "threads = 0.5\n",
        "device 'a': threads = 0.5 must be a whole number, at least 1",
    ),
    "no threads": (HEAD + DEVICE + "threads = 0\n", "threads = 0 must be a whole number, at least 1"),
    "no copies": (HEAD + DEVICE + "count = 0\n", "count = 0 must be a whole number, at least 1"),
    "too many": (HEAD + DEVICE + "count = 1000000000000\n", "count = 1000000000000 makes more than 1024 devices"),
    "memory without a unit": (
        HEAD + DEVICE + "memory = 512\n",
        "device 'a': memory = 512 is no size of a memory: write",
    ),
    "memory of another unit": (HEAD + DEVICE + 'memory = "4Gb"\n', '"4Gb" is no size .* units B kB MB GB KiB MiB GiB'),
    "no memory": (HEAD + DEVICE + 'memory = "0MB"\n', 'memory = "0MB" is no size of a memory that can exist'),
    "negative memory": (HEAD + DEVICE + 'memory = "-1MB"\n', 'memory = "-1MB" is no size of a memory'),
    "bandwidth in bytes": (HEAD + DEVICE + 'bandwidth = "1Gb"\n', '"1Gb" is no bandwidth: write it like "1Gb/s"'),
    "no bandwidth at all": (HEAD + DEVICE + 'bandwidth = "0Gb/s"\n', '"0Gb/s" is no bandwidth that can exist'),
    "endless bandwidth": (HEAD + DEVICE + 'bandwidth = "1e999B/s"\n', "no bandwidth that can exist"),
    "latency of another unit": (HEAD + DEVICE + 'latency = "1min"\n', '"1min" is no latency: .* units s ms us ns'),
    "latency without a unit": (HEAD + '[link]\nlatency = "50"\n' + DEVICE, r"\[link\]: latency = .50. is no latency"),
    "hosts that disagree": (
        HEAD + LINK + DEVICE + 'host = "h"\ncores = 2\n[[device]]\nname = "b"\nhost = "h"\n',
        "device 'b': cores = 1, but 'a' on the same host 'h' has cores = 2",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_that_names_the_file(mistake, tmp_path):
    text, sentence = MISTAKES[mistake]
    path = written(tmp_path, text)
    with pytest.raises(TestbedError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(TestbedError, match=r"cannot read the testbed .*gone.toml: No such file"):
        read(tmp_path / "gone.toml")
    with pytest.raises(TestbedError, match="cannot read the testbed"):
        read(tmp_path)
    (tmp_path / "binary.toml").write_bytes(bytes(range(128, 256)))
    with pytest.raises(TestbedError, match=r"binary.toml is not TOML"):
        read(tmp_path / "binary.toml")


@pytest.mark.parametrize("path", sorted(HOSTFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_our_own_files_match_their_hostfiles(path):
    testbed = read(path)
    lines = path.with_suffix(".hosts").read_text(encoding="utf-8").splitlines()
    assert [device.name for device in testbed.devices] == [line for line in lines if not line.startswith("#")]
    assert testbed.name == path.stem
    assert all(load == 1 for load in testbed.active(range(testbed.ranks))), "every board has cores of its own"


# To add a topology is one function and one line of the registry: a file can name it, and all rooms take it


def chain(devices, bandwidth, latency, name="chain"):
    """Devices in a row, which forward what is meant for others."""
    links = [link for a, b in pairwise(range(len(devices))) for link in ((a, b), (b, a))]

    def hops(source, target):
        step = 1 if source < target else -1
        return list(pairwise(range(source, target + step, step)))

    return forwarded(TOPOLOGIES["chain"], name, devices, bandwidth, latency, links, hops)


def test_a_topology_that_is_added_can_be_read_and_built(tmp_path, monkeypatch):
    monkeypatch.setitem(TOPOLOGIES, "chain", Topology("chain", chain, most_devices=6))
    path = written(
        tmp_path, 'topology = "chain"\n[link]\nbandwidth = "1Gb/s"\nlatency = "1us"\n' + DEVICE + "count = 4\n"
    )
    testbed = read(path)
    assert str(testbed.topology) == "chain" and len(testbed.resources) == 6
    assert testbed.routes[0][3].latency_s == pytest.approx(3e-6) and len(testbed.routes[3][1].resources) == 2
    with pytest.raises(TestbedError, match="7 devices are more than the 6 that a chain may have"):
        read_sketch(path).testbed(7)
    network = network_of(read_sketch(path).testbed(6), "flexpie-1-2-abcd")
    assert len(network.interfaces) == 10 and network.hops["a0", "a3-5"].next == "a1"
