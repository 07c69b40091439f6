"""The provider that runs segments on the processor."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime

from ..core.versions import processor
from ..files.cache import Cache
from ..model import SegmentModel
from ..model.blocked import UnmarkableError, between_reorders, marked, probe, unmarked
from ..model.blocked_crops import crops_of
from ..model.packed import packed, packs
from ..model.shard import WeightFiles
from .ort import OrtProvider
from .provider import ProviderOptions

KIND = "blocked-2"
_MODEL, _WEIGHTS = "model.onnx", "weights.bin"

_ONE_AT_A_TIME = Lock()


class CpuProvider(OrtProvider):
    """Runs segments on the processor. All sessions of the process take their working memory from one arena."""

    execution_providers = ("CPUExecutionProvider",)

    def __init__(self, options: ProviderOptions) -> None:
        super().__init__(options)
        self.block = block_size()
        self._cache = options.cache or Cache(None)

    def settings(self, model: SegmentModel) -> onnxruntime.SessionOptions:
        """Options of the session of a segment."""
        share_memory()
        settings = super().settings(model)
        settings.add_session_config_entry("session.use_env_allocators", "1")
        if model.reads_weights_once and not (self._options.shares_weights and packs(model)):  # they would be held twice
            settings.add_session_config_entry("session.disable_prepacking", "1")
        return settings

    def places(self, model: SegmentModel, weights: WeightFiles) -> dict[str, dict[str, str]]:
        """Where the data of every weight are; where sessions share them, of products as kernels want them as well."""
        plain = super().places(model, weights)
        return {**plain, **packed(model, weights, self._cache)} if self._options.shares_weights else plain

    def session(self, model: SegmentModel, content: bytes, folder: Path) -> onnxruntime.InferenceSession:
        """The session of a segment; where values are blocked, of what onnxruntime once made of its model."""
        if not model.blocked:
            return super().session(model, content, folder)
        try:
            made = self._optimised(model, content, folder)
        except UnmarkableError:
            return super().session(model, between_reorders(content, model.blocked), folder)
        settings = self.settings(model)
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return self.load((made / _MODEL).read_bytes(), settings, made)

    def _optimised(self, model: SegmentModel, content: bytes, folder: Path) -> Path:
        """The folder, in the cache, of an optimised segment with blocked inputs and outputs."""
        described = f"{onnxruntime.__version__} {processor()} {self.block} {sorted(model.blocked.items())}"
        key = hashlib.blake2b(described.encode() + content, digest_size=16).hexdigest()

        def write(path: Path) -> None:
            path.mkdir()
            (path / _MODEL).write_bytes(self._optimise(model, content, folder, path))

        return self._cache.find(KIND, key) or self._cache.store(KIND, key, write)

    def _optimise(self, model: SegmentModel, content: bytes, folder: Path, target: Path) -> bytes:
        """The optimised model of a segment; its weights are written to `target`."""
        settings = self.settings(model)
        settings.enable_profiling = False
        settings.optimized_model_filepath = str(target / _MODEL)
        settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        crops = list(crops_of(content, max(model.blocked.values())))
        try:
            self.load(marked(content, model.blocked, crops), settings, folder)
            return unmarked(target / _MODEL, content, model.blocked, crops)
        except UnmarkableError:
            if not crops:
                raise
        self.load(marked(content, model.blocked), settings, folder)
        return unmarked(target / _MODEL, content, model.blocked)


@cache
def block_size() -> int:
    """Channels to a block of convolutions on this machine; 0 where onnxruntime has no such layout, as on ARM.

    A model that is laid out for another number runs as well, and computes something else.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(probe(), settings, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime raises its own classes, straight from Exception
        return 0
    return int(session.run(None, {"x": np.zeros((1, 4, 1, 1), np.float32)})[0].shape[1])


def share_memory() -> None:
    """Let all sessions of this process take their working memory from one place, since a rank runs one at a time."""
    with _ONE_AT_A_TIME:
        _register_arena()


@cache
def _register_arena() -> None:
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    unlimited, as_requested, default = 0, 1, -1
    onnxruntime.create_and_register_allocator(
        memory, onnxruntime.OrtArenaCfg(unlimited, as_requested, default, default)
    )
