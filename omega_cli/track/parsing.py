"""Face parsing: which part each pixel shows. The labels, and what a parser is; two exist.

`parsing_network.FaceParser` is this project's own; `parsing_bisenet.BiSeNet` loads a published file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LABELS = 16
BACKGROUND, SKIN, BROWS, EYES, GLASSES, EARS, EARRING, NOSE, MOUTH_INSIDE, UPPER_LIP, LOWER_LIP = range(11)
NECK, NECKLACE, CLOTH, HAIR, HAT = range(11, 16)
FACE_LABELS = (SKIN, BROWS, EYES, GLASSES, NOSE, MOUTH_INSIDE, UPPER_LIP, LOWER_LIP)

Parser = Callable[[Tensor], Tensor]
"""[3, H, W] in [0, 1] -> probabilities [LABELS, H, W]; of the tracker's crop, the whole head in view."""


def fold_norms(network: nn.Module, pairs: tuple[tuple[str, str], ...]) -> None:
    """Merge every batch norm into the convolution before it: a fifth of the time, the same numbers.

    pairs: attribute names (convolution, norm) that stand beside each other in some module. In place.
    """
    for module in network.modules():
        for conv, norm in pairs:
            if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                folded = nn.utils.fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, folded)
                setattr(module, norm, nn.Identity())


def channels_last(network: nn.Module) -> None:
    """Lay every convolution's weights out as CPUs like them. In place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
