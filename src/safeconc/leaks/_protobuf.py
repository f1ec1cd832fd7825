"""As much of protobuf's wire format as a pprof profile needs: numbers and bytes."""

from collections.abc import Iterable

_VARINT, _BYTES = 0, 2  # wire types
_MASK = (1 << 64) - 1


def number(field: int, value: int) -> bytes:
    """Encode a whole number; one below zero takes two's complement of 64 bits."""
    return _varint(field << 3 | _VARINT) + _varint(value & _MASK) if value else b""


def packed(field: int, values: Iterable[int]) -> bytes:
    """Encode a list of whole numbers."""
    return message(field, b"".join(_varint(value & _MASK) for value in values))


def message(field: int, *parts: bytes) -> bytes:
    """Encode bytes, a string in UTF-8, or a message made of fields."""
    body = b"".join(parts)
    return _varint(field << 3 | _BYTES) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte, the eighth says "more"
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
