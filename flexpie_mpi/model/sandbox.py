"""A process of its own, with limits, for preparing the models of strangers.

A crash, a hang or a flood of memory in onnx or onnxruntime becomes a sentence here. One server is started when the
first model is prepared; it forks for every job, so that each begins in a clean process::

    this process --job--> server (onnx and onnxruntime imported) --fork--> prepare, under limits
                 <-reply-                                        <-exit or signal-

Jobs and replies are lines of JSON. What is prepared is in a folder, in files that this process reads as it reads them
from the cache.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from select import select
from threading import Lock
from typing import Any, NoReturn

import onnx

from ..core.budget import Budget, data_bytes
from ..core.errors import ModelError
from .prepare import prepare
from .read import count_of
from .weights import Source, StoredTensor

log = logging.getLogger(__name__)

LEAST_S, BYTES_PER_S, NODES_PER_S = 20.0, 2e6, 200.0
"""A job may take so long, and longer for a model of many bytes and nodes."""
LEAST_BYTES = 256 << 20
"""A job may take so much memory, and more for its model and the budget; with too little the libraries crash."""
IDLE_S = 10.0
"""A server without a job for so long gives its memory back; another is started when there is one."""

_LOOK_S = 0.002
_MOST_WARNINGS, _LONGEST = 8, 1000
"""A reply has to fit into a pipe (64 KiB) that nobody reads before its writer has ended."""

_ONE_AT_A_TIME = Lock()
_PROGRAM = f"import json, sys; sys.path = json.loads(sys.argv[1]); from {__package__}.sandbox import serve; serve()"


@dataclass(frozen=True, slots=True)
class Job:
    """What a job needs to know: where the model is, where its prepared form is to be, and what it may take.

    `message` is a file that holds the ModelProto as read, `stored` tells where its large weights are (fields of
    :class:`.weights.StoredTensor`), and `runs` tells whether the model may be run on made-up inputs.
    """

    message: str
    stored: dict[str, tuple[Any, ...]]
    path: str
    folder: str
    budget_bytes: int
    data_bytes: int
    limit_s: float
    runs: bool = True


def prepare_apart(source: Source, path: Path | None, folder: Path, budget: Budget) -> None:
    """Do what :func:`.prepare.prepare` does in another process.

    Raises ModelError when that raises, crashes, takes too long, or needs more memory than twice the model's
    files and the budget. Raises OSError when the folder cannot be written.
    """
    message = folder.with_name(f"{folder.name}.model")  # in a cache it goes with an entry that was never finished
    try:
        message.write_bytes(source.proto.SerializeToString())
        nbytes = message.stat().st_size + sum(value.length for value in source.stored.values())
        job = Job(
            message=str(message.absolute()),
            stored={
                key: (value.data_type, value.shape, str(value.path), value.offset, value.length)
                for key, value in source.stored.items()
            },
            path=str(path.absolute()) if path else "",
            folder=str(folder.absolute()),
            budget_bytes=budget.nbytes,
            data_bytes=LEAST_BYTES + 2 * (nbytes + budget.nbytes),
            limit_s=LEAST_S + nbytes / BYTES_PER_S + count_of(source.proto) / NODES_PER_S,
        )
        with _ONE_AT_A_TIME:
            reply = _reply(job)
    finally:
        message.unlink(missing_ok=True)
    for text in reply.get("warnings", ()):
        log.warning("%s", text)
    if "error" in reply:
        raise ModelError(reply["error"])
    if "os_error" in reply:
        raise OSError(*reply["os_error"])


def _reply(job: Job) -> dict[str, Any]:
    """The server's answer; a server that has died since is started again, once.

    None is asked again whose answer was not waited for: the next that it gives would be that one.
    """
    for _ in range(2):
        server = _server()
        try:
            return _asked(server, job)
        except BaseException as error:
            _server.cache_clear()
            if not isinstance(error, OSError):
                raise
    raise ModelError(f"the process that prepares models cannot be kept running by {sys.executable}")


def _asked(server: subprocess.Popen[bytes], job: Job) -> dict[str, Any]:
    assert server.stdin is not None and server.stdout is not None, "both are pipes"
    server.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        raise OSError("the server has ended")
    reply: dict[str, Any] = json.loads(line)
    return reply


@cache
def _server() -> subprocess.Popen[bytes]:
    """The server, which imports what this process would; it ends when this process does, or has long had no job."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


# The server


def serve() -> None:
    """Do jobs, each in a process of its own, until none has come for a while or none can come any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked for a job is interrupted as well, and then ends this
    parent = os.getppid()
    while select([sys.stdin], [], [], IDLE_S)[0] and (line := sys.stdin.buffer.readline()):
        reply = _answer(Job(**json.loads(line)), parent)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(job: Job, parent: int) -> dict[str, Any]:
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
    logging.basicConfig(handlers=[_Recorder(reply["warnings"])], level=logging.WARNING, force=True)
    try:
        _limit(job.data_bytes)
        path = Path(job.path) if job.path else None
        prepare(_source(job), path, Path(job.folder), Budget(job.budget_bytes), runs=job.runs)
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
    stored = {
        name: StoredTensor(data_type, tuple(shape), Path(path), offset, length)
        for name, (data_type, shape, path, offset, length) in job.stored.items()
    }
    return Source(proto, stored)


class _Recorder(logging.Handler):
    """Keeps the first texts that are logged."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._texts) < _MOST_WARNINGS:
            self._texts.append(record.getMessage()[:_LONGEST])
