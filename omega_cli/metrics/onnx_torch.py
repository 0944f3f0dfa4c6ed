"""The graph of an ONNX file as a torch module: on any device, differentiable in its input.

As far as face recognition networks go: convolutions, norms, activations, poolings, dense layers, weights in
eight bits with scales. What depends on weights alone is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.errors import OmegaError
from omega_cli.weights.onnx_file import Graph, Node

Attributes = dict[str, Any]
Op = Callable[[Sequence[Any], Attributes], Tensor]


class OnnxNetwork(nn.Module):
    """The first output of a graph of one input. Frozen, in single precision; made by `to_torch`.

    The weights are buffers: `.to(device)` and `.double()` take them along, `parameters()` has none.
    """

    def __init__(self, graph: Graph, source: str) -> None:
        super().__init__()
        if len(graph.inputs) != 1:
            raise OmegaError(f"{source} wants {len(graph.inputs)} inputs, not one picture.")
        ((self.input, self.shape),) = graph.inputs.items()
        self.output = graph.outputs[0]
        unknown = sorted({node.op for node in graph.nodes} - set(_OPS))
        if unknown:
            raise OmegaError(f"{source} has operations that omega does not know: {', '.join(unknown)}.")
        values: dict[str, Tensor | None] = {"": None}
        for name, array in graph.tensors.items():
            tensor = torch.from_numpy(array)
            values[name] = tensor.float() if tensor.is_floating_point() else tensor
        self.live: list[Node] = []
        for node in graph.nodes:
            if all(name in values for name in node.inputs):
                values[node.outputs[0]] = _run(node, values)
            else:
                self.live.append(node)
        self._buffers_of: dict[str, str] = {}
        self._plain: dict[str, Tensor | None] = {}  # shapes and the like stay on the CPU, where they are read
        for index, name in enumerate(
            sorted({name for node in self.live for name in node.inputs} & set(values))
        ):
            value = values[name]
            if value is not None and value.is_floating_point():
                self._buffers_of[name] = f"weight_{index}"
                self.register_buffer(f"weight_{index}", value, persistent=False)
            else:
                self._plain[name] = value
        for node in self.live:
            shape = self._plain.get(node.inputs[1]) if node.op == "Reshape" else None
            if shape is not None and len(shape) and int(shape[0]) == 1:
                # a file for one picture says 1 where the batch belongs; 0 is ONNX's word for as many as come
                self._plain[node.inputs[1]] = torch.cat([torch.zeros_like(shape[:1]), shape[1:]])
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The graph's first output for an input [B, ...] as its file wants it."""
        values: dict[str, Tensor | None] = {self.input: x, **self._plain}
        for name, buffer in self._buffers_of.items():
            values[name] = getattr(self, buffer)
        last = {name: index for index, node in enumerate(self.live) for name in node.inputs}
        for index, node in enumerate(self.live):
            values[node.outputs[0]] = _run(node, values)
            for name in node.inputs:  # without a gradient their memory is free again
                if last[name] == index and name != self.output:
                    values.pop(name, None)
        result = values[self.output]
        assert result is not None
        return result


def to_torch(graph: Graph, source: str) -> OnnxNetwork:
    """Raises OmegaError, which calls the file `source`, for a graph that is not for this."""
    try:
        return OnnxNetwork(graph, source)
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OmegaError(f"The graph of {source} cannot be run ({text}).") from error


def _run(node: Node, values: dict[str, Tensor | None]) -> Tensor:
    return _OPS[node.op]([values[name] for name in node.inputs], node.attributes)


# --- operations: those of onnx.ai/onnx/operators, in two dimensions ---------------------------------------


def _three(inputs: Sequence[Any]) -> tuple[Any, Any, Any]:
    """The third may be left out."""
    return inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None


def _conv(inputs: Sequence[Any], at: Attributes) -> Tensor:
    x, weight, bias = _three(inputs)
    x, padding = _padded(x, at)
    ones = [1] * (weight.ndim - 2)
    strides, dilations = at.get("strides", ones), at.get("dilations", ones)
    return F.conv2d(x, weight, bias, strides, padding, dilations, at.get("group", 1))


def _average(inputs: Sequence[Any], at: Attributes) -> Tensor:
    _refuse(at, "ceil_mode", "dilations")
    kernel = at["kernel_shape"]
    if not at.get("count_include_pad", 0):
        padding = _sides(at)
        if padding is None:
            raise ValueError("an average over uneven borders")
        return F.avg_pool2d(inputs[0], kernel, at.get("strides", 1), padding, count_include_pad=False)
    x, padding = _padded(inputs[0], at)
    return F.avg_pool2d(x, kernel, at.get("strides", 1), padding)


def _largest(inputs: Sequence[Any], at: Attributes) -> Tensor:
    _refuse(at, "ceil_mode", "dilations")
    x, padding = _padded(inputs[0], at, float("-inf"))
    return F.max_pool2d(x, at["kernel_shape"], at.get("strides", 1), padding)


def _refuse(at: Attributes, *names: str) -> None:
    for name in names:
        if at.get(name, 0) not in (0, [1, 1]):
            raise ValueError(f"{name} = {at[name]}")


def _sides(at: Attributes) -> tuple[int, int] | None:
    """Rows and columns to add on each side; None where its sides differ."""
    if at.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ValueError(f"auto_pad = {at['auto_pad'].decode()}")
    top, left, bottom, right = at.get("pads", (0, 0, 0, 0))
    return (top, left) if (top, left) == (bottom, right) else None


def _padded(x: Tensor, at: Attributes, value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """The input, and the padding that is still to be done."""
    sides = _sides(at)
    if sides is not None:
        return x, sides
    top, left, bottom, right = at["pads"]
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _batch_norm(inputs: Sequence[Any], at: Attributes) -> Tensor:
    x, weight, bias, mean, var = inputs
    return F.batch_norm(x, mean, var, weight, bias, eps=at.get("epsilon", 1e-5))


def _prelu(inputs: Sequence[Any], at: Attributes) -> Tensor:
    """A slope a channel, as all face networks have it: old files write [C] where [C, 1, 1] is right."""
    return F.prelu(inputs[0], inputs[1].flatten())


def _gemm(inputs: Sequence[Any], at: Attributes) -> Tensor:
    a, b, c = _three(inputs)
    a, b = (t.mT if at.get(f"trans{n}", 0) else t for t, n in ((a, "A"), (b, "B")))
    y = at.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + at.get("beta", 1.0) * c


def _flatten(inputs: Sequence[Any], at: Attributes) -> Tensor:
    (x,), axis = inputs, at.get("axis", 1)
    return x.flatten(axis) if axis == 1 else x.reshape(x.shape[:axis].numel(), -1)


def _reshape(inputs: Sequence[Any], at: Attributes) -> Tensor:
    x, shape = inputs
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _dequantize(inputs: Sequence[Any], at: Attributes) -> Tensor:
    """(x - zero) scale, for the whole, along an axis, or for blocks along it."""
    x, scale, zero = _three(inputs)
    axis, block = at.get("axis", 1), at.get("block_size", 0)

    def spread(t: Tensor) -> Tensor:
        if block:
            return t.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
        return t if t.ndim == 0 else t.view([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])

    moved = x.float() if zero is None else x.float() - spread(zero.float())
    return moved * spread(scale)


def _unsqueeze(inputs: Sequence[Any], at: Attributes) -> Tensor:
    x = inputs[0]
    for axis in sorted(at["axes"] if "axes" in at else inputs[1].tolist()):
        x = x.unsqueeze(axis)
    return x


def _gather(inputs: Sequence[Any], at: Attributes) -> Tensor:
    x, index, axis = *inputs, at.get("axis", 0)
    found = x.index_select(axis, index.reshape(-1))
    return found.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _constant(inputs: Sequence[Any], at: Attributes) -> Tensor:
    value = torch.as_tensor(at.get("value", at.get("value_float", at.get("value_int"))))
    return value.float() if value.is_floating_point() else value


_OPS: dict[str, Op] = {
    "Add": lambda x, at: x[0] + x[1],
    "AveragePool": _average,
    "BatchNormalization": _batch_norm,
    "Concat": lambda x, at: torch.cat(list(x), at["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Div": lambda x, at: x[0] / x[1],
    "Dropout": lambda x, at: x[0],
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, at: x[0].mean((2, 3), keepdim=True),
    "Identity": lambda x, at: x[0],
    "MatMul": lambda x, at: x[0] @ x[1],
    "MaxPool": _largest,
    "Mul": lambda x, at: x[0] * x[1],
    "PRelu": _prelu,
    "Relu": lambda x, at: F.relu(x[0]),
    "Reshape": _reshape,
    "Shape": lambda x, at: torch.tensor(x[0].shape),
    "Sigmoid": lambda x, at: torch.sigmoid(x[0]),
    "Sub": lambda x, at: x[0] - x[1],
    "Unsqueeze": _unsqueeze,
}
