"""Small ONNX files, written field by field: no package for it is needed."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

Storage = Literal["raw", "packed", "single"]
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float64": 11}


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])


def tensor(name: str, values: Any, storage: Storage = "raw") -> bytes:
    """A TensorProto; storage: its bytes, or numbers in one packed field, or a field for each number."""
    array = np.asarray(values)
    data = b"".join(field(1, side) for side in array.shape) + field(2, _TYPES[array.dtype.name])
    flat = array.reshape(-1)
    if storage == "raw":
        return data + field(8, name.encode()) + field(9, array.tobytes())
    number = {"float32": 4, "float64": 10, "int64": 7}.get(array.dtype.name, 5)
    if array.dtype.kind == "f" and array.dtype != np.float16:
        parts = [struct.pack("<f" if number == 4 else "<d", value) for value in flat]
        wire = 5 if number == 4 else 1
        singles = b"".join(varint(number << 3 | wire) + part for part in parts)
    else:
        whole = flat.view(np.uint16) if array.dtype == np.float16 else flat
        parts = [varint(int(value)) for value in whole]
        singles = b"".join(varint(number << 3) + part for part in parts)
    return (
        data + field(8, name.encode()) + (field(number, b"".join(parts)) if storage == "packed" else singles)
    )


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> bytes:
    """A NodeProto; attributes: int, float, bytes, a list of ints, an array."""
    body = b"".join(field(1, name.encode()) for name in inputs)
    body += b"".join(field(2, name.encode()) for name in outputs)
    body += field(3, f"_{outputs[0]}".encode()) + field(4, op.encode())
    for name, value in attributes.items():
        data = field(1, name.encode())
        if isinstance(value, float):
            data += varint(2 << 3 | 5) + struct.pack("<f", value) + field(20, 1)
        elif isinstance(value, int):
            data += field(3, value) + field(20, 2)
        elif isinstance(value, bytes):
            data += field(4, value) + field(20, 3)
        elif isinstance(value, list):
            data += b"".join(field(8, one) for one in value) + field(20, 7)
        else:
            data += field(5, tensor("", value)) + field(20, 4)
        body += field(5, data)
    return body


def model(
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    inputs: Mapping[str, tuple[int | str, ...]],
    outputs: Mapping[str, tuple[int | str, ...] | None],
    opset: int = 13,
) -> bytes:
    """A whole file; sides of inputs and outputs are numbers or names, None where nothing is said of them."""

    def value(name: str, sides: tuple[int | str, ...] | None) -> bytes:
        known = [field(1, field(1, s) if isinstance(s, int) else field(2, s.encode())) for s in sides or ()]
        shape = field(2, b"".join(known)) if sides is not None else b""
        return field(1, name.encode()) + field(2, field(1, field(1, 1) + shape))

    graph = b"".join(field(1, one) for one in nodes) + field(2, b"graph")
    graph += b"".join(field(5, one) for one in tensors)
    graph += b"".join(field(11, value(*item)) for item in inputs.items())
    graph += b"".join(field(12, value(*item)) for item in outputs.items())
    return field(1, 8) + field(7, graph) + field(8, field(2, opset))
