"""A GPU in name only, to find code that mixes devices where there is no GPU.

Under `named_gpu()` a tensor sent to "cuda" is an ordinary CPU tensor that says it is on cuda:0. Every
function of torch is watched: one that gets such a tensor together with a plain one of more than one number
raises, as CUDA would, and so does numpy. Gradients work. Autocast and graphs do nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = torch.device("cuda:0")
_MOVES = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu, torch.Tensor.copy_, torch.Tensor.type_as,
          torch._has_compatible_shallow_copy_type}  # fmt: skip
_INDEXED = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}  # index tensors may stay on the CPU
_HOST = {torch.Tensor.numpy, torch.Tensor.__array__, torch.from_numpy}


class Named(torch.Tensor):
    """A CPU tensor that says it is on cuda:0."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Named:
        with torch._C.DisableTorchFunction():
            twin = self.detach().clone().as_subclass(Named).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            twin = torch.nn.Parameter(twin, self.requires_grad)
        memo[id(self)] = twin
        return twin


class _Watch(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


@contextlib.contextmanager
def named_gpu() -> Iterator[None]:
    """While it lasts, "cuda" is a name for the CPU."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # parameters become Named, too
    try:
        with mock.patch("torch.cuda.is_current_stream_capturing", lambda: False), _Watch():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    with torch._C.DisableTorchFunction():
        first = args[0] if args else None
        if isinstance(first, Named) and func == torch.Tensor.device.__get__:
            return NAME
        if isinstance(first, Named) and func == torch.Tensor.is_cuda.__get__:
            return True
        asked, args, kwargs = _asked(func, args, kwargs)
        flat = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        named = any(isinstance(t, Named) for t in flat)
        if named and func in _HOST:
            raise TypeError("can't convert a cuda:0 tensor to numpy")
        if named and func not in _MOVES:
            looked = [first, *args[2:]] if func in _INDEXED else flat
            for t in looked:
                if isinstance(t, torch.Tensor) and not isinstance(t, Named) and t.dim() > 0:
                    name = getattr(func, "__name__", func)
                    raise RuntimeError(f"{name}: {tuple(t.shape)} is on the CPU, others are on {NAME}")
        on_gpu = named if asked is None else asked.type == "cuda"
        if func in (torch.Tensor.copy_, torch.Tensor.type_as):
            on_gpu = isinstance(args[1] if func is torch.Tensor.type_as else first, Named)
        out = func(*args, **kwargs)
        if out is first and on_gpu == isinstance(first, Named):  # in place, or moved to where it was
            return out

        def renamed(t: torch.Tensor) -> torch.Tensor:
            return t.as_subclass(Named if on_gpu else torch.Tensor)

        return tree_map_only(torch.Tensor, renamed, out) if func is not torch.Tensor.__setitem__ else out


def _asked(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[torch.device | None, Any, dict[str, Any]]:
    """The device that a call asks for, and the call without it."""
    if func is torch.Tensor.cpu:
        return torch.device("cpu"), args, kwargs
    if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], torch.Tensor):
        like = args[1]
        kind = NAME if isinstance(like, Named) else torch.device("cpu")
        return kind, (args[0], like.dtype, *args[2:]), kwargs
    places = [a for a in (*args[1:], kwargs.get("device")) if isinstance(a, (str, torch.device))]
    if (func is not torch.Tensor.to and kwargs.get("device") is None) or not places:
        return None, args, kwargs
    args = tuple(torch.device("cpu") if isinstance(a, (str, torch.device)) else a for a in args)
    if kwargs.get("device") is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    return torch.device(places[0]), args, kwargs
