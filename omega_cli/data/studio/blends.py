"""People blended from packed VALID heads: faces mixed, hair, back and clothes of others, wigs cut and dyed.

A blend is described in the studio's terms: `draw_blend` gives a `scene.Sample` in the open head's frame.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.reading import need
from omega_cli.data.studio import blend_look as looks
from omega_cli.data.studio.blend_draw import draw_blend
from omega_cli.data.studio.blend_look import Recipe

__all__ = ["BlendPerson", "Blends", "Part", "draw_blend", "load", "plain_blend", "sample_blend"]


@dataclass(frozen=True)
class Part:
    """A mesh of its own topology: vertices [P, 3] m, faces [F, 3], uv [P, 2]; lower [P] bool: follows the
    jaw; texture [3, S, S] uint8 (None: the skin's)."""

    vertices: Tensor
    faces: Tensor
    uv: Tensor
    lower: Tensor
    texture: Tensor | None


@dataclass(frozen=True)
class Blends:
    """The packed heads (see `blend_pack`): vertices [N, B, 3] m, skins [N, 3, S, S] uint8, hair and dress
    [N, S, S] uint8 covers, skin_colour [N, 3]; masks in [0, 1]."""

    names: tuple[str, ...]
    vertices: Tensor
    faces: Tensor
    uv: Tensor
    head_count: int
    landmark_faces: Tensor
    landmark_weights: Tensor
    expression_names: tuple[str, ...]
    expression_ids: Tensor
    expressions: Tensor  # [N, E, Q, 3] int16, 0.1 mm
    turns: Tensor
    scalp_v: Tensor
    cloth_v: Tensor
    scalp: Tensor
    cloth: Tensor
    face_zone: Tensor
    labels: Tensor
    hair: Tensor
    dress: Tensor
    skin_colour: Tensor
    skins: Tensor
    wigs: dict[str, Part]
    teeth: dict[str, Part]
    _means: dict[tuple[int, ...], Tensor] = field(default_factory=dict, repr=False, init=False)

    @cached_property
    def wigged(self) -> list[int]:  # heads that are bald under their wig
        return [i for i, name in enumerate(self.names) if name in self.wigs]

    def mean_of(self, idx: list[int]) -> Tensor:
        """[B, 3] of these heads; kept, because every person asks."""
        if tuple(idx) not in self._means:
            self._means[tuple(idx)] = self.vertices[idx].mean(0)
        return self._means[tuple(idx)]


def load(path: Path) -> Blends:
    """Read what `blend_pack.pack` wrote."""
    need(path, "the pack of heads", "Write it with omega_cli.data.studio.blend_pack.pack.")
    with np.load(path, allow_pickle=False) as z:
        names = tuple(map(str, z["names"]))
        number = {k: torch.from_numpy(z[k]) for k in ("faces", "expression_ids", "labels", "landmark_faces")}
        share = {k: torch.from_numpy(z[k]).float() / 255 for k in ("scalp", "cloth", "face_zone")}
        exact = ("uv", "scalp_v", "cloth_v", "landmark_weights", "turns", "skin_colour")
        return Blends(
            names=names,
            vertices=torch.from_numpy(z["base_mean"]) + torch.from_numpy(z["base"]).float(),
            head_count=int(z["head_count"]),
            expression_names=tuple(map(str, z["expression_names"])),
            expressions=torch.from_numpy(z["expressions"]),
            hair=torch.from_numpy(z["hair"]),
            dress=torch.from_numpy(z["dress"]),
            skins=torch.stack([_picture(z[f"{name}/skin"]) for name in names]),
            wigs={n: _part(z, f"{n}/wig") for n in names if f"{n}/wig_v" in z.files},
            teeth={n: _part(z, f"{n}/teeth") for n in names if f"{n}/teeth_v" in z.files},
            **{k: v.long() for k, v in number.items()},
            **share,
            **{k: torch.from_numpy(z[k]).float() for k in exact},
        )


def _picture(data: np.ndarray) -> Tensor:  # JPEG bytes -> [3, S, S] uint8
    from PIL import Image

    with Image.open(io.BytesIO(data.tobytes())) as image:
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def _part(z: np.lib.npyio.NpzFile, stem: str) -> Part:
    vertices = torch.from_numpy(z[f"{stem}_v"]).float() / 65536
    lower = torch.from_numpy(z[f"{stem}_lower"]) if f"{stem}_lower" in z.files else None
    return Part(
        vertices,
        torch.from_numpy(z[f"{stem}_f"].astype(np.int64)),
        torch.from_numpy(z[f"{stem}_uv"].astype(np.float32)) / 65535,
        torch.zeros(len(vertices), dtype=torch.bool) if lower is None else lower,
        _picture(z[stem]) if stem in z.files else None,
    )


@dataclass(frozen=True)
class BlendPerson:
    """vertices [V, 3] m at rest: base mesh, then teeth and wig; faces [F, 3]; uv [V, 2]; wig_from: the first
    of the wig's faces. skin [3, S, S], wig [3, T, T]: linear albedo; labels [S, S] long; shapes [E, Q, 3] m
    of the vertices shape_ids [Q]; jaw [V] bool: moves with the chin; landmark_corners, landmark_weights
    [68, C]: iBUG's points as weighted sums of vertices; visible [V, D]: see `occlusion.visibility`;
    expression [E]: a drawn one; sources: the names of all heads that gave something."""

    seed: int
    vertices: Tensor
    faces: Tensor
    uv: Tensor
    wig_from: int
    skin: Tensor
    wig: Tensor | None
    labels: Tensor
    shapes: Tensor
    shape_ids: Tensor
    jaw: Tensor
    landmark_corners: Tensor
    landmark_weights: Tensor
    visible: Tensor
    expression: Tensor
    sources: frozenset[str]

    def posed(self, expression: Tensor | None) -> Tensor:  # [E] -> [V, 3] m
        """None: the drawn expression; zeros: at rest."""
        weights = self.expression if expression is None else expression.to(self.vertices)
        vertices = self.vertices.clone()
        active = torch.nonzero(weights)[:, 0]
        if len(active):
            moved = torch.einsum("e,eqc->qc", weights[active], self.shapes[active])
            vertices[self.shape_ids] += moved
            chin = self.landmarks(vertices)[8] - self.landmarks(self.vertices)[8]
            vertices[self.jaw] += chin
        return vertices

    def landmarks(self, vertices: Tensor) -> Tensor:  # [V, 3] -> [68, 3]
        return (vertices[self.landmark_corners] * self.landmark_weights[..., None]).sum(1)


def sample_blend(seed: int, blends: Blends, held_out: Collection[str] = ()) -> BlendPerson:
    """The person of that seed: always the same one, without anything of the heads `held_out`."""
    allowed = [i for i, name in enumerate(blends.names) if name not in set(held_out)]
    return _build(seed, blends, looks.draw_recipe(seed, blends, allowed))


def plain_blend(name: str, blends: Blends) -> BlendPerson:
    """One head as it is, at rest."""
    return _build(0, blends, looks.plain_recipe(blends.names.index(name), blends))


def _build(seed: int, blends: Blends, recipe: Recipe) -> BlendPerson:
    base = looks.shape(blends, recipe)
    first = recipe.faces[0]
    parts: list[Part] = []
    face_idx, face_w = torch.tensor(recipe.faces), torch.tensor(recipe.face_weights)
    corners = blends.faces[blends.landmark_faces[face_idx]]  # [k, 68, 3]
    weights = blends.landmark_weights[face_idx] * face_w[:, None, None]
    corners, weights = corners.transpose(0, 1).flatten(1), weights.transpose(0, 1).flatten(1)
    if blends.names[first] in blends.teeth:
        own = blends.vertices[first]
        mouth = ((base - own)[corners[48:]] * weights[48:, :, None]).sum(1).mean(0)
        teeth = blends.teeth[blends.names[first]]
        parts.append(Part(teeth.vertices + mouth, teeth.faces, teeth.uv, teeth.lower, None))
    if recipe.wig is not None:
        parts.append(looks.cut_wig(blends.wigs[blends.names[recipe.wig]], recipe))
    starts = np.cumsum([len(base), *(len(part.vertices) for part in parts)])
    faces = torch.cat([blends.faces, *(part.faces + int(s) for part, s in zip(parts, starts))])
    vertices = torch.cat([base, *(part.vertices for part in parts)]) * recipe.stretch
    jaw = torch.cat([torch.zeros(len(base), dtype=torch.bool), *(part.lower for part in parts)])
    skin, labels = looks.paint(blends, recipe)
    wig = parts[-1].texture if recipe.wig is not None else None
    shapes = looks.shapes(blends, recipe) * recipe.stretch
    return BlendPerson(
        seed=seed,
        vertices=vertices,
        faces=faces,
        uv=torch.cat([blends.uv, *(part.uv for part in parts)]),
        wig_from=len(faces) - (len(parts[-1].faces) if recipe.wig is not None else 0),
        skin=skin,
        wig=None if wig is None else looks.dye_wig(wig, recipe),
        labels=labels,
        shapes=shapes,
        shape_ids=blends.expression_ids,
        jaw=jaw,
        landmark_corners=corners,
        landmark_weights=weights,
        visible=looks.shade(vertices, faces),
        expression=recipe.expression,
        sources=frozenset(blends.names[i] for i in recipe.used),
    )
