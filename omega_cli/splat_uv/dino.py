"""DINOv3 with a feature pyramid: the paper's encoder (3.3), in place of our own small one.

The transformer is frozen (supplement B) and the user's own; what is trained, and kept in our file, is the
pyramid over four of its blocks. A view's patches are 16 px: what is finer comes from the picture itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.blocks import Block
from omega_cli.errors import OmegaError
from omega_cli.splat_uv.encoder import twice

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the LVD models were trained
LEVELS = 4


class Backbone:
    """A frozen DINOv3: maps of some of its blocks. Shared by copies of an encoder, and no part of its
    parameters, state or mode."""

    def __init__(self, net: nn.Module, config: dict[str, Any], sha256: str) -> None:
        self.net, self.sha256 = net, sha256
        self.width, self.depth = int(config["hidden_size"]), int(config["num_hidden_layers"])
        self.patch = int(config.get("patch_size", 16))
        # transformers has moved the blocks about, never what they are called
        self._blocks = [m for m in net.modules() if type(m).__name__ == "DINOv3ViTLayer"]
        if len(self._blocks) != self.depth or not hasattr(net, "norm"):
            raise OmegaError(
                f"This version of transformers builds DINOv3 in a way that is not known here "
                f"({len(self._blocks)} blocks of {self.depth}).",
                "Take another version of transformers.",
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    @torch.no_grad()
    def maps(self, rgb: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """rgb [K, 3, H, W] in [0, 1] -> [K, width, H / patch, W / patch] of each block, normalised as the
        model's own answer is. In bfloat16 on CUDA. No gradient."""
        mean, deviation = (rgb.new_tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
        found: dict[int, Tensor] = {}

        def keep(index: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                found[index] = output[0] if isinstance(output, tuple) else output

            return hook

        hooks = [self._blocks[index].register_forward_hook(keep(index)) for index in blocks]
        try:
            with torch.autocast(rgb.device.type, torch.bfloat16, enabled=rgb.is_cuda):
                self.net(pixel_values=(rgb - mean) / deviation)
                normed = [self.net.norm(found[index]) for index in blocks]  # type: ignore[operator]
        finally:
            for hook in hooks:
                hook.remove()
        rows, columns = rgb.shape[2] // self.patch, rgb.shape[3] // self.patch
        patches = [tokens[:, -rows * columns :] for tokens in normed]  # class and register tokens come first
        return [p.float().mT.unflatten(2, (rows, columns)) for p in patches]


@dataclass(frozen=True)
class DinoConfig:
    """backbone: sha256 of the transformer's file; its width and patch, px; the blocks that are read, from the
    picture on; channels of the pyramid, and of the features that come out."""

    backbone: str
    width: int
    blocks: tuple[int, ...]
    patch: int = 16
    channels: int = 48
    outputs: int = 16

    @staticmethod
    def of(backbone: Backbone, channels: int = 48, outputs: int = 16) -> DinoConfig:
        """For a transformer: every fourth part of its blocks, the last one among them."""
        blocks = tuple(backbone.depth * (level + 1) // LEVELS - 1 for level in range(LEVELS))
        return DinoConfig(backbone.sha256, backbone.width, blocks, backbone.patch, channels, outputs)


class DinoEncoder(nn.Module):
    """As `Encoder`: K views rgb [K, 3, H, W] in [0, 1] and mask [K, 1, H, W] -> features [K, outputs, H, W],
    0 outside the mask; H and W multiples of the patch. Needs `attach` first; state and parameters are the
    pyramid's alone."""

    def __init__(self, config: DinoConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        if len(config.blocks) != LEVELS:
            raise ValueError(f"the pyramid reads {LEVELS} blocks, got {config.blocks}")
        self.config, self.multiple = config, config.patch
        self.backbone: Backbone | None = None
        C = config.channels
        self.laterals = nn.ModuleList(nn.Conv2d(config.width, C, 1) for _ in config.blocks)
        self.levels = nn.ModuleList(Block(C, C) for _ in range(LEVELS - 1))
        self.enter, self.fine = nn.Conv2d(4, C // 2, 3, 2, 1), Block(C // 2, C // 2)
        self.from_levels = nn.Conv2d(C, C // 2, 1)
        self.last = nn.Conv2d(C // 2, config.outputs, 3, padding=1)
        if backbone is not None:
            self.attach(backbone)

    def attach(self, backbone: Backbone) -> DinoEncoder:
        """Take the transformer that the pyramid was made for. Raises OmegaError for another one."""
        if backbone.sha256 != self.config.backbone:
            raise OmegaError(
                "The avatar encoder was trained on another DINOv3 model (sha256 "
                f"{self.config.backbone[:12]}..., this one is {backbone.sha256[:12]}...).",
                "Give the folder that it was trained with, or train it on this one.",
            )
        self.backbone = backbone
        return self

    def forward(self, rgb: Tensor, mask: Tensor) -> Tensor:
        if self.backbone is None:
            raise RuntimeError("attach a backbone first")
        maps = self.backbone.maps(rgb, self.config.blocks)
        early, middle, late, last = (layer(m) for layer, m in zip(self.laterals, maps, strict=True))
        x = self.levels[0](last + late)
        x = self.levels[1](twice(x) + twice(middle))
        x = self.levels[2](twice(x) + twice(twice(early)))
        size = rgb.shape[2] // 2, rgb.shape[3] // 2  # other patches than 16 px end elsewhere
        x = F.interpolate(self.from_levels(x), size, mode="bilinear", align_corners=False)
        x = x + self.fine(self.enter(torch.cat([2 * rgb - 1, mask], 1)))
        return twice(self.last(F.silu(x))) * mask

    def description(self) -> dict[str, Any]:
        """What `DinoEncoder(DinoConfig(**...))` needs to be this network again."""
        return asdict(self.config)

    def _apply(self, fn: Any, recurse: bool = True) -> DinoEncoder:
        """To another device with its backbone."""
        if self.backbone is not None:
            self.backbone.net._apply(fn)
        return super()._apply(fn, recurse)
