"""Requests of a stream: where they come from, and the thread that has them ready before they are asked for.

Command-line words and a graph flow in (:func:`find_source`), a :class:`Source` flows out: random numbers, files, a file
of many requests, a pipe, or a folder that is watched. A :class:`Reader` takes a source and is a supply to the engine.
Nothing here is ever held for more than a few requests, however many come.
"""

from .find import StreamOptions, find_source, offered_shapes
from .pipes import standard_input
from .source import Reader, Source, sample

__all__ = ["Reader", "Source", "StreamOptions", "find_source", "offered_shapes", "sample", "standard_input"]
