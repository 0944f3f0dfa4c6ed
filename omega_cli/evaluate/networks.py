"""The metric networks that a protocol names, those that are at hand, each under its own name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from omega_cli import weights
from omega_cli.console import Report
from omega_cli.errors import OmegaError
from omega_cli.evaluate.measure import Masked, Networks, Whole
from omega_cli.evaluate.protocol import Protocol
from omega_cli.metrics import dreamsim
from omega_cli.metrics.csim import Csim, cosine, load_csim
from omega_cli.metrics.lpips import load_lpips


def absent(protocol: Protocol) -> dict[str, str]:
    """The protocol's networks that need a user's file or package that is not here: what is said of each.

    Their columns are then absent, never filled by another network.
    """
    missing = {}
    if "arcface" in protocol.csim and weights.find("arcface") is None:
        missing["arcface"] = "CSIM-ArcFace is left out: " + weights.how_to_get(weights.entry("arcface"))
    for kind in protocol.dreamsim:
        if importlib.util.find_spec("dreamsim") is None:
            missing[kind] = "DreamSim is left out: the package `dreamsim` is not installed here."
            continue
        try:
            dreamsim.weights_folder(kind)  # type: ignore[arg-type]
        except OmegaError as error:
            missing[kind] = f"DreamSim is left out: {error.message} {error.hint}"
    return missing


def load(protocol: Protocol, lpips: tuple[str, ...], device: str, report: Report) -> Networks:
    """LPIPS nets that both the protocol and `lpips` name; of the others those that are not `absent`."""
    missing = absent(protocol)
    nets = [net for net in ("alex", "vgg") if net in lpips and net in protocol.lpips]
    masked: dict[str, Masked] = {
        f"lpips_{net}": _distance(load_lpips(net, device, report), device)  # type: ignore[arg-type]
        for net in nets
    }
    whole: dict[str, Whole] = {}
    for model in ("arcface", "sface"):
        if model in protocol.csim and model not in missing:
            whole[f"csim_{model}"] = _identity(load_csim(model, report), protocol.no_face == "zero")
    for kind in protocol.dreamsim:
        if kind not in missing:
            name = "dreamsim" if kind == "ensemble" else f"dreamsim_{kind}"
            whole[name] = dreamsim.load_dreamsim(kind, device)  # type: ignore[arg-type]
    return Networks(masked, whole)


def _distance(network: Callable[..., Tensor], device: str) -> Masked:
    def metric(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return network(a.to(device), b.to(device), None if mask is None else mask.to(device)).cpu()

    return metric


def _identity(csim: Csim, lost_is_zero: bool) -> Whole:
    """CSIM of render and truth; NaN where either shows no face, 0 where only the render does not and the
    protocol wants that."""

    def metric(render: Tensor, truth: Tensor) -> Tensor:
        drawn, true = csim.embed(render), csim.embed(truth)
        if lost_is_zero and bool(true.isfinite().all()) and not bool(drawn.isfinite().all()):
            return torch.zeros(1)
        return cosine(drawn, true)

    return metric
