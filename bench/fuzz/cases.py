"""What a case of the fuzzer is: a kind of file, how one is made from a number, and how the program reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

CANARY = b"canary-6f1d"
"""Fills the files that no case may open; where these bytes appear, a file was read that should not have been."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of a case.

    Attributes
    ----------
    files : Path
        Where the case's own files are.
    cache : Path
        For what the program keeps.
    outside : Path
        The folder beside it, which is also the current one, full of canaries: ``canary.bin``, ``canary.h5``, ...
    """

    files: Path
    cache: Path
    outside: Path

    def canary(self, suffix: str = ".bin") -> Path:
        """A file that no case may open."""
        return self.outside / f"canary{suffix}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
    make : callable
        Writes the files of a case, drawn from a generator, and returns the one to read.
    read : callable
        What the program does with it, as near to the command line as can be without ranks.
    names_files : bool
        Whether it is in the nature of such a file to name others, wherever they are; their content stays theirs.
    """

    name: str
    make: Callable[[Random, Place], Path]
    read: Callable[[Path, Place], object]
    names_files: bool = False
