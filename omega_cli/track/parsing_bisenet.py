"""A face parser of others: BiSeNet (Yu et al. 2018) on a ResNet-18; our own module for the published file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.track.parsing import LABELS, channels_last, fold_norms

# CelebAMask-HQ's 19 classes (left and right told apart) to our labels
_OUR_LABEL = (0, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
_PAIRS = (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv_atten", "bn_atten"), ("0", "1"))
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _ConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Residual(inputs, outputs, stride), _Residual(outputs, outputs, 1))


class _ResNet18(nn.Module):
    """Features at 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x8 = self.layer2(self.layer1(x))
        x16 = self.layer3(x8)
        return x8, x16, self.layer4(x16)


class _AttentionRefinement(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(inputs, outputs, 3)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(gate)))


class _ContextPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resnet = _ResNet18()
        self.arm16 = _AttentionRefinement(256, 128)
        self.arm32 = _AttentionRefinement(512, 128)
        self.conv_head32 = _ConvNorm(128, 128, 3)
        self.conv_head16 = _ConvNorm(128, 128, 3)
        self.conv_avg = _ConvNorm(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x8, x16, x32 = self.resnet(x)
        y32 = self.arm32(x32) + self.conv_avg(x32.mean((2, 3), keepdim=True))
        y32 = self.conv_head32(F.interpolate(y32, size=x16.shape[2:]))
        y16 = self.arm16(x16) + y32
        return x8, self.conv_head16(F.interpolate(y16, size=x8.shape[2:]))


class _FeatureFusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convblk = _ConvNorm(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([detail, context], dim=1))
        gate = torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))
        return x * gate + x


class _Output(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = _ConvNorm(256, 256, 3)
        self.conv_out = nn.Conv2d(256, len(_OUR_LABEL), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Probabilities of our labels per pixel. Module names are the checkpoint's, so that it loads strictly."""

    def __init__(self) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _FeatureFusion()
        self.conv_out = _Output()

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> BiSeNet:
        """Build from the published state dict (its two training-only heads are left out)."""
        with torch.device("meta"):
            parser = cls()
        unused = ("conv_out16.", "conv_out32.")
        kept = {key: value for key, value in state.items() if not key.startswith(unused)}
        parser.load_state_dict(kept, strict=True, assign=True)
        fold_norms(parser.eval().requires_grad_(False), _PAIRS)
        channels_last(parser)
        return parser

    @torch.inference_mode()
    def forward(self, rgb: Tensor) -> Tensor:  # [3, H, W] in [0, 1] -> [LABELS, H, W]
        """H and W multiples of 32; trained at 512 px with the whole head in view."""
        mean, std = rgb.new_tensor(_MEAN)[:, None, None], rgb.new_tensor(_STD)[:, None, None]
        x = ((rgb - mean) / std)[None].contiguous(memory_format=torch.channels_last)
        logits = F.interpolate(
            self.conv_out(self.ffm(*self.cp(x))), size=x.shape[2:], mode="bilinear", align_corners=True
        )
        probabilities = logits[0].softmax(0)
        merged = probabilities.new_zeros(LABELS, *probabilities.shape[1:])
        return merged.index_add_(0, torch.tensor(_OUR_LABEL), probabilities)
