"""The Gaussians fitted to the photo and the views by gradient: analysis by synthesis, after the analytic map.

The mesh is smooth and the views guess, so outlines and strands of the photo lie a few pixels beside those of
the avatar. What the network may change of a Gaussian (`residual`) is found here for this one person: colours
of skin and hair that are seen, but for lids and lips; place, scales and turn off the face alone, which must
stay free to move. Opacities stay: where views contradict each other they would make holes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from omega_cli.decode.analytic import Decoded
from omega_cli.decode.learned import Changes, applied
from omega_cli.decode.pictures import Picture
from omega_cli.decode.residual import Change, local_term
from omega_cli.gaussians.binding import carriers, follow
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.gaussians.surface_motion import SurfaceMotion
from omega_cli.head.hem import hem_share
from omega_cli.head.model import HeadModel
from omega_cli.head.regions import region_weights

# where colours may change: not where something else comes to light in another expression
COLOURED = {"skin": 1.0, "eye_region": 0.0, "lips": 0.0, "mouth_inside": 0.0}
FREE = {"scalp": 1.0, "boundary": 1.0, "neck": 1.0, "ears": 1.0}  # where shape may change
TEXEL, VERTEX = (3, 3, 3, 3), (3, 3, 3)  # numbers of one: colour, scales, turn and, of a texel, offset
RATE = 0.06  # of Adam  # ours, as all below
COLOUR = 0.2  # of it for colours, which are nearly right
WARMUP = 5  # steps
LEAST_RATE = 0.1  # of RATE, at the end
VIEW = 1.5  # weight of a view, of which each step has one; the photo has 1
LOCAL = 0.03  # pull on offsets and growth
ROUGH = 0.1  # pull on differences between neighbouring texels' shapes
WHOLE = 0.95  # what the hem must have left of a pixel that is known
MARGIN = 0.03  # m from the hem over which changes grow to their full size


@dataclass(frozen=True)
class Fitted:
    """What changed: texels' and vertices' residuals of three colours; psnr: of the known photo, before and
    after, dB."""

    changes: Changes
    psnr: tuple[float, float]


@dataclass(frozen=True)
class _Scene:
    """What does not change: the surface, how far the hem leaves each Gaussian, and how freely colours and
    shape of N texels and V vertices may change [N, 2], [V, 2]."""

    decoded: Decoded
    shaped: Tensor
    faces: Tensor
    corners: Tensor
    weights: Tensor
    hem: Tensor
    free: tuple[Tensor, Tensor]

    def gaussians(self, changes: Changes) -> tuple[Gaussians, Tensor]:
        """All of them on the canonical mesh, and their shifts [N + V, 3] m from what carries them."""
        uv, vertex = applied(self.decoded, *changes, self.shaped, self.faces)
        whole = Gaussians.concatenate([uv, vertex])
        shift = whole.means - torch.cat([self.decoded.uv.means, self.shaped])
        return replace(whole, opacities=whole.opacities * self.hem), shift

    def changes(self, texels: Tensor, vertices: Tensor) -> Changes:
        """From the numbers that are optimised."""
        made = []
        for numbers, widths, free in zip((texels, vertices), (TEXEL, VERTEX), self.free, strict=True):
            colours, *shape = numbers.split(widths, dim=1)
            scales, turn, *offset = (part * free[:, 1:] for part in shape)
            made.append(Change.fitted(COLOUR * colours * free[:, :1], scales, turn, *offset))
        return made[0], made[1]


@torch.enable_grad()
def fit_pictures(
    model: HeadModel,
    shaped: Tensor,  # [V, 3] m, canonical
    decoded: Decoded,
    photo: Picture,
    views: Sequence[Picture],
    steps: int,
    generator: torch.Generator,
    on_step: Callable[[], None] = lambda: None,
) -> Fitted:
    """`steps` of Adam on L1 to the photo and to one view a step, in random order, each over a random colour.

    Nothing learned is in it. One of the six views a step, as the paper's L_mv (3.4) has it.
    """
    device = shaped.device
    scene = _scene(model, shaped, decoded)
    motion = SurfaceMotion.between(shaped, model.faces)
    tables = torch.stack([motion.table(picture.vertices) for picture in (photo, *views)])
    photo, *views = (_without_hem(*of, scene) for of in zip((photo, *views), tables, strict=True))
    texels = torch.zeros(len(decoded.uv), sum(TEXEL), device=device).requires_grad_(True)
    vertices = torch.zeros(len(shaped), sum(VERTEX), device=device).requires_grad_(True)
    optimizer = torch.optim.Adam([texels, vertices], lr=RATE, betas=(0.9, 0.99))
    before = _psnr(scene, scene.changes(texels, vertices), photo, tables[0])
    where = decoded.covered.flatten().nonzero()[:, 0]
    order: list[int] = []
    for step in range(steps):
        rate = min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.param_groups[0]["lr"] = RATE * (LEAST_RATE + (1 - LEAST_RATE) * rate)
        order = order or torch.randperm(len(views), generator=generator).tolist()
        chosen = order.pop()
        background = torch.rand(3, generator=generator).to(device)
        changes = scene.changes(texels, vertices)
        whole, shift = scene.gaussians(changes)
        in_photo, in_view = follow(whole, tables[[0, 1 + chosen]], scene.corners, scene.weights, shift)
        loss = _difference(in_photo, photo, background)
        loss = loss + VIEW * _difference(in_view, views[chosen], background)
        loss = loss + LOCAL * local_term(changes) + ROUGH * _roughness(changes[0], decoded.covered, where)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step()
    with torch.no_grad():
        changes = scene.changes(texels.detach(), vertices.detach())
        return Fitted(changes, (before, _psnr(scene, changes, photo, tables[0])))


def _scene(model: HeadModel, shaped: Tensor, decoded: Decoded) -> _Scene:
    faces = model.faces
    corners, weights = carriers(faces, decoded.face_index, decoded.barycentric, len(shaped))
    hem = hem_share(torch.cat([decoded.uv.means, shaped]), shaped, model)
    free = region_weights(model, FREE, 0.0).to(shaped)
    margin = hem_share(shaped, shaped, model, MARGIN)
    coloured = region_weights(model, COLOURED, 0.0).to(shaped)
    free = torch.stack([margin * coloured, margin * free], 1)
    on_texels = (free[faces[decoded.face_index]] * decoded.barycentric[..., None]).sum(1)
    return _Scene(decoded, shaped, faces, corners, weights, hem, (on_texels, free))


@torch.no_grad()
def _without_hem(picture: Picture, table: Tensor, scene: _Scene) -> Picture:
    """Where the hem fades nothing is known: what is missing there is not to be made up for."""
    whole = Gaussians.concatenate([scene.decoded.uv, scene.decoded.vertex])
    whole = replace(whole, colors=scene.hem[:, None])
    (posed,) = follow(whole, table[None], scene.corners, scene.weights, None)
    seen = render(posed, picture.camera)
    faded = seen.image < WHOLE * seen.alpha
    return replace(picture, known=picture.known * ~faded)


def _difference(posed: Gaussians, picture: Picture, background: Tensor) -> Tensor:
    """Mean absolute error where the picture is known."""
    seen = render(posed, picture.camera, background=background)
    error = (seen.image - picture.over(background)).abs() * picture.known
    return error.sum() / (3 * picture.known.sum()).clamp_min(1)


def _roughness(change: Change, covered: Tensor, where: Tensor) -> Tensor:
    """Squared differences of shape of neighbouring texels; covered [R, R] bool, where [N]: they, flat."""
    shape = change.shape()
    full = shape.new_zeros(shape.shape[1], covered.numel()).index_copy(1, where, shape.T)
    full = full.unflatten(1, covered.shape)
    down = (full[:, 1:] - full[:, :-1]).square() * (covered[1:] & covered[:-1])
    right = (full[:, :, 1:] - full[:, :, :-1]).square() * (covered[:, 1:] & covered[:, :-1])
    return (down.sum() + right.sum()) / len(shape)


@torch.no_grad()
def _psnr(scene: _Scene, changes: Changes, picture: Picture, table: Tensor) -> float:
    whole, shift = scene.gaussians(changes)
    (posed,) = follow(whole, table[None], scene.corners, scene.weights, shift)
    seen = render(posed, picture.camera)
    error = ((seen.image - picture.colour).square() * picture.known).sum()
    return -10 * math.log10(max(1e-8, float(error / (3 * picture.known.sum()).clamp_min(1))))
