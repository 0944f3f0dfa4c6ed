"""Identity as a loss: the distance of two faces in a face recognition network, with a gradient.

The same networks as `csim`'s, run by torch: L_perc of the paper's eq. 9. `csim` finds its faces in the
pictures; here the landmarks are given, for in training it is known where the face lies, and a detector has no
gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omega_cli.errors import OmegaError
from omega_cli.metrics.alignment import SIDE, aligned
from omega_cli.metrics.csim import NAMES, Model
from omega_cli.metrics.onnx_torch import OnnxNetwork, to_torch
from omega_cli.weights import onnx_file

SAMPLES = 2  # a side of each pixel of the aligned face: a face in 512 px is shrunk by up to 3  # ours


class IdentityLoss(nn.Module):
    """1 - cosine of two faces' features. Frozen; made by `load_identity`. `name` is the network's."""

    def __init__(self, name: str, network: OnnxNetwork) -> None:
        super().__init__()
        self.name, self.network = name, network
        # SFace and files converted from MXNet begin by normalising themselves
        self._normalised_by_network = network.live[0].op == "Sub"

    def embed(
        self,
        images: Tensor,  # [B, 3, H, W] in [0, 1]
        landmarks: Tensor,  # [B, 5, 2] px, pixel centres at +0.5
    ) -> Tensor:  # [B, D]
        """Unit features of the faces; differentiable in pictures and landmarks."""
        with torch.autocast(images.device.type, enabled=False):
            points = landmarks.to(images.device, torch.promote_types(images.dtype, torch.float32)) - 0.5
            return self.features(aligned(images.to(points.dtype), points, SAMPLES))

    def features(
        self,
        faces: Tensor,  # [B, 3, 112, 112] in [0, 1]
    ) -> Tensor:  # [B, D]
        """Unit features of aligned faces."""
        pixels = faces * 255
        x = pixels if self._normalised_by_network else (pixels - 127.5) / 127.5
        return F.normalize(self.network(x), dim=1)

    def distance(
        self,
        image: Tensor,  # [B, 3, H, W]
        truth: Tensor,  # [B, 3, H, W]
        landmarks: Tensor,  # [B, 5, 2] px of both: eyes (left to right in the picture), nose, mouth corners
    ) -> Tensor:  # [B]
        """1 - cosine in [0, 2], with a gradient in `image` alone. Both are cut at the same landmarks: where a
        face lies is no business of its identity. Unchecked: values may leave [0, 1], and a GPU is not waited
        for. Without a face at the landmarks the number means nothing."""
        both = torch.cat([image, truth.detach()])  # one pass: half the kernels to start
        found, wanted = self.embed(both, landmarks.detach().repeat(2, 1, 1)).chunk(2)
        return 1 - (found * wanted.detach()).sum(1)


def load_identity(
    model: Model = "sface", device: torch.device | str = "cpu", report: Any = None
) -> IdentityLoss:
    """The network of `model`: `sface` is fetched once (11 MB), `arcface` is the user's file arcface.onnx.

    Raises OmegaError when the file is neither here nor to be had, or is no face network.
    """
    from omega_cli import weights

    if model not in NAMES:
        raise ValueError(f"model must be one of {', '.join(NAMES)}, got {model!r}")
    path = weights.resolve(model, report)
    network = to_torch(onnx_file.read(path.read_bytes(), str(path)), str(path))
    if network.shape[1:] != (3, SIDE, SIDE):
        raise OmegaError(
            f"{path} is no face network: its input {network.input} is {list(network.shape)}.",
            "An ArcFace ONNX file of InsightFace reads one picture of 112 px." if model == "arcface" else "",
        )
    return IdentityLoss(NAMES[model].removeprefix("CSIM-"), network).to(device)
