"""Completing the fused UV colours: what no view saw comes from its neighbours or from the other side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SEEN_FROM, SEEN_TO = 0.002, 0.03  # ours: fused weights between which a texel passes from unseen to seen
SPLAT_VARIANCE = 1 / 6  # texels^2, of the bilinear kernel
GAP = 1  # ours, texels of a 256 map: a gap twice as wide is filled from its own rim


def seen_share(weight: Tensor) -> Tensor:
    """0 (never seen) to 1 (seen well), smooth, from the weight that splat-uv wrote."""
    t = ((weight - SEEN_FROM) / (SEEN_TO - SEEN_FROM)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def fill_unseen(image: Tensor, trust: Tensor) -> Tensor:  # [C, R, R], [1, R, R] in [0, 1] -> [C, R, R]
    """Push-pull: texels keep `trust` of their own colour and take the rest from coarser averages.

    Each coarser level averages the trusted texels of 2x2 blocks, down to a single texel, so every texel gets
    a colour as soon as one is trusted. Trusted texels (1) come back unchanged. Any square size works.
    """
    R = image.shape[-1]
    if R == 1:
        return torch.where(trust > 0, image, torch.zeros_like(image))
    pad = R % 2
    held, mask = F.pad(image * trust, (0, pad, 0, pad))[None], F.pad(trust, (0, pad, 0, pad))[None]
    total = F.avg_pool2d(mask, 2)
    coarse = F.avg_pool2d(held, 2)[0] / total[0].clamp_min(1e-12)
    filled = fill_unseen(coarse, (4 * total[0]).clamp(max=1))
    fine = F.interpolate(filled[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return image * trust + fine[:, :R, :R] * (1 - trust)


def sharpen(image: Tensor, covered: Tensor, sigma: float) -> Tensor:  # [C, R, R], [1, R, R] -> [C, R, R]
    """Undo, to first order, the blur of splatting a texel bilinearly and drawing it as a Gaussian of
    `sigma` texels.

    A blur of variance s^2 is 1 + s^2 / 2 times the Laplacian; the difference from a [1 2 1] average is a
    quarter of it with the sign turned, so 2 s^2 of that difference is added. Uncovered texels count for
    nothing.
    """
    detail = image - _neighbours(image, covered)
    return (image + 2 * (sigma**2 + SPLAT_VARIANCE) * detail * covered).clamp(0, 1)


def smoothed(values: Tensor, where: Tensor, times: int) -> Tensor:  # [R, R], [R, R] bool -> [R, R]
    """[1 2 1] averages among the texels of `where`, one after the other; the others stay."""
    for _ in range(times):
        values = torch.where(where, _neighbours(values[None], where[None].to(values))[0], values)
    return values


def _neighbours(image: Tensor, covered: Tensor) -> Tensor:  # [C, R, R], [1, R, R] -> [C, R, R]
    """The [1 2 1] average of covered texels."""
    kernel = image.new_tensor([0.25, 0.5, 0.25])
    both = torch.cat([image * covered, covered])[:, None]
    both = F.conv2d(both, kernel.view(1, 1, 1, 3), padding=(0, 1))
    both = F.conv2d(both, kernel.view(1, 1, 3, 1), padding=(1, 0))[:, 0]
    return both[:-1] / both[-1:].clamp_min(1e-6)


def mirrored_uvs(
    faces: Tensor,  # [F, 3]
    uvs: Tensor,  # [Vt, 2]
    uv_faces: Tensor,  # [F, 3]
    mirror_index: Tensor,  # [V]
    face_index: Tensor,  # [R, R], -1 empty
    barycentric: Tensor,  # [R, R, 3]
) -> Tensor:  # [R, R, 2]
    """Where in UV the texel's counterpart across the symmetry plane lies; NaN where it has none."""
    mirrored = mirror_index[faces]
    key, key_mirrored = (corners.sort(1).values for corners in (faces, mirrored))
    base = int(faces.max()) + 1
    number, wanted = ((k[:, 0] * base + k[:, 1]) * base + k[:, 2] for k in (key, key_mirrored))
    ordered, order = number.sort()
    place = torch.searchsorted(ordered, wanted).clamp(max=len(ordered) - 1)
    twin = torch.where(ordered[place] == wanted, order[place], -1)  # [F] the mirrored face
    # For each corner of a face: which corner of the twin is its mirror image.
    match = (mirrored[:, :, None] == faces[twin.clamp_min(0)][:, None, :]).to(torch.uint8)
    corner = match.argmax(2)
    corner_uv = uvs[uv_faces[twin.clamp_min(0)].gather(1, corner)]  # [F, 3, 2]
    corner_uv = torch.where((twin >= 0)[:, None, None], corner_uv, float("nan"))
    out = (corner_uv[face_index.clamp_min(0)] * barycentric[..., None]).sum(-2)
    return torch.where((face_index >= 0)[..., None], out, float("nan"))


def sample_uv(image: Tensor, uv: Tensor) -> Tensor:  # [C, R, R], [..., 2] -> [..., C]
    """Bilinear samples; zeros where uv is NaN."""
    valid = ~uv.isnan().any(-1)
    grid = (2 * torch.where(valid[..., None], uv, 0.5) - 1).reshape(1, 1, -1, 2)
    out = F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out[0, :, 0].T.reshape(*uv.shape[:-1], -1) * valid[..., None]


def close_gaps(rgb: Tensor, share: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Fill the gaps up to 2 radius texels wide between seen texels from their own rims: (rgb, share).

    Where the surface is foreshortened, seen texels are strewn; what lies between them was seen as well.
    """
    wide = F.pad(share[None], (radius,) * 4)  # beyond the map nothing was seen
    wide = F.max_pool2d(wide, 2 * radius + 1, 1, radius)
    closed = -F.max_pool2d(-wide, 2 * radius + 1, 1, radius)[0, :, radius:-radius, radius:-radius]
    closed = torch.maximum(closed, share)
    rim = fill_unseen(rgb, share)
    return torch.where(closed > share, rgb * share + rim * (1 - share), rgb), closed


def complete_skin(
    rgb: Tensor,  # [3, R, R]
    share: Tensor,  # [1, R, R] in [0, 1]
    skin: Tensor,  # [R, R] bool
    mirror_uv: Tensor | None,  # [R, R, 2]
    donor: Tensor | None = None,  # [R, R] in [0, 1]
    local: Tensor | None = None,  # [R, R] in [0, 1]
) -> Tensor:  # [3, R, R]
    """Skin and hair: seen texels as they are; then the mirrored side where that was seen; then what lies
    around.

    Only skin texels give colour, so nothing of an eye or a mouth runs into a lid or a lip, and among them
    only as far as `donor` says (a lash line is no model for the lid above it). Where `local` is 1, any skin
    gives (the rim below that lash line is as dark).
    """
    share = share * skin
    giving = share if donor is None else share * donor
    if mirror_uv is not None:
        # Beside a seen texel its own side is the better guess: the light differs across a face.
        radius = gap_radius(rgb.shape[-1])
        beside = F.max_pool2d(share[None], 2 * radius + 1, 1, radius)[0]
        other = sample_uv(torch.cat([rgb * giving, giving]), mirror_uv).permute(2, 0, 1)
        other_share = other[3:] * skin * (1 - beside)
        other_rgb = other[:3] / other[3:].clamp_min(1e-6)
        rgb = torch.where(other_share > 0, rgb * share + other_rgb * (1 - share), rgb)
        share, giving = (t + (1 - t) * other_share for t in (share, giving))
    around = fill_unseen(rgb, giving)
    if local is not None:
        around = around + (fill_unseen(rgb, share) - around) * local
    return rgb * share + around * (1 - share)


def gap_radius(size: int) -> int:
    return max(1, round(GAP * size / 256))
