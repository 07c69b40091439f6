"""The process in which models are prepared: see :mod:`.sandbox`."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from select import select
from typing import Any, NoReturn

import onnx

from ..core.budget import Budget, data_bytes
from ..core.errors import ModelError
from .prepare import prepare
from .read import Source
from .sandbox import Job
from .weights import ByteRange, StoredTensor

IDLE_S = 10.0
"""A server without a job for so long gives its memory back; another is started when there is one."""

_LOOK_S = 0.002
_MOST_WARNINGS, _LONGEST = 8, 1000
"""A reply has to fit into a pipe (64 KiB) that nobody reads before its writer has ended."""


def serve() -> None:
    """Do jobs, each in a process of its own, until none has come for a while or none can come any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked for a job is interrupted as well, and then ends this
    parent = os.getppid()
    while select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.buffer.readline()):
        reply = _reply(Job(**json.loads(line)), parent)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


def _reply(job: Job, parent: int) -> dict[str, Any]:
    """The reply to a job. Inputs that are made up may be what a model dies of, so then it is prepared without a run."""
    reply = _apart(job, parent)
    if "died" not in reply:
        return reply
    shutil.rmtree(job.folder, ignore_errors=True)
    again = _apart(replace(job, runs=False), parent)
    if "died" not in again:
        warning = f"sizes of values are those of inference: on made-up inputs, {reply['died']}"
        again["warnings"] = [warning, *again.get("warnings", ())]
    return again


def _apart(job: Job, parent: int) -> dict[str, Any]:
    """The reply to a job: what its process writes, or what became of that process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work(job, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        status = _waited(child, job.limit_s, parent)
        text = pipe.read()
    if status is None:
        return _died(f"to prepare it takes longer than {job.limit_s:.0f} s")
    if os.WIFSIGNALED(status) or not text:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        name = signal.Signals(number).name if number else f"exit code {os.WEXITSTATUS(status)}"
        return _died(f"onnx or onnxruntime crashes on it ({name})")
    reply: dict[str, Any] = json.loads(text)
    return reply


def _died(how: str) -> dict[str, Any]:
    return {"died": how, "error": f"{how}: it is damaged, or made to do that."}


def _waited(child: int, limit_s: float, parent: int) -> int | None:
    """How a process ended; None when it had to be ended, for its time or because nobody waits for it any more."""
    end_s = time.monotonic() + limit_s
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if time.monotonic() > end_s or os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(_LOOK_S)


def _work(job: Job, writing: int) -> NoReturn:
    """Do a job in this process, write the reply, and end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # replies go to stdout, where a library may print
    reply: dict[str, Any] = {"warnings": []}
    logging.basicConfig(handlers=[_Keeper(reply["warnings"])], level=logging.WARNING, force=True)
    try:
        _limit(job.data_bytes)
        prepare(_source(job), Path(job.path), Path(job.folder), Budget(job.budget_bytes), runs=job.runs)
    except ModelError as raised:
        reply["error"] = str(raised)[: 4 * _LONGEST]
    except MemoryError:
        reply["error"] = (
            f"to prepare it takes more than {job.data_bytes / 1e9:.3g} GB of memory: allow more with --memory."
        )
    except OSError as raised:
        reply["os_error"] = [raised.errno or 0, str(raised.strerror), str(raised.filename)]
    except BaseException as raised:  # whatever onnx raises on what no exporter writes
        reply["error"] = f"it cannot be prepared: {type(raised).__name__}: {str(raised)[:_LONGEST]}."
    os.write(writing, json.dumps(reply, ensure_ascii=False).encode(errors="backslashreplace"))
    os._exit(0)


def _limit(nbytes: int) -> None:
    """Let this process take so much memory more than it has; files that are mapped do not count."""
    with suppress(ValueError, OSError):  # where the system knows no such limit there is none
        most = data_bytes() + nbytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _source(job: Job) -> Source:
    proto = onnx.ModelProto.FromString(Path(job.message).read_bytes())
    entries = json.loads(Path(job.stored).read_text())
    return Source(proto, {name: _stored(*entry) for name, entry in entries.items()})


def _stored(data_type: int, shape: list[int], path: str, offset: int, length: int) -> StoredTensor:
    return StoredTensor(data_type, tuple(shape), ByteRange(Path(path), offset, length))


class _Keeper(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._texts) < _MOST_WARNINGS:
            self._texts.append(record.getMessage()[:_LONGEST])
