"""A walk over the bytes of an .onnx file that never loads its large tensors.

Only what is needed of the protobuf wire format: a message is a row of fields, each a tag (number and wire type) and a
payload. Large tensor payloads are stepped over with a seek; in their place the tensor says where they are, in the
form ONNX has for external data::

    ModelProto.graph (7) -+- initializer (5) ------------------ TensorProto.raw_data (9)
                          +- node (1).attribute (5).t (5) -----    or float_data (4), double_data (10)

Packed float and double data have the same bytes as raw data (little-endian). Weights inside subgraphs and functions
are left as they are.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR = range(5)
_INSIDE = {
    (_MODEL, 7): _GRAPH,
    (_GRAPH, 5): _TENSOR,
    (_GRAPH, 1): _NODE,
    (_NODE, 5): _ATTRIBUTE,
    (_ATTRIBUTE, 5): _TENSOR,
}
"""Fields to look into: (kind of message, field number) to kind of message."""
_PAYLOADS = (9, 4, 10)
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_MOST_FIELDS = 2_000_000
"""That are looked at one by one, which takes seconds."""

MARK_ENTRIES = 3
"""External data entries that say where one payload is: location, offset and length."""


class WireError(ValueError):
    """The bytes are not a protobuf message, or end too early."""


def strip_weights(file: BinaryIO, threshold: int, mark: str, most_bytes: int = (1 << 31) - 1) -> bytes:
    """The model in `file` with every tensor payload over `threshold` bytes replaced by its place in the file.

    Such a tensor gets ``data_location`` EXTERNAL and, beside entries that it may have, a ``location`` that is `mark`,
    an ``offset`` and a ``length``. The mark must be drawn anew for each file, or the file could use it itself. Files
    whose other fields are more than `most_bytes`, or too many, are no models. Raises WireError.
    """
    return _Stripper(file, threshold, mark, most_bytes).message(_MODEL, 0, file.seek(0, os.SEEK_END))


class _Stripper:
    def __init__(self, file: BinaryIO, threshold: int, mark: str, most_bytes: int) -> None:
        self._file = file
        self._threshold, self._mark = threshold, mark
        self._bytes_left, self._fields_left = most_bytes, _MOST_FIELDS

    def message(self, kind: int, begin: int, end: int) -> bytes:
        """The fields in bytes ``[begin, end)`` of a message of that kind, rewritten."""
        self._file.seek(begin)
        parts: list[bytes] = []
        position = begin
        while position < end:
            self._fields_left -= 1
            if not self._fields_left:
                raise WireError(f"more than {_MOST_FIELDS} fields outside of its nodes and tensors")
            tag, position = self._varint(position, end)
            number, wire = tag >> 3, tag & 7
            if wire == _BYTES:
                length, position = self._varint(position, end)
                if length > end - position:
                    raise WireError(f"a field of {length} bytes at byte {position} ends after byte {end}")
                parts += self._field(kind, number, position, length)
                position += length
            else:
                size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
                if wire == _VARINT:
                    value, position = self._varint(position, end)
                    if (kind, number, value) != (_TENSOR, _DATA_LOCATION, 0):  # the default would undo what we say
                        parts += (varint(tag), varint(value))
                elif size is not None and size <= end - position:
                    parts += (varint(tag), self._read(size))
                    position += size
                else:
                    raise WireError(f"no protobuf field at byte {position}")
        return b"".join(parts)

    def _field(self, kind: int, number: int, position: int, length: int) -> tuple[bytes, ...]:
        """A length-delimited field whose payload begins at `position`; leaves the file after it."""
        inside = _INSIDE.get((kind, number))
        if length > self._threshold and kind == _TENSOR and number in _PAYLOADS:
            self._file.seek(position + length)
            return (_external(self._mark, position, length),)
        if length > self._threshold and inside is not None:
            payload = self.message(inside, position, position + length)
        else:
            payload = self._read(length)
        return varint(number << 3 | _BYTES), varint(len(payload)), payload

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """A variable-length integer and the position after it."""
        value = shift = 0
        while shift < 70 and position < end:
            byte = self._read(1)[0]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value, position
        raise WireError(f"no protobuf integer at byte {position}")

    def _read(self, size: int) -> bytes:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise WireError("it is larger than any model, its tensors set aside")
        data = self._file.read(size)
        if len(data) < size:
            raise WireError(f"the file ends {size - len(data)} bytes too early")
        return data


def varint(value: int) -> bytes:
    """An integer in protobuf's variable-length form.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _external(mark: str, offset: int, length: int) -> bytes:
    """The fields of a TensorProto that say where its bytes are."""
    entries = b"".join(
        _field_bytes(_EXTERNAL_DATA, _field_bytes(1, key) + _field_bytes(2, str(value).encode()))
        for key, value in ((b"location", mark), (b"offset", offset), (b"length", length))
    )
    return entries + varint(_DATA_LOCATION << 3 | _VARINT) + varint(1)


def _field_bytes(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(payload)) + payload
