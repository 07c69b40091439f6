"""Changes that make a whole file a damaged or a hostile one: to its bytes, and to trees of plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from math import inf, nan
from random import Random
from typing import Any

WHOLES = (
    *(
        0,
        1,
        -1,
        2,
        3,
        7,
        100,
        255,
        256,
        2**15,
        2**16,
        2**20,
        2**28,
        2**31 - 1,
        2**31,
        -(2**31),
        2**32,
        2**40,
        2**53 + 1,
    ),
    *(2**62, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**30, 10**400),
)
REALS = (0.0, -0.0, 5e-324, 1e-30, 0.5, -1.5, 1e18, 1e308, -1e308, inf, -inf, nan)
PATHS = (
    "canary.bin",
    "../outside/canary.bin",
    "./canary.bin",
    "/etc/passwd",
    "/dev/zero",
    "..",
    "/",
    "link",
    "/proc/self/mem",
)
TEXTS = (
    *(
        "",
        " ",
        ".",
        "x" * 300,
        "x" * 5000,
        "\0",
        "\n",
        "\x1b[31m",
        "é",
        "\U0001f600",
        "a/b",
        "%2F",
        "nan",
        "1e999",
        "-1",
    ),
    *("null", "auto", "rows", "replicated", "0x10", "1Gb/s", "9" * 400, "9" * 5000, *PATHS),
)
_DEEP = "@deep@"
"""Stands for a list of lists of lists, deeper than a writer of JSON can go."""

Bytes = Callable[[bytearray, Random], None]


def damaged(data: bytes, rng: Random) -> bytes:
    """The bytes with one to a few changes that know nothing of their meaning."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8, 30))):
        if found:
            rng.choice(_CHANGES)(found, rng)
    return bytes(found)


def _flip(data: bytearray, rng: Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: Random) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _span(data: bytearray, rng: Random) -> slice:
    first = rng.randrange(len(data))
    return slice(first, first + rng.choice((1, 2, 4, 8, 16, 64, 512)))


def _cut(data: bytearray, rng: Random) -> None:
    del data[_span(data, rng)]


def _truncate(data: bytearray, rng: Random) -> None:
    del data[rng.randrange(len(data)) :]


def _repeat(data: bytearray, rng: Random) -> None:
    piece = data[_span(data, rng)]
    place = rng.randrange(len(data))
    data[place:place] = piece * rng.choice((1, 2, 50))


def _splice(data: bytearray, rng: Random) -> None:
    piece = data[_span(data, rng)]
    place = rng.randrange(len(data))
    data[place : place + len(piece)] = piece


def _insert(data: bytearray, rng: Random) -> None:
    place = rng.randrange(len(data))
    data[place:place] = rng.randbytes(rng.choice((1, 2, 4, 16)))


def _integer(data: bytearray, rng: Random) -> None:
    """Overwrite a number of 1, 2, 4 or 8 bytes with an extreme one."""
    size = rng.choice((1, 2, 4, 8))
    place = rng.randrange(len(data))
    data[place : place + size] = (rng.choice(WHOLES) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))


def _digits(data: bytearray, rng: Random) -> None:
    """Write another number in the place of one that is written in digits."""
    found = list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", bytes(data[:65536])))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = str(rng.choice((*WHOLES, *REALS))).encode()


_CHANGES: tuple[Bytes, ...] = (
    _flip, _flip, _set, _set, _cut, _truncate, _repeat, _splice, _insert, _integer, _integer, _digits, _digits,
)  # fmt: skip


# Trees: what JSON and TOML hold

_Spot = tuple[Any, Any]
"""A list or dict, and a place in it."""


def changed(tree: Any, rng: Random, texts: Sequence[str] = TEXTS) -> Any:
    """A copy of a tree of dicts, lists and plain values, with one to a few changes."""
    found = [deepcopy(tree)]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        spots = list(_spots(found))
        if spots:
            _change(rng.choice(spots), spots, rng, texts)
    return found[0]


def _spots(tree: Any) -> Iterator[_Spot]:
    stack = [tree]
    while stack:
        owner = stack.pop()
        for key in list(owner) if isinstance(owner, dict) else range(len(owner)):
            yield owner, key
            if isinstance(owner[key], (dict, list)):
                stack.append(owner[key])


def _change(spot: _Spot, spots: Sequence[_Spot], rng: Random, texts: Sequence[str]) -> None:
    owner, key = spot
    found = owner[key]
    action = rng.randrange(12)
    if action == 0 and len(owner) and not (isinstance(owner, list) and owner is spots[0][0]):
        del owner[key]
    elif action == 1 and isinstance(owner, dict):
        owner[rng.choice((*texts, *map(str, owner)))] = owner.pop(key)
    elif action == 2:
        other, place = rng.choice(spots)
        owner[key] = deepcopy(other[place])
    elif action == 3 and isinstance(found, list):
        owner[key] = found * rng.choice((0, 2, 100, 3000))
    elif action == 4:
        owner[key] = rng.choice((None, True, False, [], {}, [[]], [None], {"": 0}, _DEEP))
    elif action == 5 and isinstance(owner, dict):
        owner[rng.choice(texts)] = value(rng, texts)
    else:
        owner[key] = _near(found, rng, texts) if rng.random() < 0.7 else value(rng, texts)


def _near(found: Any, rng: Random, texts: Sequence[str]) -> Any:
    """Another value of the same type."""
    if isinstance(found, bool) or found is None:
        return rng.choice((None, True, False))
    if isinstance(found, int):
        return rng.choice((*WHOLES, found + 1, found - 1, -found))
    if isinstance(found, float):
        return rng.choice((*REALS, -found))
    if isinstance(found, str):
        return rng.choice((*texts, found + found, found[:-1]))
    if isinstance(found, list) and found:
        return rng.sample(found, len(found))
    return found


def value(rng: Random, texts: Sequence[str] = TEXTS) -> Any:
    """Any plain value."""
    return rng.choice((rng.choice(WHOLES), rng.choice(REALS), rng.choice(texts), None, True, [], {}))


def to_json(tree: Any, rng: Random, indent: int | None = None) -> str:
    """A tree as JSON, with what only text can say: a key twice, depth."""
    text = json.dumps(tree, indent=indent, default=str)
    depth = rng.choice((30, 500, 2000, 100_000))
    text = text.replace(json.dumps(_DEEP), rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth)))
    if rng.random() < 0.05:
        key = re.search(r'"[^"]*": [0-9]+', text)
        text = text.replace(key[0], f"{key[0]}, {key[0].split(':')[0]}: {rng.choice(WHOLES)}", 1) if key else text
    return text


def to_toml(tree: Any, rng: Random) -> str:
    """A tree as TOML: plain values first, then tables, lists of tables as such."""
    plain, tables = [], []
    tree = tree if isinstance(tree, dict) else {"link": tree}
    for key, found in tree.items():
        if isinstance(found, dict):
            tables.append(f"[{_key(key)}]\n" + _pairs(found, rng))
        elif isinstance(found, list) and found and all(isinstance(item, dict) for item in found):
            tables += [f"[[{_key(key)}]]\n" + _pairs(item, rng) for item in found]
        else:
            plain.append(f"{_key(key)} = {_toml(found, rng)}\n")
    return "".join((*plain, *tables))


def _pairs(table: dict[str, Any], rng: Random) -> str:
    return "".join(f"{_key(key)} = {_toml(found, rng)}\n" for key, found in table.items())


def _key(text: str) -> str:
    return text if re.fullmatch("[A-Za-z0-9_-]+", text) else json.dumps(text)


def _toml(found: Any, rng: Random) -> str:
    if found == _DEEP:
        depth = rng.choice((30, 500, 100_000))
        return "[" * depth + "]" * depth
    if isinstance(found, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item, rng)}" for key, item in found.items()) + "}"
    if isinstance(found, list):
        return "[" + ", ".join(_toml(item, rng) for item in found) + "]"
    if isinstance(found, float):
        return repr(found).replace("e+", "e")
    return "1979-05-27T07:32:00Z" if found is None else json.dumps(found)
