"""ONNX graphs run by torch: as ONNX Runtime runs them, for as many pictures as come, with true gradients."""

from __future__ import annotations

import numpy as np
import onnx_files
import pytest
import torch

from omega_cli.errors import OmegaError
from omega_cli.metrics.onnx_torch import OnnxNetwork, to_torch
from omega_cli.weights import onnx_file

RANDOM = np.random.default_rng(0)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * RANDOM.standard_normal(shape)).astype(np.float32)


def network(data: bytes) -> OnnxNetwork:
    return to_torch(onnx_file.read(data, "test.onnx"), "test.onnx")


def runtime(data: bytes, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def small(nodes: list[bytes], tensors: dict[str, np.ndarray], opset: int = 13) -> bytes:
    """A file from pictures `x` [N, 4, 10, 12] to `y`."""
    whole = [onnx_files.tensor(name, values) for name, values in tensors.items()]
    return onnx_files.model(nodes, whole, {"x": ("N", 4, 10, 12)}, {"y": None}, opset)


def one(op: str, *more: str, **attributes: object) -> list[bytes]:
    return [onnx_files.node(op, ["x", *more], ["y"], **attributes)]


W = {"w": normal(6, 4, 3, 3), "b": normal(6)}
NORM = {"s": normal(4), "o": normal(4), "m": normal(4), "v": np.abs(normal(4)) + 0.1}
CASES = {
    "conv": (one("Conv", "w", "b", pads=[1, 2, 1, 2], strides=[2, 1], kernel_shape=[3, 3]), W),
    "conv, uneven borders": (one("Conv", "w", pads=[0, 1, 1, 2], dilations=[1, 2]), W),
    "conv, groups": (one("Conv", "w", group=2), {"w": normal(6, 2, 3, 3)}),
    "batch norm": (one("BatchNormalization", "s", "o", "m", "v", epsilon=0.01), NORM),
    "prelu": (one("PRelu", "p"), {"p": normal(4, 1, 1)}),
    "average": (one("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]), {}),
    "average with borders": (
        one("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1), {},
    ),
    "largest": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 1]), {}),
    "mean": (one("GlobalAveragePool"), {}),
    "sub": (one("Sub", "c"), {"c": np.float32(3.5)}),
    "mul": (one("Mul", "c"), {"c": normal(4, 1, 1)}),
    "div": (one("Div", "c"), {"c": np.float32(3.5)}),
    "relu": (one("Relu"), {}),
    "sigmoid": (one("Sigmoid"), {}),
    "matmul": (one("MatMul", "c"), {"c": normal(12, 5)}),
    "dropout": (one("Dropout"), {}),
    "identity": (one("Identity"), {}),
    "flatten": (one("Flatten", axis=2), {}),
    "reshape": (one("Reshape", "c"), {"c": np.array([0, -1, 6], np.int64)}),
    "gemm": (
        [
            onnx_files.node("Flatten", ["x"], ["f"]),
            onnx_files.node("Gemm", ["f", "g", "b"], ["y"], alpha=0.5, beta=2.0, transB=1),
        ],
        {"g": normal(7, 480), "b": normal(7)},
    ),
    "shape worked out on the way": (
        [
            onnx_files.node("Shape", ["x"], ["shape"]),
            onnx_files.node("Gather", ["shape", "first"], ["count"]),
            onnx_files.node("Constant", [], ["axes"], value=np.array([0], np.int64)),
            onnx_files.node("Unsqueeze", ["count", "axes"], ["counts"]),
            onnx_files.node("Concat", ["counts", "rest"], ["to"], axis=0),
            onnx_files.node("Reshape", ["x", "to"], ["y"]),
        ],
        {"first": np.array(0, np.int64), "rest": np.array([-1], np.int64)},
    ),
    "add": (
        [onnx_files.node("Constant", [], ["c"], value=normal(4, 1, 1)), *one("Add", "c")], {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_operation_as_onnx_runtime_does_it(case: str) -> None:
    data = small(*CASES[case])
    x = normal(2, 4, 10, 12)
    found, expected = network(data)(torch.from_numpy(x)).numpy(), runtime(data, x)
    assert found.shape == expected.shape and np.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [0, 3])
def test_weights_of_eight_bits(block: int) -> None:
    """A scale a row, and a scale for each three numbers of a row (SFace has 64)."""
    scales = np.abs(normal(*((5, 4) if block else (5,)))) + 0.1
    zeros = RANDOM.integers(-9, 9, scales.shape).astype(np.int8)
    how = {"axis": 1, "block_size": 3} if block else {"axis": 0}
    nodes = [
        onnx_files.node("DequantizeLinear", ["q", "scales", "zeros"], ["w"], **how),
        onnx_files.node("MatMul", ["x", "w"], ["y"]),
    ]
    tensors = {"q": RANDOM.integers(-99, 99, (5, 10)).astype(np.int8), "scales": scales, "zeros": zeros}
    data = onnx_files.model(
        nodes, [onnx_files.tensor(*item) for item in tensors.items()], {"x": ("N", 5)}, {"y": None}, 21
    )
    x = normal(3, 5)
    net = network(data)
    assert len(net.live) == 1  # the weights are worked out once
    assert np.allclose(net(torch.from_numpy(x)).numpy(), runtime(data, x), rtol=1e-4, atol=1e-4)


def test_a_file_for_one_picture_takes_several() -> None:
    """Converters write the batch of 1 into a reshape."""
    nodes = [onnx_files.node("Relu", ["x"], ["r"]), onnx_files.node("Reshape", ["r", "c"], ["y"])]
    c = onnx_files.tensor("c", np.array([1, -1], np.int64))
    net = network(onnx_files.model(nodes, [c], {"x": (1, 2, 3, 3)}, {"y": (1, 18)}))
    x = torch.randn(5, 2, 3, 3)
    assert torch.equal(net(x), x.relu().flatten(1))


def test_gradients_are_true_and_the_weights_have_none() -> None:
    nodes = [
        onnx_files.node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        onnx_files.node("PRelu", ["a", "p"], ["r"]),
        onnx_files.node("GlobalAveragePool", ["r"], ["y"]),
    ]
    net = network(small(nodes, W | {"p": normal(6, 1, 1)})).double()
    x = torch.randn(2, 4, 10, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, (x,))
    assert not list(net.parameters()) and not any(b.requires_grad for b in net.buffers())


def test_what_cannot_be_run_is_named() -> None:
    with pytest.raises(OmegaError, match=r"test\.onnx has operations that omega does not know: Einsum, LRN"):
        network(small([*one("LRN"), onnx_files.node("Einsum", ["y"], ["z"])], {}))
    with pytest.raises(OmegaError, match="wants 2 inputs"):
        nodes = [onnx_files.node("Add", ["x", "z"], ["y"])]
        network(onnx_files.model(nodes, [], {"x": (1,), "z": (1,)}, {"y": (1,)}))
    net = network(small(one("AveragePool", kernel_shape=[2, 2], ceil_mode=1), {}))
    with pytest.raises(ValueError, match="ceil_mode = 1"):
        net(torch.zeros(1, 4, 10, 12))
