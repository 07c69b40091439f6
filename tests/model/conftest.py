"""Fixtures of the tests that load models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.model import Model, load

from .build import save


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def loaded(tmp_path: Path, cache: Cache) -> Callable[..., Model]:
    """Writes a model to a file and loads that."""

    def load_it(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]] | None = None, **options: Any) -> Model:
        return load(save(model, tmp_path / "model.onnx"), shapes or {}, **{"cache": cache, **options})

    return load_it
