"""Registration of our compiled functions as torch operators, light enough for a command line.

`torch.library.custom_op` wraps every function for the compiler and so imports torch._dynamo at the first
call: 2.6 s in a process that never compiles. `define` and `impl` register the same operator without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Operator:
    """One operator of the `omega` namespace; call it like the function that it wraps."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = f"omega::{name}"
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(self.name, schema)
        torch.library.impl(self.name, "cpu", function)
        self.overload = getattr(torch.ops.omega, name).default
        """What `torch.library.opcheck` takes."""

    def __call__(self, *args: Any) -> Any:
        return self.overload(*args)

    def register_cuda(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same operator for CUDA tensors; the function has the CPU function's signature."""
        torch.library.impl(self.name, "cuda", function)
        return function

    def register_fake(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The shapes and types that the operator returns, for tracing."""
        torch.library.register_fake(self.name, function)
        return function

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """The operator's gradient."""
        torch.library.register_autograd(self.name, backward, setup_context=setup_context)


def cpu_operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Decorator: a function of tensors, numbers and flags with annotated types becomes an operator."""
    return lambda function: Operator(name, function)
