"""Settings of splat-uv: each field is a flag, a default and a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt

VIEW_WEIGHTS = {"000": 1.0, "045": 0.7, "315": 0.7, "090": 0.5, "270": 0.5, "180": 0.5}
"""gamma_k of eq. 6. The paper gives no values: these are ours."""


@dataclass(frozen=True)
class SplatUVConfig:
    uv_size: int = opt(256, "UV map side, texels.")
    levels: int = opt(5, "Pyramid levels, each half the size of the one before.")
    splat: Literal["bilinear", "nearest"] = opt("bilinear", "Pixel-to-texel assignment (Tab. 3).")
    hierarchical: bool = opt(True, "Fill sparse texels from coarser levels (Tab. 3).")
    visibility_fusion: bool = opt(True, "Weight views by angle and view weight (Tab. 3).")
    single_view: bool = opt(False, "Use the front view alone (Tab. 3).")
    confidence_power: float = opt(4.0, "Exponent on the cosine confidence; 1 is the paper's eq. 5 (ours).")
    encoder: str = opt(
        "auto",
        "Learned features beside the filter bank: a file of your own (omega train), none, or auto = what "
        "comes with omega, if anything.",
    )
    encoder_backbone: str = opt(
        "",
        "Folder of the DINOv3 model (config.json, model.safetensors) for an encoder that was trained on one; "
        "else the folder dinov3 in $OMEGA_WEIGHTS.",
    )
    keep_views: bool = opt(False, "Also write each view's sums, densities and confidences per level.")

    def __post_init__(self) -> None:
        if self.levels < 1 or self.uv_size % (1 << (self.levels - 1)) or self.uv_size < 16:
            raise ValueError(f"uv_size {self.uv_size} must be >= 16 and divisible by 2^(levels - 1)")
        if not self.confidence_power > 0:
            raise ValueError("confidence_power must be positive")
