"""Arguments for models of sequences: what stays on the boards between requests."""

from __future__ import annotations

import argparse

from ..core.choices import AUTO
from .options import Parser, positive


def add_state_arguments(parser: Parser) -> None:
    """What stays on the boards between requests."""
    parser.add_argument(
        "--state",
        action="append",
        type=state_pattern,
        metavar="OUTPUT=INPUT|auto",
        help="outputs that the next request reads as inputs, with any text where both have a *, or auto, the usual "
        "names (present.*=past_key_values.*, new_*=*, hn=h0, ...): they stay where they are computed",
    )
    parser.add_argument(
        "--max-length",
        type=positive,
        metavar="M",
        help="positions that there is room for in states that grow by those of each request, as caches of keys and "
        "values do; the model's mask and position numbers are made by themselves",
    )


def state_pattern(text: str) -> str:
    """Two names with as many ``*``, one at most, or ``auto``.

    >>> state_pattern("present.*=past_key_values.*")
    'present.*=past_key_values.*'
    """
    output, equals, name = text.partition("=")
    if text != AUTO and not (equals and output and name and output.count("*") == name.count("*") <= 1):
        raise argparse.ArgumentTypeError(f"'{text}' is neither OUTPUT=INPUT, both with one * or none, nor auto")
    return text
