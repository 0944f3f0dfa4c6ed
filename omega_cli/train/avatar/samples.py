"""One training sample of the avatar network: what the pipeline knows of a photo, and true pictures of them.

The known side is made by the very steps that users run: the tracker's fit, the six views of mv-diffuse with
its network, deform-flame's mesh. The true pictures are of three kinds: the photo; the same moment from
anywhere; the same person with another face, photographed from in front and tracked as a driver would be.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from omega_cli.avatar import codecs
from omega_cli.decode.learned import Changes
from omega_cli.decode.residual import Change
from omega_cli.geometry.camera import Camera
from omega_cli.head.params import HeadParams

SOURCE, NOVEL, DRIVEN = range(3)  # kinds of target


@dataclass(frozen=True)
class Targets:
    """T true pictures: rgba [T, 4, H, H] uint8, straight; known [T, 1, H, H] uint8, 0 where the photo ends;
    K [T, 3, 3] px of H, viewmat [T, 4, 4]; frames: HeadParams of T frames; kind [T], see above."""

    rgba: Tensor
    known: Tensor
    K: Tensor
    viewmat: Tensor
    frames: HeadParams
    kind: Tensor

    def camera(self, index: int) -> Camera:
        size = self.rgba.shape[-1]
        return Camera(self.K[index], self.viewmat[index], size, size)


@dataclass(frozen=True)
class Fit:
    """What `decode` fitted to photo and views: texels [12, R, R], vertices [V, 9] float16, see `packed`."""

    texels: Tensor
    vertices: Tensor


@dataclass(frozen=True)
class AvatarSample:
    """rgb [6, 3, S, S], mask [6, 1, S, S] uint8: the views; params (T = 1) and offsets [V, 3] m: the fitted
    head in the views' frame; labels [512, 512] uint8, K, viewmat: the photo's parsing and camera; fit: None
    where nothing was fitted."""

    rgb: Tensor
    mask: Tensor
    params: HeadParams
    offsets: Tensor
    labels: Tensor
    K: Tensor
    viewmat: Tensor
    targets: Targets
    fit: Fit | None = None

    def save(self, path: Path) -> None:
        """As one npz, which appears whole: readers poll the folder."""
        arrays: dict[str, Tensor] = {}
        for name in ("rgb", "mask", "offsets", "labels", "K", "viewmat"):
            arrays[name] = getattr(self, name)
        for name in ("rgba", "known", "K", "viewmat", "kind"):
            arrays[f"target_{name}"] = getattr(self.targets, name)
        for prefix, params in (("head", self.params), ("frames", self.targets.frames)):
            for field in fields(HeadParams):
                arrays[f"{prefix}_{field.name}"] = getattr(params, field.name)
        if self.fit is not None:
            arrays |= {"fit_texels": self.fit.texels, "fit_vertices": self.fit.vertices}
        scratch = path.with_suffix(".writing")
        codecs.save_arrays(scratch, **arrays)
        scratch.rename(path)

    @staticmethod
    def load(path: Path) -> AvatarSample:
        """What `save` wrote. Raises OmegaError for a file that is missing or something else."""
        arrays = {name: torch.from_numpy(array) for name, array in codecs.load_arrays(path).items()}

        def params(prefix: str) -> HeadParams:
            return HeadParams(**{f.name: arrays[f"{prefix}_{f.name}"] for f in fields(HeadParams)})

        targets = Targets(
            arrays["target_rgba"], arrays["target_known"], arrays["target_K"], arrays["target_viewmat"],
            params("frames"), arrays["target_kind"],
        )  # fmt: skip
        fit = Fit(arrays["fit_texels"], arrays["fit_vertices"]) if "fit_texels" in arrays else None
        return AvatarSample(
            arrays["rgb"], arrays["mask"], params("head"), arrays["offsets"], arrays["labels"], arrays["K"],
            arrays["viewmat"], targets, fit,
        )  # fmt: skip


def to_bytes(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().byte()


def packed(fitted: Changes, covered: Tensor) -> Fit:
    """What a fit changed, on the CPU; covered [R, R] bool: its texels. The opacities it leaves alone."""
    on_texels, at_vertices = (
        torch.cat([change.colors, change.shape()[:, 1:]], 1).half() for change in fitted
    )
    texels = on_texels.new_zeros(on_texels.shape[1], *covered.shape)
    texels[:, covered] = on_texels.T
    return Fit(texels.cpu(), at_vertices.cpu())


def unpacked(fit: Fit, covered: Tensor) -> Changes:
    """As `fit_pictures` gave it, but for the rounding to sixteen bits."""
    on_texels, at_vertices = fit.texels[:, covered].T.float(), fit.vertices.float()
    return Change.fitted(*on_texels.split(3, dim=1)), Change.fitted(*at_vertices.split(3, dim=1))
