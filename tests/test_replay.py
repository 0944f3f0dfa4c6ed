"""Replaying without a GPU: a plain call, and what tells one kind of call from another."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from omega_cli.replay import Replayed, _kind, _rebuilt


@dataclass(frozen=True)
class Point:
    at: Tensor
    name: str = ""


def test_on_the_cpu_it_is_the_function() -> None:
    calls = []

    @Replayed
    def doubled(point: Point, *, by: int) -> Point:
        """Docs stay."""
        calls.append(point)
        return Point(by * point.at, point.name)

    assert doubled.__doc__ == "Docs stay."
    for k in range(4):
        point = Point(torch.tensor([float(k)], requires_grad=True), "a")
        out = doubled(point, by=2)
        assert calls[-1] is point and out.at.grad_fn is not None and out.at.item() == 2 * k


def test_values_are_rebuilt_in_their_own_shape_from_other_tensors() -> None:
    value = {"a": [Point(torch.zeros(2), "x"), (torch.ones(1), None)], "b": 3}
    found: list[Tensor] = []
    _kind(value, found)
    assert len(found) == 2
    again = _rebuilt(value, iter([t + 5 for t in found]))
    assert again["b"] == 3 and again["a"][0].name == "x" and again["a"][1][1] is None
    assert again["a"][0].at.tolist() == [5, 5] and again["a"][1][0].tolist() == [6]
    assert value["a"][0].at.tolist() == [0, 0]


@pytest.mark.parametrize(
    "other",
    [
        Point(torch.zeros(3), "x"),
        Point(torch.zeros(2, dtype=torch.float64), "x"),
        Point(torch.zeros(2), "y"),
        (torch.zeros(2), "x"),
        {"at": torch.zeros(2), "name": "x"},
    ],
)
def test_another_shape_type_or_value_is_another_kind(other: object) -> None:
    value = Point(torch.zeros(2), "x")
    assert _kind(value, []) == _kind(Point(torch.ones(2), "x"), [])
    assert _kind(value, []) != _kind(other, []) and hash(_kind(value, []))
