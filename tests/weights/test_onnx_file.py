"""ONNX files as plain data: every way to store numbers, weights listed as inputs, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx_files
import pytest

from omega_cli.errors import OmegaError
from omega_cli.weights import onnx_file


def graph(*tensors: bytes, **attributes: object) -> onnx_file.Graph:
    nodes = [onnx_files.node("Add", ["x", "w"], ["y"], **attributes)]
    data = onnx_files.model(nodes, tensors, {"x": ("N", 3), "w": (3,), "unread": (7,)}, {"y": ("N", 3)})
    return onnx_file.read(data, "test.onnx")


@pytest.mark.parametrize("storage", ["raw", "packed", "single"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint8", "int32", "int64"])
def test_tensors_come_back_as_they_were_written(storage: onnx_files.Storage, dtype: str) -> None:
    values = np.array([[1, 0, 117], [3, 2, 5]], dtype)
    if dtype[0] != "u":
        values[1] *= -1
    found = graph(onnx_files.tensor("w", values, storage)).tensors["w"]
    assert found.dtype == values.dtype and np.array_equal(found, values)


def test_a_node_is_read_whole_and_only_what_is_read_is_an_input() -> None:
    found = graph(
        onnx_files.tensor("w", np.float32([1, 2, 3])),
        axis=-2, pads=[0, 1, -1], alpha=0.5, mode=b"SAME", value=np.float32([[4]]),
    )  # fmt: skip
    (node,) = found.nodes
    assert (node.op, node.inputs, node.outputs) == ("Add", ("x", "w"), ("y",))
    value = node.attributes.pop("value")
    assert node.attributes == {"axis": -2, "pads": [0, 1, -1], "alpha": 0.5, "mode": b"SAME"}
    assert np.array_equal(value, [[4]])
    assert found.inputs == {"x": (0, 3)} and found.outputs == ("y",)


def test_what_is_no_file_of_the_kind_is_named() -> None:
    whole = onnx_files.model(
        [onnx_files.node("Relu", ["x"], ["y"])], [onnx_files.tensor("w", np.float32([1] * 99))],
        {"x": (1, 3)}, {"y": (1, 3)},
    )  # fmt: skip
    onnx_file.read(whole, "whole.onnx")
    for data in (b"", b"no network", whole[: len(whole) // 2], onnx_files.field(7, b"")):
        with pytest.raises(OmegaError, match=r"broken\.onnx is no ONNX file"):
            onnx_file.read(data, "broken.onnx")
    elsewhere = onnx_files.tensor("w", np.float32([1])) + onnx_files.field(14, 1)
    with pytest.raises(OmegaError, match="the tensor w lies in a file of its own"):
        graph(elsewhere)
    complex_numbers = onnx_files.field(1, 1) + onnx_files.field(2, 14) + onnx_files.field(8, b"w")
    with pytest.raises(OmegaError, match=r"the tensor w is of a type \(14\)"):
        graph(complex_numbers)
