"""ONNX files as plain data: nodes and tensors, without the package `onnx`.

An ONNX file is one protobuf message (onnx.proto3 of github.com/onnx/onnx). Here its wire format is read, as
far as networks for inference need it: no subgraphs, no sparse tensors, no tensors in files of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from omega_cli.errors import OmegaError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_TYPES: dict[int, type] = {  # TensorProto.DataType
    1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16,
    11: np.float64,
}  # fmt: skip
_Field = tuple[int, int, Any]  # number, wire type, value (an int, or the bytes of anything else)


@dataclass(frozen=True)
class Node:
    """One operation; attributes are int, float, bytes, lists of these, or an array."""

    op: str
    inputs: tuple[str, ...]  # "" where an optional one is left out
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """Nodes in an order that they can run in; tensors: the weights by name; inputs: what has to be given, by
    name, with its shape (0: any size); outputs: names."""

    nodes: tuple[Node, ...]
    tensors: dict[str, np.ndarray]
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]


def read(data: bytes, name: str) -> Graph:
    """The graph of an ONNX file, which errors call `name`. Raises OmegaError for anything else."""
    try:
        (graph,) = (value for number, wire, value in _fields(memoryview(data)) if (number, wire) == (7, 2))
        return _graph(graph)
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        text = str(error) or type(error).__name__
        raise OmegaError(f"{name} is no ONNX file that can be read ({text}).") from error


def _graph(data: memoryview) -> Graph:
    nodes, tensors, inputs, outputs = [], {}, {}, []
    for number, _, value in _fields(data):
        if number == 1:
            nodes.append(_node(value))
        elif number == 5:
            tensor_name, tensor = _tensor(value)
            tensors[tensor_name] = tensor
        elif number == 11:
            inputs |= dict([_value(value)])
        elif number == 12:
            outputs.append(_value(value)[0])
    if not nodes or not outputs:
        raise ValueError("it has no graph")
    # files of before 2019 list their weights among the inputs, SFace's even those that it had before they
    # were rounded to eight bits
    read = {input_name for node in nodes for input_name in node.inputs} - set(tensors)
    needed = {input_name: shape for input_name, shape in inputs.items() if input_name in read}
    return Graph(tuple(nodes), tensors, needed, tuple(outputs))


def _node(data: memoryview) -> Node:
    op, inputs, outputs, attributes = "", [], [], {}
    for number, _, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            op = _text(value)
        elif number == 5:
            attribute_name, attribute = _attribute(value)
            attributes[attribute_name] = attribute
    return Node(op, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview) -> tuple[str, Any]:
    fields = list(_fields(data))
    name = next(_text(value) for number, _, value in fields if number == 1)
    for number, _, value in fields:
        if number == 2:
            return name, _float(value)
        if number == 3:
            return name, _signed(value)
        if number == 4:
            return name, bytes(value)
        if number == 5:
            return name, _tensor(value)[1]
    floats, ints = _numbers(fields, 7, np.float32), _numbers(fields, 8, np.int64)
    return name, (floats if len(floats) else ints).tolist()


def _tensor(data: memoryview) -> tuple[str, np.ndarray]:
    fields = list(_fields(data))
    single = {number: value for number, _, value in fields}
    name = _text(single.get(8, b""))
    if single.get(14, 0):
        raise ValueError(f"the tensor {name} lies in a file of its own")
    if single[2] not in _TYPES:
        raise ValueError(f"the tensor {name} is of a type ({single[2]}) that is not known here")
    dtype, shape = np.dtype(_TYPES[single[2]]), _numbers(fields, 1, np.int64).tolist()
    if 9 in single:
        values = np.frombuffer(single[9], dtype.newbyteorder("<"))
    elif dtype == np.float32:
        values = _numbers(fields, 4, np.float32)
    elif dtype == np.float64:
        values = _numbers(fields, 10, np.float64)
    elif dtype == np.int64:
        values = _numbers(fields, 7, np.int64)
    else:
        values = _numbers(fields, 5, np.int64)
        values = values.astype(np.uint16).view(np.float16) if dtype == np.float16 else values.astype(dtype)
    return name, values.reshape(shape).astype(dtype)


def _numbers(fields: list[_Field], wanted: int, dtype: type) -> np.ndarray:
    """A repeated field, packed or not."""
    floating, found = np.issubdtype(dtype, np.floating), []
    for number, wire, value in fields:
        if number != wanted:
            continue
        if floating:
            found.append(np.frombuffer(value, np.dtype(dtype).newbyteorder("<")))
        elif wire == _BYTES:
            position = 0
            while position < len(value):
                one, position = _varint(value, position)
                found.append([_signed(one)])
        else:
            found.append([_signed(value)])
    return np.concatenate(found).astype(dtype) if found else np.empty(0, dtype)


def _value(data: memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape of an input or output."""
    name, shape = "", []
    for number, _, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for dimension in _inside(value, 1, 2, 1):
                sizes = [size for number, wire, size in _fields(dimension) if (number, wire) == (1, 0)]
                shape.append(max(0, _signed(sizes[0])) if sizes else 0)
    return name, tuple(shape)


def _inside(data: memoryview, *path: int) -> list[memoryview]:
    """The messages at the end of a path of field numbers."""
    found = [data]
    for wanted in path:
        found = [value for part in found for number, _, value in _fields(part) if number == wanted]
    return found


def _fields(data: memoryview) -> Iterator[_Field]:
    """The fields of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        size = {_EIGHT: 8, _FOUR: 4}.get(wire, 0)
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif not size:
            raise ValueError(f"wire type {wire}")
        if position + size > len(data):
            raise ValueError("it is cut short")
        yield number, wire, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """(number, where the next thing begins)."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _float(value: memoryview) -> float:
    return struct.unpack("<f", value)[0]


def _text(value: Any) -> str:
    return bytes(value).decode()
