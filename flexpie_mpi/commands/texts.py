"""What words of arguments stand for: numbers, sizes, shapes and names, each with the reason where it is none."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf

from ..core.choices import AUTO, FUSIONS
from ..core.errors import TestbedError
from ..runtime.machine import threads_problem
from ..testbed import MEMORY


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """A name and a shape.

    >>> named_shape("image=1,3,8,8")
    ('image', (1, 3, 8, 8))
    """
    name, equals, extents = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=1,3,224,224")
    return name, tuple(natural(extent) for extent in extents.split(",")) if extents else ()


def output_names(text: str) -> list[str]:
    """Names of outputs, which may have an index.

    >>> output_names("logits[:, -1],present.0")
    ['logits[:, -1]', 'present.0']
    """
    return [name.strip() for name in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", text)]


def memory(text: str) -> int:
    """A size of memory in bytes.

    >>> memory("2GB")
    2000000000
    """
    try:
        return int(MEMORY.parse(text))
    except TestbedError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def state_pattern(text: str) -> str:
    """Two names with as many ``*``, one at most, or ``auto``; or ``=`` and one name.

    >>> state_pattern("present.*=past_key_values.*")
    'present.*=past_key_values.*'
    """
    output, equals, name = text.partition("=")
    fits = not output or output.count("*") == name.count("*") <= 1
    if text != AUTO and not (equals and name and fits):
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither OUTPUT=INPUT, both with one * or none, nor =INPUT, nor auto"
        )
    return text


def fusion(text: str) -> str:
    """A rule of fusion, or a number of nodes."""
    if text in FUSIONS or (text.isdecimal() and int(text) > 0):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(FUSIONS)}, or a number of nodes from 1 on")


def objective(known: Sequence[str], text: str) -> str:
    """What a planner makes good."""
    if text in known:
        return text
    elsewhere = "" if "throughput" in known else "; flexpie-mpi plan --objective throughput makes one for --plan"
    raise argparse.ArgumentTypeError(
        f"'{text}' is nothing that can be planned for here; plans are made for {', '.join(known)}{elsewhere}"
    )


def grid(text: str) -> tuple[int, int]:
    """Rows and columns.

    >>> grid("3x2")
    (3, 2)
    """
    words = text.lower().split("x")
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"'{text}' is not rows x columns, such as 2x2")
    return int(words[0]), int(words[1])


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas, whole ones as int.

    >>> numbers("2,1,0.5")
    (2, 1, 0.5)
    """
    return tuple(_number(word) for word in text.split(","))


def natural(text: str, least: int = 0) -> int:
    """A whole number from 0 on, or from `least` on."""
    if not text.strip().isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} on")
    return int(text)


positive = partial(natural, least=1)
"""A whole number from 1 on."""


def threads(text: str) -> int:
    """A number of threads from 1 on that this machine can run."""
    count = positive(text)
    if problem := threads_problem(count):
        raise argparse.ArgumentTypeError(problem)
    return count


def seconds(text: str) -> float:
    """A positive number of seconds."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number of seconds")
    return value


def seconds_or_none(text: str) -> float:
    """A number of seconds, or 0."""
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds from 0 on")
    return value


def _number(text: str) -> float:
    kinds: tuple[Callable[[str], float], ...] = (int, float)
    for convert in kinds:
        with suppress(ValueError):
            value = convert(text)
            if abs(value) < inf:
                return value
    raise argparse.ArgumentTypeError(f"'{text}' is not a number")
