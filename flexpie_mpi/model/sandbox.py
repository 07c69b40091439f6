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
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from ..core.budget import Budget
from ..core.errors import ModelError
from .limits import count_of
from .read import Source
from .weights import StoredTensor

log = logging.getLogger(__name__)

LEAST_S, BYTES_PER_S, NODES_PER_S = 20.0, 2e6, 200.0
"""A job may take so long, and longer for a model of many bytes and nodes."""
LEAST_BYTES = 256 << 20
"""A job may take so much memory, and more for its model and the budget; with too little the libraries crash."""

_ONE_AT_A_TIME = Lock()
_PROGRAM = f"import json, sys; sys.path = json.loads(sys.argv[1]); from {__package__}.sandboxed import serve; serve()"


@dataclass(frozen=True, slots=True)
class Job:
    """What a job needs to know: where the model is, where its prepared form is to be, and what it may take.

    `message` is a file that holds the ModelProto as read, `stored` another one with the places of its large weights.
    `runs` tells whether the model may be run on made-up inputs.
    """

    message: str
    stored: str
    path: str
    folder: str
    budget_bytes: int
    data_bytes: int
    limit_s: float
    runs: bool = True


def prepare_apart(source: Source, path: Path, folder: Path, budget: Budget) -> None:
    """Do what :func:`.prepare.prepare` does in another process.

    Raises
    ------
    ModelError
        What that raises; also when it crashes, takes too long, or needs more memory than twice the model's files and
        the budget.
    OSError
        When the folder cannot be written.
    """
    with _beside(folder) as (message, stored):
        message.write_bytes(source.proto.SerializeToString())
        stored.write_text(json.dumps({key: _entry(value) for key, value in source.stored.items()}))
        nbytes = message.stat().st_size + sum(value.place.length for value in source.stored.values())
        job = Job(
            message=str(message.absolute()),
            stored=str(stored.absolute()),
            path=str(path.absolute()),
            folder=str(folder.absolute()),
            budget_bytes=budget.nbytes,
            data_bytes=LEAST_BYTES + 2 * (nbytes + budget.nbytes),
            limit_s=LEAST_S + nbytes / BYTES_PER_S + count_of(source.proto) / NODES_PER_S,
        )
        with _ONE_AT_A_TIME:
            reply = _reply(job)
    for text in reply.get("warnings", ()):
        log.warning("%s", text)
    if "error" in reply:
        raise ModelError(reply["error"])
    if "os_error" in reply:
        raise OSError(*reply["os_error"])


@contextmanager
def _beside(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Two files for a job beside the folder that it makes: in a cache they go with an entry that was never finished."""
    files = folder.with_name(f"{folder.name}.model"), folder.with_name(f"{folder.name}.stored")
    try:
        yield files
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def _entry(stored: StoredTensor) -> list[Any]:
    return [
        stored.data_type,
        list(stored.shape),
        str(stored.place.path.absolute()),
        stored.place.offset,
        stored.place.length,
    ]


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
