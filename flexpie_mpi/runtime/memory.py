"""The working memory of onnxruntime sessions: one arena for all of a process."""

from __future__ import annotations

from functools import cache
from threading import Lock

import onnxruntime

_ONE_AT_A_TIME = Lock()


def share_memory() -> None:
    """Let all sessions of this process take their working memory from one place, since a rank runs one at a time."""
    with _ONE_AT_A_TIME:
        _register_arena()


@cache
def _register_arena() -> None:
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    unlimited, as_requested, default = 0, 1, -1
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(unlimited, as_requested, default, default))
