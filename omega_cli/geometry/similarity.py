"""Turn, size and place that take one set of points to another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from omega_cli.geometry.camera import Camera


@dataclass(frozen=True)
class Similarity:
    """x -> scale R x + t in D dimensions."""

    scale: Tensor  # []
    R: Tensor  # [D, D]
    t: Tensor  # [D]

    def __call__(self, points: Tensor) -> Tensor:  # [..., D] -> [..., D]
        return self.scale * points @ self.R.T + self.t

    def seen_by(self, camera: Camera) -> Camera:
        """A camera of the frame that x is taken to, standing in x's own frame (D = 3): its pixels see the
        same points.

        Depths are divided by `scale`, which a pinhole does not notice; an orthographic camera's pixels per
        metre are multiplied by it.
        """
        turn, shift = camera.viewmat[:3, :3].to(self.R), camera.viewmat[:3, 3].to(self.R)
        viewmat, K = torch.eye(4).to(self.R), camera.K.to(self.R).clone()
        viewmat[:3, :3] = turn @ self.R
        viewmat[:3, 3] = (turn @ self.t + shift) / self.scale
        if camera.model == "ortho":
            K[0, 0] *= self.scale
            K[1, 1] *= self.scale
        return replace(camera, viewmat=viewmat, K=K)


def similarity(source: Tensor, target: Tensor) -> Similarity:  # [L, D] each
    """The similarity that takes source points nearest to the target points (Umeyama 1991)."""
    a, b = source.double(), target.double()
    centre_a, centre_b = a.mean(0), b.mean(0)
    a, b = a - centre_a, b - centre_b
    U, S, Vt = torch.linalg.svd(b.T @ a / len(a))
    sign = torch.ones_like(S)
    sign[-1] = torch.det(U @ Vt).sign()
    R = U @ torch.diag(sign) @ Vt
    scale = (S * sign).sum() / a.square().sum(1).mean()
    return Similarity(scale.float(), R.float(), (centre_b - scale * R @ centre_a).float())
