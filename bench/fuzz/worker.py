"""A process that runs cases one after the other and says what became of each."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import BinaryIO

from cases import CANARY, Kind, Place
from hdf5s import write_canary
from warden import MIB, Hang, Warden

from flexpie_mpi.core.budget import Budget
from flexpie_mpi.core.errors import FlexPieError
from flexpie_mpi.model import sandbox

_OF_ONNXRUNTIME = ".ses"
"""It leaves this where temporary files go, whenever it is imported."""
_KEPT_SIGNALS = 8
_LONGEST = 3000
"""Letters of a sentence: a longer one fills the terminal."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case.

    Attributes
    ----------
    outcome : str
        ``returned``, ``refused``, or the class of the escape.
    key : str
        Escapes of one key are one defect.
    text : str
        The sentence of a refusal, or the traceback of an escape.
    """

    outcome: str
    key: str
    text: str

    @property
    def is_escape(self) -> bool:
        return self.outcome not in ("returned", "refused")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a case: seconds of processor time, and MiB of memory."""

    seconds: float = 5.0
    mib: int = 1024


class Worker:
    """Runs cases in this process.

    Parameters
    ----------
    folder : Path
        Its own, made anew.
    limits : Limits
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.place = Place(folder / "case" / "files", folder / "case" / "cache", folder / "case" / "outside")
        self._aside = folder / "case" / "aside"
        for path in (self.place.files, self.place.cache, self.place.outside, self._aside):
            path.mkdir(parents=True)
        for suffix in (".bin", ".toml", ".npy", ".onnx"):
            self.place.canary(suffix).write_bytes(CANARY * 10_000)
        write_canary(self.place.canary(".h5"))
        tempfile.tempdir = os.environ["TMPDIR"] = str(self._aside)
        os.chdir(self.place.outside)
        sandbox._server.cache_clear()  # that of the process which forked this one
        budget = Budget(limits.mib * MIB // 4)
        Budget.of_machine = classmethod(lambda cls: budget)  # this one's limit would let all of it through
        self._warden = Warden(self.place, limits.seconds, limits.mib)

    def run(self, kind: Kind, seed: int, number: int, keep: Path | None = None) -> Verdict:
        """One case; its files go to a folder in `keep` as well, if it escapes as none there has."""
        for folder in (self.place.files, self.place.cache, self._aside):
            _empty(folder)
        try:
            path = kind.make(Random(f"{kind.name} {seed} {number}"), self.place)
        except Exception as error:
            return Verdict("not made", f"{type(error).__name__}: {error}"[:100], _story(error))
        before = {item.name for item in self.place.files.iterdir()}
        verdict = self._judged(kind, path, before)
        if verdict.is_escape and keep is not None:
            keep_case(self.place.files, keep, kind, f"--seed {seed} --case {number}", verdict)
        return verdict

    def _judged(self, kind: Kind, path: Path, before: set[str]) -> Verdict:
        answer, verdict = self._read(kind, path)
        if verdict.is_escape:
            list(self._warden.found(kind.names_files))
            return verdict
        for outcome, text in self._warden.found(kind.names_files):
            is_leak = outcome == "outside" and self._warden.leaked(answer, verdict.text)
            return Verdict("leak" if is_leak else outcome, text.split(" ")[0], f"{text}\n{verdict.text}")
        if kind.names_files and self._warden.leaked(answer, verdict.text):
            return Verdict("leak", kind.name, verdict.text)
        if verdict.outcome == "refused":
            kept = (item for folder in (self.place.cache, self._aside) for item in folder.rglob("*") if item.is_file())
            left = [str(item) for item in kept if item.name != _OF_ONNXRUNTIME]
            left += sorted({item.name for item in self.place.files.iterdir()} - before)
            if left:
                return Verdict("left behind", left[0].rpartition("/")[2], f"{left}\n{verdict.text}")
            if "\n" in verdict.text or len(verdict.text) > _LONGEST or not verdict.text.isprintable():
                return Verdict("sentence", "no single line of printable letters", repr(verdict.text[:_LONGEST]))
        return verdict

    def _read(self, kind: Kind, path: Path) -> tuple[object, Verdict]:
        try:
            with self._warden.case():
                return kind.read(path, self.place), Verdict("returned", "", "")
        except FlexPieError as error:
            if any(isinstance(item, MemoryError) for item in _chain(error)):
                return None, Verdict("memory", _place_of(error), _story(error))
            return None, Verdict("refused", type(error).__name__, str(error))
        except Hang as error:
            return None, Verdict("hang", _place_of(error), _story(error))
        except MemoryError as error:
            return None, Verdict("memory", _place_of(error), _story(error))
        except BaseException as error:  # whatever a reader lets through is what is looked for
            return None, Verdict("traceback", f"{type(error).__name__} in {_place_of(error)}", _story(error))


def work(worker: Worker, kind: Kind, seed: int, numbers: Iterable[int], keep: Path | None, told: BinaryIO) -> None:
    """Run cases and write a line before and after each."""
    for number in numbers:
        told.write(b"%d\n" % number)
        verdict = worker.run(kind, seed, number, keep)
        told.write(json.dumps(asdict(verdict)).encode() + b"\n")
        if verdict.outcome in ("memory", "hang"):  # what it held may be held still: a fresh process goes on
            return


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _place_of(error: BaseException) -> str:
    """The innermost place of this package in a traceback."""
    found = "?"
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "flexpie_mpi" in code.co_filename:
            found = f"{code.co_filename.rpartition('flexpie_mpi/')[2]}:{code.co_name}"
        trace = trace.tb_next
    return found


def _story(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-12))[-6000:]
    except Exception as other:
        return f"{type(error).__name__}, of which not even the traceback can be told: {type(other).__name__}"


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink()


def keep_case(files: Path, keep: Path, kind: Kind, arguments: str, verdict: Verdict) -> None:
    """Copy the files of an escape, with a note, unless there are such of its key."""
    stem = re.sub("[^A-Za-z0-9]+", "-", f"{verdict.outcome} {verdict.key}").strip("-")[:100]
    copy = keep / kind.name / stem
    if verdict.outcome == "signal":  # whose places are not known
        copy = copy.with_name(f"{stem}-{len(list(copy.parent.glob(f'{stem}-*'))) % _KEPT_SIGNALS}")
    if not copy.exists():
        shutil.copytree(files, copy, symlinks=True)
        words = f"{verdict.outcome}: {verdict.key}\n--kind {kind.name} {arguments}\n\n{verdict.text}\n"
        (copy / "note.txt").write_text(words, errors="replace")
