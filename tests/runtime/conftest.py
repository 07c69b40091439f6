"""A small model, requests, and what a single rank makes of them one at a time."""

from __future__ import annotations

import pytest

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import alone

from .streams import COUNT, copied


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(cache):
    return load("builtin:tiny_cnn", cache=cache)


@pytest.fixture(scope="module")
def requests(model):
    return [random_inputs(model.graph, seed=seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def expected(model, requests, cache):
    engine = Engine(alone(), model, layout_plan(model.graph, 1), cache=cache)
    return [copied(engine.run(request)) for request in requests]
