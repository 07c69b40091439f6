"""Who measured, the key of a cluster, and the testbed that rows of links show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi.core.budget import memory_bytes
from flexpie_mpi.cost.links import LinkPrices, Pairs
from flexpie_mpi.cost.model import Origin
from flexpie_mpi.cost.rows import LINK_TRACE
from flexpie_mpi.measure.cluster import cluster_digest, origins_of, testbed_of
from flexpie_mpi.runtime.cpu import CpuProvider
from flexpie_mpi.runtime.kernels import PROVIDERS
from flexpie_mpi.runtime.loopback import run_ranks

ORIGINS = tuple(Origin("job", rank, host="left" if rank < 3 else "right", cores=2, threads=1) for rank in range(4))


def links(pairs, latency_s, bandwidth):
    """Rows of straight lines."""
    rows = np.zeros(2 * len(pairs), LINK_TRACE)
    for place, (pair, nbytes) in enumerate((pair, nbytes) for pair in pairs for nbytes in (1 << 20, 0)):
        rows[place] = (*pair, nbytes, 1, latency_s(pair) + nbytes / bandwidth(pair), 0, 5, pair[0])
    return rows


def test_every_rank_has_the_same_origins():
    found = run_ranks(3, lambda transport: origins_of(transport, threads=2, slowdown=4))
    assert found[0] == found[1] == found[2] and [origin.rank for origin in found[0]] == [0, 1, 2]
    assert len({origin.job for origin in found[0]}) == 1 and {origin.threads for origin in found[0]} == {2}
    assert all(origin.cpu and origin.cores > 0 and origin.onnxruntime for origin in found[0])
    again = run_ranks(3, lambda transport: origins_of(transport, threads=2))[0]
    assert again[0].job != found[0][0].job and cluster_digest(again) == cluster_digest(found[0])


def test_the_block_of_an_origin_is_that_of_what_runs_segments(monkeypatch):
    class RowMajor(CpuProvider):
        def __init__(self, options):
            super().__init__(options)
            self.block = 0

    monkeypatch.setitem(PROVIDERS, "cpu", RowMajor)
    assert [origin.block for origin in run_ranks(2, lambda transport: origins_of(transport, threads=1))[0]] == [0, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "other"},
        {"cpu": "x"},
        {"cores": 9},
        {"threads": 3},
        {"onnxruntime": "0"},
        {"python": "4"},
        {"package": "9"},
    ],
)
def test_the_digest_is_of_the_cluster_and_not_of_the_run(changes):
    other = (*ORIGINS[:3], replace(ORIGINS[3], **changes))
    assert cluster_digest(other) != cluster_digest(ORIGINS) != cluster_digest(ORIGINS[:3])
    assert cluster_digest([replace(origin, job="another") for origin in ORIGINS]) == cluster_digest(ORIGINS)


def test_the_testbed_has_the_links_that_were_measured():
    pairs = [(0, 1), (0, 3), (1, 2), (2, 3)]
    rows = links(pairs, lambda pair: 1e-6 * (1 + sum(pair)), lambda pair: 1e9 / (1 + sum(pair)))
    contended = rows.copy()
    contended["pairs"], contended["seconds"] = 2, 99.0
    testbed = testbed_of(ORIGINS, np.concatenate([contended, rows]), [1000, 1000, 1000, 2000])
    assert [(device.host, device.cores, device.memory_bytes) for device in testbed.devices] == [
        ("left", 2, 333), ("left", 2, 333), ("left", 2, 333), ("right", 2, 2000),
    ]  # fmt: skip
    network = LinkPrices(testbed)
    for source, target in (*pairs, *((target, source) for source, target in pairs)):
        nbytes = np.zeros((4, 4, 1))
        nbytes[source, target] = 10**6
        (latency,), (wire,) = network.terms(Pairs(nbytes))
        factor = 1 + source + target
        assert float(latency) == pytest.approx(1e-6 * factor) and float(wire) == pytest.approx(1e-3 * factor)
    assert testbed.routes[0][2].latency_s == pytest.approx(np.median([2e-6, 4e-6, 4e-6, 6e-6]))


def test_without_rows_there_is_a_testbed_all_the_same():
    testbed = testbed_of(ORIGINS, np.zeros(0, LINK_TRACE))
    assert testbed.ranks == 4 and testbed.devices[0].memory_bytes is None
    assert testbed_of(ORIGINS[:1], np.zeros(0, LINK_TRACE)).ranks == 1


def test_a_long_message_that_took_no_longer_tells_no_bandwidth():
    rows = links([(0, 1)], lambda pair: 1e-3, lambda pair: np.inf)
    _, (wire,) = LinkPrices(testbed_of(ORIGINS, rows)).terms(Pairs(1.0 - np.eye(4)[..., None]))
    assert wire > 0


def test_the_memory_of_this_host_is_known():
    assert memory_bytes() == 0 or memory_bytes() > 1 << 20
