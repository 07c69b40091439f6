"""The memory of onnxruntime sessions: one arena for what all of a process work with; what is free goes back."""

from __future__ import annotations

import ctypes
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


def return_free_memory() -> None:
    """Give free memory of this process back to the system, where the C library can.

    Sessions lay constants out anew and free the copies between, which stay with the process otherwise.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(ctypes.c_size_t(0))
