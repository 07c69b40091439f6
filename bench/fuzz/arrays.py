"""Arrays in numpy's files, pictures, and streams of them: what a single request or a pipe brings."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
from cases import Kind, Place
from mutate import PATHS, WHOLES, damaged
from PIL import Image

from flexpie_mpi.core.graph import Graph, Node, Value
from flexpie_mpi.files.inputs import load_inputs
from flexpie_mpi.files.pipes import Frames
from flexpie_mpi.files.sources import Stop

SHAPE = (1, 3, 8, 8)
_SOME = 64
"""Requests that are read of a stream, at most."""


@cache
def graph_of(*names: str) -> Graph:
    """A graph with inputs of these names."""
    values = {name: Value(name, SHAPE, "float32") for name in names}
    values["y"] = Value("y", SHAPE, "float32")
    return Graph("fuzzed", (Node("add", "Sum", names, ("y",)),), values, names, ("y",))


def _array(rng: Random) -> np.ndarray:
    shape = rng.choice((SHAPE, SHAPE, SHAPE, (), (3,), (0, 4), (2, *SHAPE), (1,) * 40))
    dtype = rng.choice(("<f4", "<f4", "<f4", ">f4", "<f8", "<i8", "u1", "?", "<f2", "<c8", "<U3", "S2", "M8[ns]", "V4"))
    flat = np.frombuffer(rng.randbytes(max(1, int(np.prod(shape))) * np.dtype(dtype).itemsize), np.uint8)
    if dtype.startswith("<U"):
        return np.full(shape, "ab")
    found = flat.view(dtype)[: int(np.prod(shape))].reshape(shape)
    return np.asfortranarray(found) if rng.random() < 0.2 else found


_DESCRS = (
    *(
        "'<f4'",
        "'|O'",
        "'O'",
        "'<U1000000000'",
        "'|V2147483647'",
        "'|S0'",
        "'<f3'",
        "'M8[99999999999999ns]'",
        "'float32'",
    ),
    *(
        "[('a', '<f4'), ('b', '<i8', (1000000, 1000000))]",
        "[('x', '|O')]",
        "[]",
        "None",
        "''",
        "3",
        "('<f4', (2**30,))",
    ),
    *(
        "('<f4', (1073741824,))",
        "'<f4,<f4'",
        "[('a', [('b', [('c', '<f4')])])]",
        "'<f4\\0'",
        "{'names': ['a'], 'formats': ['O']}",
    ),
)
_SHAPES = (
    *(
        "(1, 3, 8, 8)",
        "()",
        "(1,)",
        "(-1,)",
        "(0,)",
        "(1099511627776,)",
        "(4294967296, 4294967296)",
        "(9223372036854775807,)",
    ),
    *(
        "(1073741824, 4)",
        "[1, 3, 8, 8]",
        "'a'",
        "(1.0,)",
        "(True,)",
        "None",
        "(1,) * 3",
        "(0, 9223372036854775807, 9)",
        "(2**70,)",
    ),
    "(" + "1, " * 70 + ")",
)


def _header(rng: Random) -> bytes:
    """The text in front of an array, which may say anything."""
    depth = rng.choice((90, 300, 3000, 9000))
    odd = (
        "(" * depth + ")" * depth,
        "-" * depth + "1",
        "{}",
        "[" * depth,
        "1" * 5000,
        "__import__('os')",
        "'" + "x" * 60000 + "'",
    )
    if rng.random() < 0.2:
        return rng.choice(odd).encode()
    descr, order, shape = rng.choice(_DESCRS), rng.choice(("True", "False", "None", "2")), rng.choice(_SHAPES)
    kept = [f"'descr': {descr}", f"'fortran_order': {order}", f"'shape': {shape}", "'more': 1"][
        : rng.choice((2, 3, 3, 3, 3, 4))
    ]
    return ("{" + ", ".join(kept) + "}").encode()


def npy_bytes(rng: Random) -> bytes:
    """A .npy file."""
    stream = BytesIO()
    np.lib.format.write_array(stream, _array(rng), allow_pickle=False)
    data = _whole() if rng.random() < 0.3 else stream.getvalue()
    action = rng.random()
    if action < 0.1:
        return data
    if action < 0.6:
        return damaged(data, rng)
    header, version = _header(rng), rng.choice((1, 1, 2, 3, 0, 255))
    said = len(header) + 1 if rng.random() < 0.8 else rng.choice(WHOLES)
    length = struct.pack("<H", said % 2**16) if version == 1 else struct.pack("<I", said % 2**32)
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + b"\n" + rng.randbytes(rng.choice((0, 768, 769)))


@cache
def _whole() -> bytes:
    stream = BytesIO()
    np.lib.format.write_array(stream, np.ones(SHAPE, np.float32), allow_pickle=False)
    return stream.getvalue()


def _make_npy(rng: Random, place: Place) -> Path:
    path = place.files / "x.npy"
    if rng.random() < 0.02:
        path.symlink_to(rng.choice(("/dev/zero", "x.npy", str(place.files))))
        return path
    path.write_bytes(npy_bytes(rng))
    return path


def _bomb(rng: Random) -> bytes:
    """Four GiB of zeros behind a header that says so, in some megabytes; or fewer behind one that says otherwise."""
    items = rng.choice((1 << 30, 1 << 28, 1 << 40))
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({items},), }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + bytes(8 << 20)


def npz_bytes(rng: Random, names: tuple[str, ...] = ("x",)) -> bytes:
    """A .npz file."""
    stream = BytesIO()
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(stream, "w", rng.choice(kinds)) as archive:
        for name in (
            *names,
            *rng.choice(((), (), (), (), (), (), ("more",), names, PATHS, ("",), ("é\udc80"[:1],), ("a/", "b\\c"))),
        ):
            content = _bomb(rng) if rng.random() < 0.04 else rng.choice((_whole(), _whole(), npy_bytes(rng)))
            info = zipfile.ZipInfo(name + (".npy" if rng.random() < 0.9 else ""))
            info.external_attr = rng.choice((0, 0, 0xA1FF << 16))  # now and then a symbolic link
            archive.writestr(info, content, rng.choice(kinds))
    data = stream.getvalue()
    return data if rng.random() < 0.4 else damaged(_fields(data, rng), rng)


def _fields(data: bytes, rng: Random) -> bytes:
    """Another number in a header of an entry: of flags, method, checksum, sizes, lengths or place."""
    found = bytearray(data)
    for _ in range(rng.randrange(3)):
        place = found.rfind(rng.choice((b"PK\1\2", b"PK\3\4", b"PK\5\6")))
        if place >= 0:
            offset, size = rng.choice(
                ((6, 2), (8, 2), (10, 2), (12, 2), (16, 4), (18, 4), (20, 4), (22, 4), (24, 4), (42, 4))
            )
            found[place + offset : place + offset + size] = (rng.choice(WHOLES) % (1 << 8 * size)).to_bytes(
                size, "little"
            )
    return bytes(found)


def _make_npz(rng: Random, place: Place) -> Path:
    path = place.files / "x.npz"
    path.write_bytes(npz_bytes(rng))
    return path


def _read_request(path: Path, place: Place) -> object:
    """What ``infer --input`` does with the file of a request."""
    return load_inputs([str(path)], graph_of("x"))


# Pictures


@cache
def _pictures() -> tuple[tuple[str, bytes], ...]:
    found = []
    for mode in ("L", "RGB", "RGBA", "P", "1", "I;16", "LA"):
        stream = BytesIO()
        Image.new(mode, (9, 7)).save(stream, "PNG")
        found.append((".png", stream.getvalue()))
    colours = Image.effect_noise((24, 16), 60).convert("RGB")
    for suffix, name in ((".jpg", "JPEG"), (".bmp", "BMP"), (".ppm", "PPM"), (".webp", "WEBP"), (".png", "PNG")):
        stream = BytesIO()
        colours.save(stream, name)
        found.append((suffix, stream.getvalue()))
    return tuple(found)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        place += 12 + size


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(data: bytes, rng: Random) -> bytes:
    """The chunks of a PNG changed, their checksums right."""
    chunks = list(_chunks(data))
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(chunks))
        name, content = chunks[place]
        action = rng.randrange(7)
        if (action == 0 and name == b"IHDR") or action == 1:
            sides = [rng.choice((0, 1, 9, 30_000, 65_535, 2**24, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
            head = chunks[0][1]
            chunks[0] = (b"IHDR", struct.pack(">II", *sides) + (head[8:] if rng.random() < 0.7 else rng.randbytes(5)))
        elif action == 2:
            chunks.insert(
                place,
                (
                    rng.choice((b"tRNS", b"PLTE", b"acTL", b"fcTL", b"gAMA", b"eXIf")),
                    rng.randbytes(rng.choice((0, 6, 26, 300))),
                ),
            )
        elif action == 3:
            packed = zlib.compress(bytes(rng.choice((1 << 10, 1 << 20, 1 << 27))), 1)
            named = rng.choice(((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")))
            chunks.insert(1, (named[0], named[1] + packed))
        elif action == 4:
            chunks[place] = (name, damaged(content, rng) if content else b"\0")
        elif action == 5:
            chunks.pop(place)
            chunks = chunks or [(b"IEND", b"")]
        else:
            chunks.insert(place, (b"tEXt", b"k\0" + b"v" * rng.choice((1, 1 << 20))))
    return data[:8] + b"".join(_chunk(*item) for item in chunks)


def _make_image(rng: Random, place: Place) -> Path:
    suffix, data = rng.choice(_pictures())
    action = rng.random()
    if action < 0.15:
        sides = [rng.choice((1, 8, 60_000, 2**31, 10**18)) for _ in range(2)]
        kind = rng.choice((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"P7"))
        suffix, data = ".ppm", kind + b"\n%d %d\n%d\n" % (*sides, rng.choice((0, 1, 255, 65535, 2**40))) + bytes(200)
    elif action < 0.5 and suffix == ".png":
        data = _png(data, rng)
    elif action < 0.95:
        data = damaged(data, rng)
    path = place.files / f"x{suffix if rng.random() < 0.9 else '.png'}"
    path.write_bytes(data)
    return path


# Streams


def _make_stream(rng: Random, place: Place) -> Path:
    path = place.files / "pipe"
    frames = []
    for _ in range(rng.choice((1, 2, 5))):
        frame = _whole() if rng.random() < 0.6 else rng.choice((npz_bytes(rng, ("a", "b")), npy_bytes(rng)))
        said = len(frame) if rng.random() < 0.85 else rng.choice(WHOLES) % 2**64
        frames.append(struct.pack("<Q", said) + frame)
    data = b"".join(frames)
    path.write_bytes(damaged(data, rng) if rng.random() < 0.15 else data)
    return path


def _read_stream(path: Path, place: Place) -> object:
    """What ``infer --input PIPE`` does."""
    names = ("a", "b") if path.read_bytes()[8:10] == b"PK" else ("x",)
    return list(islice(Frames(path, graph_of(*names)).requests(0, Stop()), _SOME))


KINDS_OF_ARRAYS = (
    Kind("npy", _make_npy, _read_request),
    Kind("npz", _make_npz, _read_request),
    Kind("image", _make_image, _read_request),
    Kind("stream", _make_stream, _read_stream),
)
