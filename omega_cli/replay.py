"""Work on a GPU recorded once as a CUDA graph and then replayed: one launch in place of hundreds."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")


class Replayed(Generic[R]):
    """Calls `function`; on CUDA it records the second call of a kind and replays it from then on.

    The arguments and the result are tensors and hashable values, in dataclasses, tuples, lists and dicts.
    Calls of one kind have tensors of the same shapes and types in the same places, and the other values
    equal. The function must be a pure one of its arguments: a tensor from elsewhere must stay where it is for
    good. And it must not wait for the GPU: no `.item()`, no sizes that depend on values, no copies from the
    CPU. What is returned belongs to the caller. The last `keep` kinds are remembered, each recorded one
    with all the memory that the function needs.

    It is a plain call on the CPU, where a gradient is wanted, and while another graph is recorded; and,
    with a warning, where recording fails, for want of memory say.
    """

    def __init__(self, function: Callable[..., R], keep: int = 2) -> None:
        self.function = function
        self.keep = keep
        self._kinds: OrderedDict[Hashable, _Recording | Literal["once", "plain"]] = OrderedDict()
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        tensors: list[Tensor] = []
        kind = _kind((args, kwargs), tensors)
        if not _recordable(tensors):
            return self.function(*args, **kwargs)
        # a grad mode or an autocast that the recording does not share would change the result
        device = tensors[0].device
        kind = (kind, torch.is_grad_enabled(), torch.is_autocast_enabled(device.type))
        with torch.cuda.device(device):
            recording = self._kinds.get(kind)
            if recording == "once":
                recording = self._kinds[kind] = self._recorded(args, kwargs, tensors)
            if isinstance(recording, _Recording):
                self._kinds.move_to_end(kind)
                return recording.replay(tensors)
            result = self.function(*args, **kwargs)
            if recording is None:  # a single call is not worth a recording
                self._kinds[kind] = "once"
                while len(self._kinds) > self.keep:
                    self._kinds.popitem(last=False)
            return result

    def _recorded(
        self, args: tuple, kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> _Recording | Literal["plain"]:
        try:
            return _Recording(self.function, args, kwargs, tensors)
        except RuntimeError as error:  # torch's, of memory and of what a recording does not allow
            cause = (str(error).splitlines() or [""])[0]
            warnings.warn(f"called plainly, as it cannot be recorded as a CUDA graph: {cause}", stacklevel=3)
            return "plain"


class _Recording:
    """One recorded call: the graph and the tensors that it reads and writes."""

    def __init__(
        self, function: Callable, args: tuple, kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> None:
        with torch.inference_mode(False):
            self.inputs = [tensor.detach().clone() for tensor in tensors]
        args, kwargs = _rebuilt((args, kwargs), iter(self.inputs))
        self.by_type = [
            [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
            for dtype in {tensor.dtype for tensor in tensors}
        ]
        # Once for the code that loads or measures itself at its first run, on another stream as recording is
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function(*args, **kwargs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.result = function(*args, **kwargs)
        self.outputs: list[Tensor] = []
        _kind(self.result, self.outputs)
        self.done = torch.cuda.Event()

    def replay(self, tensors: list[Tensor]) -> Any:
        torch.cuda.current_stream().wait_event(self.done)  # the last replay may be on another stream
        with torch.no_grad():
            for idx in self.by_type:  # one launch each, if all are of one type
                torch._foreach_copy_([self.inputs[i] for i in idx], [tensors[i] for i in idx])
            self.graph.replay()
            copies = [tensor.clone() for tensor in self.outputs]
        self.done.record()
        return _rebuilt(self.result, iter(copies))


def _recordable(tensors: list[Tensor]) -> bool:
    if not tensors or not all(t.is_cuda and t.device == tensors[0].device for t in tensors):
        return False
    wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return not wants_gradient and not torch.cuda.is_current_stream_capturing()


def _is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _kind(value: Any, tensors: list[Tensor]) -> Hashable:
    """The value without its tensors' contents, hashable; the tensors are added to the list, in order."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor, tuple(value.shape), value.dtype, value.device
    if isinstance(value, (list, tuple)):
        return type(value), tuple([_kind(item, tensors) for item in value])
    if isinstance(value, dict):
        return dict, tuple([(key, _kind(item, tensors)) for key, item in value.items()])
    if _is_record(value):
        return type(value), tuple([_kind(getattr(value, name), tensors) for name in _names(type(value))])
    return value


def _rebuilt(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The value with other tensors, taken in `_kind`'s order."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, (list, tuple)):
        return type(value)([_rebuilt(item, tensors) for item in value])
    if isinstance(value, dict):
        return {key: _rebuilt(item, tensors) for key, item in value.items()}
    if _is_record(value):
        names = _names(type(value))
        return dataclasses.replace(value, **{name: _rebuilt(getattr(value, name), tensors) for name in names})
    return value


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))
