"""Documents of strangers: what no kind of file may hold is one printable sentence, whatever library read it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from flexpie_mpi.core.document import (
    MOST_DEPTH,
    MOST_VALUES,
    DocumentError,
    DocumentTable,
    dataclass_of,
    from_json,
    from_toml,
    is_number,
    is_whole,
    printable,
    read_document,
    shown,
)

JSON = {
    "cut": ('{"a": ', "Expecting value"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "rather deep": ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), f"more than {MOST_DEPTH} deep"),
    "a name twice": ('{"a": 1, "b": {"c": 1, "c": 2}}', "gives 'c' twice"),
    "half a character": ('["\\ud800"]', "half a character"),
    "half a name": ('{"\\udfff": 1}', "half a character"),
    "endless": ("[1e999]", "must be finite"),
    "infinite": ("[-Infinity]", "must be finite"),
    "no number": ("[NaN]", "must be finite"),
    "4,000 digits": ("9" * 4000, "more than 301 digits"),
    "too many values": ("[" + "0," * MOST_VALUES + "0]", f"more than {MOST_VALUES} values"),
    "other letters": (b'["\xff"]', "not text in UTF-8"),
}
TOML = {
    "cut": ("a = [", "Invalid value"),
    "deep": ("a = " + "[" * 100_000, "nested too deeply"),
    "a key of many parts": (".".join("a" * 100_000) + " = 1", "no key has so many parts"),
    "a key twice": ("a = 1\na = 2", "overwrite"),
    "long hexadecimal": ("a = 0x" + "f" * 5000, "more than 301 digits"),
    "other letters": (b'a = "\xff"', "not text in UTF-8"),
}


@pytest.mark.parametrize(
    ("read", "content", "sentence"),
    [(from_json, *JSON[name]) for name in JSON] + [(from_toml, *TOML[name]) for name in TOML],
    ids=[*(f"JSON, {name}" for name in JSON), *(f"TOML, {name}" for name in TOML)],
)
def test_what_no_document_holds_is_refused(read, content, sentence) -> None:
    with pytest.raises(DocumentError, match=sentence) as caught:
        read(content)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_what_is_a_document_is_read_as_ever() -> None:
    document = {"a": [1, 2.5, -3e-7, True, None, "é名"], "b": {"c": "\U0001f600"}}
    assert from_json(json.dumps(document)) == from_json(json.dumps(document).encode()) == document
    assert from_json("[Infinity]", has_infinite=True) == [float("inf")]
    assert from_toml('a = inf\n[[b]]\nc = "é"\n') == {"a": float("inf"), "b": [{"c": "é"}]}


def test_files_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 1001)
    os.mkfifo(tmp_path / "pipe")
    assert read_document(tmp_path / "large", 1001) == b"x" * 1001
    refused = {
        "large": "larger than",
        "pipe": "a pipe or a device",
        "none": "No such file",
        "a\0b": "null",
        ".": "direc",
    }
    for name, sentence in refused.items():
        with pytest.raises(DocumentError, match=sentence):
            read_document(tmp_path / name, 1000)
    with pytest.raises(DocumentError, match="a pipe or a device"):
        read_document("/dev/zero", 1000)


def test_numbers_are_numbers() -> None:
    assert is_whole(3) and not is_whole(True) and not is_whole(3.0) and not is_whole(-1) and not is_whole(1 << 63)
    assert is_number(3) and is_number(-2.5) and not is_number(float("nan")) and not is_number("3")
    assert is_number(1, 0, 1) and not is_number(1.1, 0, 1) and not is_number(False)


def test_a_table_says_what_it_wants() -> None:
    table = DocumentTable("the box", {"sides": "\x1b[31m\n", "x\ny": 1}, {"top": "open"})
    assert table.text("top") == "open"
    with pytest.raises(DocumentError, match="the box lacks the key 'height'"):
        table.text("height")
    with pytest.raises(DocumentError, match="the box has an unknown key") as caught:
        table.check(["sides"])
    assert str(caught.value).isprintable()
    with pytest.raises(DocumentError, match=r"the box: sides = .* must be four") as caught:
        table.get("sides", lambda found: found == 4, "four")
    assert str(caught.value).isprintable()


@dataclass
class Point:
    x: float
    y: float
    name: str = ""


@dataclass
class Shape:
    points: tuple[Point, ...]
    labels: Mapping[str, tuple[int, ...]]
    is_closed: bool
    weight: int | None = None


GOOD = {"points": [{"x": 1, "y": 2.5}], "labels": {"a": [1, 2]}, "is_closed": False}


def test_a_dataclass_comes_out_of_its_fields() -> None:
    assert dataclass_of(Shape, GOOD, "it") == Shape((Point(1.0, 2.5),), {"a": (1, 2)}, False)
    assert dataclass_of(Shape, GOOD | {"weight": 3}, "it").weight == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"points": [{"x": "1", "y": 2}]}, "'points', 'x' is '1', which is no float"),
        ({"points": [{"x": float("nan"), "y": 2}]}, "which is no float"),
        ({"points": [{"x": True, "y": 2}]}, "which is no float"),
        ({"points": [{"x": 1}]}, "lacks the field 'y'"),
        ({"points": [[1, 2]]}, "is no table"),
        ({"points": {}}, "'points' is {}"),
        ({"labels": {"a": [1.5]}}, "is 1.5, which is no int"),
        ({"labels": []}, "'labels' is"),
        ({"is_closed": 1}, "which is no bool"),
        ({"weight": "heavy"}, "'weight' is 'heavy'"),
        ({"colour\n": 1}, r"an unknown field 'colour\\n'"),
    ],
)
def test_a_field_of_another_type_is_named(change, sentence) -> None:
    with pytest.raises(DocumentError, match=sentence) as caught:
        dataclass_of(Shape, GOOD | change, "it")
    assert str(caught.value).isprintable()


def test_what_strangers_say_can_be_printed() -> None:
    assert printable("a\nb\x1b[0m\ud800é") == "a\\nb\\x1b[0m\\ud800é" and len(printable("x" * 1000)) == 300
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    for value in ("x" * 10**6, [list(range(10**5))], {"a": {"b" * 999: 1}}, 10**300, nested):
        assert len(shown(value)) < 500
