"""A campaign takes the links that a file knows of the boards that ranks stand for, and measured ones elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.measure import campaign
from flexpie_mpi.measure.agreement import Budget
from flexpie_mpi.measure.campaign import Campaign
from flexpie_mpi.measure.cluster import origins_of
from flexpie_mpi.runtime.loopback import LoopbackTransport, run_ranks
from flexpie_mpi.testbed import read
from tests.launch import REPOSITORY

KNOWN = read(REPOSITORY / "hostfiles/flexpie-ring3-1g.toml")


@pytest.mark.parametrize("stands", [True, False])
def test_links_are_those_of_the_boards_that_ranks_stand_for(stands: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "stand_for_boards", lambda places: stands)
    kept: list[np.ndarray] = []

    def one_rank(transport: LoopbackTransport) -> str:
        def keep(table: str, rows: np.ndarray) -> None:
            if table == "exchange":
                kept.append(rows)

        measured = Campaign(transport, origins_of(transport, 1, 1.0), Budget(transport, 0.3), keep, known=KNOWN)
        return measured.run([]).topology.name

    assert run_ranks(3, one_rank) == ["ring" if stands else "measured"] * 3
    rows = np.concatenate(kept)
    large = rows["port_bytes"] > 1e5
    assert large.any()
    assert (rows["wire_s"][large] > 1e-4).all() == stands  # 1 Gb/s, against memory
