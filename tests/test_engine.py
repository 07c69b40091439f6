"""The engine: what it has taken is given back when it cannot be made."""

from __future__ import annotations

import pytest

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.core.errors import TestbedError
from flexpie_mpi.files.cache import Cache


def test_an_engine_that_cannot_be_made_keeps_no_channels(tmp_path):
    model = load("builtin:tiny_cnn", cache=Cache(tmp_path))
    plan = layout_plan(model.graph, 2, "rows")

    def rank(transport):
        opened, released = [], []
        take, give = transport.open, transport.release
        transport.open = lambda exchanges: opened.extend(take(exchanges)) or tuple(opened)
        transport.release = lambda channels: give(released.extend(channels) or ())
        with pytest.raises(TestbedError, match="rank 1: "):
            Engine(transport, model, plan, cache=Cache(tmp_path), slowdown=float(1 - transport.rank), in_flight=3)
        return opened, released

    for opened, released in run_ranks(2, rank):
        assert opened and set(map(id, opened)) == set(map(id, released))
