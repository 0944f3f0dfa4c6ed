"""Learned perceptual distance (Zhang, Isola, Efros, Shechtman and Wang 2018), version 0.1 of its weights.

The trunks are AlexNet (Krizhevsky's one-tower form) and VGG16 as torchvision trained them; the linear heads
are LPIPS 0.1's. Both come from the weights registry; no torchvision is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.metrics.pairs import check_pair, region_mean

Net = Literal["alex", "vgg"]

NAMES: dict[Net, str] = {"alex": "LPIPS-Alex", "vgg": "LPIPS-VGG"}
SMALLEST: dict[Net, int] = {"alex": 31, "vgg": 16}  # px; below it the last layer has no pixel left

# The input transform of LPIPS, for pictures in [-1, 1]: ImageNet's mean and deviation, rescaled.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

# Layers of a trunk, from the picture on: (out, kernel, stride, padding) of a convolution with its ReLU,
# an int for a max-pooling of that kernel and stride 2; "tap" is where a layer is compared.
_Layers = tuple[tuple[int, int, int, int] | int | Literal["tap"], ...]
_ALEX: _Layers = (
    (64, 11, 4, 2), "tap", 3, (192, 5, 1, 2), "tap", 3, (384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap",
    (256, 3, 1, 1), "tap",
)  # fmt: skip


def _vgg16() -> _Layers:
    layers: list[Any] = []
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [2] * bool(layers) + [(channels, 3, 1, 1)] * count + ["tap"]
    return tuple(layers)


_TRUNKS: dict[Net, _Layers] = {"alex": _ALEX, "vgg": _vgg16()}


class Lpips(nn.Module):
    """The distance [B] of pairs of pictures. Frozen; differentiable in the pictures.

    Made by `load_lpips` with the published weights; `tensors` has the names that `weights.converting` gives.
    """

    def __init__(self, net: Net, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        if net not in _TRUNKS:
            raise ValueError(f"net must be one of {', '.join(_TRUNKS)}, got {net!r}")
        self.net: Net = net
        self.name = NAMES[net]
        self.shift: Tensor
        self.scale: Tensor
        self.convolutions, self.heads = nn.ModuleList(), nn.ParameterList()
        channels = 3
        for layer in _TRUNKS[net]:
            if isinstance(layer, tuple):
                out, kernel, stride, padding = layer
                self.convolutions.append(nn.Conv2d(channels, out, kernel, stride, padding))
                channels = out
            elif layer == "tap":
                self.heads.append(nn.Parameter(torch.empty(channels)))
        self.load_state_dict({name.replace("trunk.", "convolutions."): t for name, t in tensors.items()})
        self.register_buffer("shift", torch.tensor(_SHIFT).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).reshape(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(
        self,
        a: Tensor,  # [B, 3, H, W] in [0, 1]
        b: Tensor,  # [B, 3, H, W]
        mask: Tensor | None = None,  # [B, 1, H, W]
    ) -> Tensor:  # [B]
        """LPIPS of each pair. With a mask: pictures black outside it, and each layer's map of distances is
        averaged over the mask as that layer sees it (its share of every cell)."""
        check_pair(a, b, mask)
        if min(a.shape[2:]) < SMALLEST[self.net]:
            raise ValueError(f"images must be at least {SMALLEST[self.net]} px, got {list(a.shape[2:])}")
        return self.distance(a, b, mask)

    def distance(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same unchecked, for training: values may leave [0, 1], and a GPU is not waited for."""
        a, b = a.float(), b.float()
        if mask is not None:
            mask = mask.float()
            a, b = a * mask, b * mask
        with torch.autocast(a.device.type, enabled=False):
            total = a.new_zeros(len(a))
            features = self._features(torch.cat([a, b]))
            for layer, head in zip(features, self.heads, strict=True):
                of_a, of_b = _unit(layer).chunk(2)
                values = torch.einsum("bchw,c->bhw", (of_a - of_b).square(), head)[:, None]
                seen = (
                    None if mask is None else F.adaptive_avg_pool2d(mask, (values.shape[2], values.shape[3]))
                )
                total = total + region_mean(values, seen)
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        """Activations at the taps of images [N, 3, H, W] in [0, 1]."""
        x, found, convolutions = (2 * images - 1 - self.shift) / self.scale, [], iter(self.convolutions)
        for layer in _TRUNKS[self.net]:
            if isinstance(layer, tuple):
                x = F.relu(next(convolutions)(x))
            elif layer == "tap":
                found.append(x)
            else:
                x = F.max_pool2d(x, layer, 2)
        return found


def _unit(x: Tensor) -> Tensor:
    """x [N, C, h, w] with unit length along C; zero stays zero, and has a gradient (0) there."""
    return x / (x.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt() + 1e-10)


def load_lpips(net: Net = "alex", device: torch.device | str = "cpu", report: Any = None) -> Lpips:
    """LPIPS with the published weights, fetched once (`lpips_alex` 10 MB, `lpips_vgg` 59 MB).

    Raises OmegaError when they are neither here nor to be had.
    """
    from safetensors.torch import load_file

    from omega_cli import weights

    if net not in _TRUNKS:
        raise ValueError(f"net must be one of {', '.join(_TRUNKS)}, got {net!r}")
    return Lpips(net, load_file(weights.resolve(f"lpips_{net}", report))).to(device)
