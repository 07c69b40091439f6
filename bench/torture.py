"""Files of results whose writer is killed, or has no room left: each must open with every request that was reported.

``python bench/torture.py [--trials 500] [--seed 0]``

A child process adds requests of many shapes to a file, in which the last child was ended as well, and reports each. It
is killed after a random time, or within a random write, half of which is done; or the file may not become larger than
some random size. Then the file is opened, every request in it is compared with what was written, and the next child
resumes it. Exit code 1 when a request is lost, doubled or another one, or a file cannot be opened.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files import journal
from flexpie_mpi.files.hdf5 import Stack
from flexpie_mpi.files.stackwriter import StackWriter

ABOUT = {"model": "none", "model_digest": "0", "stream": "torture"}
PER_FILE = 20
"""Children that write one file after each other."""
MOST_BATCHES = 12


def batch(first: int, count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Requests as a stream gives them: large and small, as long as their numbers say, texts, and others' axes."""
    numbers = np.arange(first, first + count)
    lengths = numbers % 7 + 1
    ragged = np.where(np.arange(7) < lengths[:, None], numbers[:, None], 0)
    whole = {
        "plain": np.repeat(numbers.astype(np.float32), 3000).reshape(count, 3, 1000),
        "ragged": ragged,
        "text": np.array([[str(number), "x" * (number % 5)] for number in numbers]),
        "axes": numbers.reshape(count, *[1] * (first % 3)),
    }
    return whole, {"ragged": lengths[:, None]}


def problem(path: Path, told: int) -> str:
    """What is wrong with a file of which `told` requests were reported; nothing where all is well."""
    try:
        with Stack(path) as stack:
            if not told <= stack.count <= told + 20:
                return f"holds {stack.count} requests, and {told} were reported"
            for number in range(stack.count):
                held = {name: offer.load() for name, offer in stack.offers(number).items()}
                text = [word.decode() if isinstance(word, bytes) else word for word in held["text"]]
                is_whole = held["plain"].shape == (3, 1000) and len(held["ragged"]) == number % 7 + 1
                values = (held["plain"], held["ragged"], held["axes"])
                if not is_whole or text[0] != str(number) or not all((array == number).all() for array in values):
                    return f"holds another request as number {number}"
    except DataError as error:
        return str(error)
    return ""


def write(path: Path, pipe: int, trial: random.Random) -> None:
    """Add batches to a file, and report the number of requests after each."""
    writer = StackWriter(path, ABOUT, resumes=True)
    for _ in range(MOST_BATCHES):
        writer.write(*batch(writer.count, trial.choice((1, 1, 3, 20))))
        os.write(pipe, writer.count.to_bytes(8, "little"))
    writer.close()


def killed_within_write(trial: random.Random) -> None:
    """Let this process end within one of its writes, or beside it."""
    left, wrapped, share = trial.randrange(1, 80), os.pwrite, trial.choice((0, 0.5, 1))

    def pwrite(descriptor: int, content: memoryview, offset: int) -> int:
        nonlocal left
        left -= 1
        if not left:
            wrapped(descriptor, content[: int(share * len(content))], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        return wrapped(descriptor, content, offset)

    journal.os.pwrite = pwrite  # type: ignore[assignment]


def without_room(path: Path, trial: random.Random) -> None:
    """Let the file of this process become only a little larger."""
    limit = (path.stat().st_size if path.exists() else 0) + trial.randrange(1, 400_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def child(path: Path, pipe: int, how: str, trial: random.Random) -> None:
    """What a writing process does; does not return."""
    ways: Mapping[str, Callable[[], None]] = {
        "within a write": lambda: killed_within_write(trial),
        "no room": lambda: without_room(path, trial),
    }
    try:
        ways.get(how, lambda: None)()
        write(path, pipe, trial)
    except DataError as error:
        os._exit(0 if how == "no room" and "\n" not in str(error) else 1)
    except BaseException:
        os._exit(1)
    os._exit(0)


def reported(path: Path, how: str, trial: random.Random, told: int) -> tuple[int, int]:
    """Start a child and end it; the last number that it reported, and its exit status."""
    read, written = os.pipe()
    process = os.fork()
    if not process:
        child(path, written, how, trial)
    os.close(written)
    if how == "after a time":
        time.sleep(trial.uniform(0, 0.05))
        os.kill(process, signal.SIGKILL)
    content = b"".join(iter(lambda: os.read(read, 1 << 16), b""))
    os.close(read)
    return int.from_bytes(content[-8:], "little") if content else told, os.waitpid(process, 0)[1]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts, problems, through, told = Counter[str](), [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.trials):
            path, trial = Path(folder, f"{number // PER_FILE}.h5"), random.Random(f"{options.seed} {number}")
            told = 0 if number % PER_FILE == 0 else told
            how = trial.choice(("after a time", "within a write", "no room"))
            told, status = reported(path, how, trial, told)
            is_killed = os.WIFSIGNALED(status)
            counts[f"{how}: {'killed' if is_killed else 'ended'}"] += 1
            if path.exists() and path.stat().st_size:
                through += journal.Journal.left_in(path) is not None
                wrong = problem(path, told) or ("" if is_killed or not status else "its writer failed")
                if wrong:
                    problems.append(f"trial {number}, {how}: {wrong}")
                    path.unlink()
                    told = 0
                else:
                    with Stack(path) as stack:
                        told = stack.count
    print(f"{options.trials} writers: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    print(f"{through} files had pages at their end that were still to be put in")
    print("\n".join(problems) or "each file opened with all requests that were reported, in order, and was resumed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
