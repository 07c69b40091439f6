"""Requests of a stream: where they come from, and the thread that has them ready before they are asked for.

Command-line words and a graph flow in (:func:`find_source`), a :class:`Source` flows out: random numbers, files, a file
of many requests, a pipe, or a folder that is watched. A :class:`Reader` takes a source and is a supply to the engine.
Nothing here is ever held for more than a few requests, however many come.
"""

from .find import STDIN, Finding, find_source
from .pipes import standard_input
from .reader import Reader
from .source import Source, sample

__all__ = ["STDIN", "Finding", "Reader", "Source", "find_source", "sample", "standard_input"]
