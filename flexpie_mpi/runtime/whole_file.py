"""Plain onnxruntime sessions of model files as they are: what the answers of a job are compared with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime

from ..core.errors import ModelError
from ..model.outputs import picked
from ..model.session import reason
from .ort import outputs_of

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED")
"""How far onnxruntime may optimise a model, below what it does by itself."""


class WholeFile:
    """One plain session on a model file as it is: nothing of ours between it and onnxruntime.

    Parameters
    ----------
    path : Path
    threads : int
    wanted : sequence of str, optional
        Outputs that are given, as of :func:`flexpie_mpi.model.outputs.select_outputs`; all when empty.
    level : one of `LEVELS`, optional
        How far onnxruntime may optimise the model; as far as it does by itself when not given.
    constants : mapping of str to array, optional
        In place of those that the file has under these names.

    Raises
    ------
    ModelError
        When onnxruntime refuses the model.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        wanted: Sequence[str] = (),
        *,
        level: str = "",
        constants: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        self._path = path
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3
        if level:
            settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        self._constants = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in constants.items()}
        for name, value in self._constants.items():  # used in place, so kept alive as long as the session
            settings.add_initializer(name, value)
        with self._explained():
            name = os.fsencode(path).decode()  # the bytes of UTF-8 are what onnxruntime makes of a name
            self._session = onnxruntime.InferenceSession(name, settings, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._asked = wanted or self._names
        self._wanted = {value.name for value in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name; inputs that the file does not have are left alone.

        Raises ModelError when onnxruntime refuses the inputs.
        """
        feeds = {name: value for name, value in inputs.items() if name in self._wanted}
        with self._explained():
            outputs = dict(zip(self._names, outputs_of(self._session, self._names, feeds), strict=True))
        return picked(self._asked, outputs)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # onnxruntime raises its own classes, straight from Exception
            raise ModelError(f"onnxruntime cannot run {self._path} by itself: {reason(error)}") from error
