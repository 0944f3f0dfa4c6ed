"""A person: identity, painted skin, hair, clothes, and the shade that they cast on themselves."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from omega_cli.data.studio import cloth, hair, hats, scarves, traits
from omega_cli.data.studio.atlas import Atlas, make_atlas
from omega_cli.data.studio.beards import beard_cover
from omega_cli.data.studio.coiffure import Ground, at_faces, dress_head, make_ground, row_angles
from omega_cli.data.studio.glasses import Glasses, sample_glasses
from omega_cli.data.studio.hats import Hat
from omega_cli.data.studio.look import Draw, Look, sample_look
from omega_cli.data.studio.noise import smoothstep, strand_noise
from omega_cli.data.studio.occlusion import visibility
from omega_cli.data.studio.shapes import SHARE, Shapes
from omega_cli.data.studio.shapes import load as load_shapes
from omega_cli.data.studio.skin import LABEL, Paint, paint
from omega_cli.data.studio.styles import Style, beard_style, style_of
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.head.model import HeadModel

HEAD, PLAIN, HAIR = range(3)  # kinds of faces: how they are shaded
LET_IN = 0.20  # of the light gets to the bottom of a cloud of coils: its hairline is not black
SPREAD, LIMIT = 1.0, 2.4  # of betas: wider tails draw a caricature in thirty


@dataclass(frozen=True)
class Sources:
    """What people are made of; `load_sources` reads it once."""

    model: HeadModel
    atlas: Atlas
    shapes: Shapes | None = None  # of `SHARE` of the people


def load_sources(texture_size: int = 512, shapes: Path | None = None) -> Sources:
    """The committed open head and its canvas, on the CPU; shapes: a pack of identities (`shapes.load`)."""
    from omega_cli.head.assets import load_head

    model = load_head()
    pack = load_shapes(shapes, model) if shapes is not None else None
    return Sources(model, make_atlas(model, texture_size), pack)


@dataclass(frozen=True)
class Extras:
    """Geometry beside the head: hair, beard, cloth. vertices, normals, tangents [V, 3] (canonical, m);
    colours [V, 3] sRGB; uv [V, 2] of the strand detail; hair, gloss, labels [V]; faces [F, 3] from 0; roots
    [V]: the head vertex that each one moves with."""

    vertices: Tensor
    normals: Tensor
    tangents: Tensor
    colours: Tensor
    uv: Tensor
    hair: Tensor
    labels: Tensor
    faces: Tensor
    roots: Tensor

    @functools.cached_property
    def table(self) -> Tensor:
        """[V, 14]: vertices, normals, tangents, colours, uv."""
        return torch.cat([self.vertices, self.normals, self.tangents, self.colours, self.uv], 1)


@dataclass(frozen=True)
class Person:
    """One generated person in the canonical pose.

    betas [S] and offsets [V, 3] (cloth standing off the skin; what a pack's shape has beyond its betas) make
    `canonical` [V, 3] m; normals [V, 3]; paint: the head's texture; extras: hair and clothes;
    detail [1, R, C]: strand texture; visible [V + E, D]: see `occlusion.visibility`.
    """

    seed: int
    model: HeadModel
    look: Look
    betas: Tensor
    offsets: Tensor
    canonical: Tensor
    paint: Paint
    extras: Extras
    detail: Tensor
    visible: Tensor
    curl: float = 0.0

    @functools.cached_property
    def faces(self) -> Tensor:
        """[F, 3]: the head's first, the extras' after."""
        return torch.cat([self.model.faces, self.extras.faces + len(self.canonical)])

    @functools.cached_property
    def kinds(self) -> Tensor:
        """[F] uint8: HEAD, PLAIN (cloth, glasses) or HAIR, of every face."""
        extra = torch.where(self.extras.hair[self.extras.faces[:, 0]] > 0.5, HAIR, PLAIN)
        return torch.cat([torch.full_like(self.model.faces[:, 0], HEAD), extra]).to(torch.uint8)

    @functools.cached_property
    def vertex_labels(self) -> Tensor:
        """[V + E] uint8: PARSING_LABELS of the extras; 0 on the head, whose labels are painted."""
        return torch.cat(
            [torch.zeros_like(self.extras.labels[:1]).expand(len(self.canonical)), self.extras.labels]
        ).to(torch.uint8)

    def to(self, device: torch.device | str) -> Person:
        """The same person there; people of one model share it there too."""
        moved = {f.name: _moved(getattr(self, f.name), torch.device(device)) for f in fields(self)}
        return Person(**moved)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, HeadModel):
        return _model_at(value, device)
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (Paint, Extras)):
        return type(value)(*(_moved(getattr(value, f.name), device) for f in fields(value)))
    return value


@functools.lru_cache(maxsize=4)
def _model_at(model: HeadModel, device: torch.device) -> HeadModel:
    return model if model.v_template.device == device else model.to(device)


def generator(seed: int, purpose: int) -> torch.Generator:
    """One stream of random numbers for each purpose of each person."""
    return torch.Generator().manual_seed((seed * 1_000_003 + purpose * 7_919 + 12_345) % (2**63 - 1))


def sample_person(seed: int, sources: Sources) -> Person:
    """The person of that seed: always the same one. Computed on the CPU."""
    model, atlas = sources.model, sources.atlas
    look = sample_look(generator(seed, 1))
    betas, bare_offsets = _identity(sources, seed, look)
    draw = Draw(generator(seed, 7))
    style = style_of(look, draw)
    partings = row_angles(style) if style is not None and style.make == "rows" else None
    bare = paint(atlas, look, generator(seed, 2), partings)
    painted = cloth.clothe(atlas, look, bare, generator(seed, 3))
    offsets = _dress(model, betas, bare_offsets, look)
    canonical = model.identity(betas, offsets)
    normals = vertex_normals(canonical, model.faces)
    torso = cloth.shoulders(canonical, model.faces, model.regions["boundary"], look, Draw(generator(seed, 4)))
    hat = _hat(model, canonical, torso, look, Draw(generator(seed, 10)))
    ground = make_ground(model, canonical, normals, torso, look.hat)
    strands = _grow_all(sources, seed, look, style, painted, ground, draw)
    curl = style.curl if style is not None else 0.0
    worn = _glasses(model, canonical, Draw(generator(seed, 9))) if look.glasses else None
    extras = _extras(strands, torso, worn, hat, look)
    every = torch.cat([canonical, extras.vertices])
    faces = torch.cat([model.faces, extras.faces + len(canonical)])
    rows = generator(seed, 6)
    return Person(
        seed,
        model,
        look,
        betas,
        offsets,
        canonical,
        painted,
        extras,
        strand_noise(256, 512, 24 if curl else 64, rows),
        _shade(model, every, faces, len(torso.vertices), style is not None and style.make == "coils"),
        curl,
    )


def _identity(sources: Sources, seed: int, look: Look) -> tuple[Tensor, Tensor | None]:
    """betas [S], and offsets [V, 3] or None, of the naked head."""
    if sources.shapes is not None and Draw(generator(seed, 12)).chance(SHARE):
        return sources.shapes.draw((look.male, _old(look), look.weight), generator(seed, 11))
    return _shape(sources.model, look, generator(seed, 0)), None


def _old(look: Look) -> float:
    return max(0.0, (look.age - 25) / 65)


def _shape(model: HeadModel, look: Look, generator: torch.Generator) -> Tensor:
    """[S] betas of a face that is as old, as male and as heavy as the look says."""
    betas = SPREAD * torch.randn(model.S, generator=generator)
    return traits.fitted(betas, model, (look.male, _old(look), look.weight)).clamp(-LIMIT, LIMIT)


def _shade(model: HeadModel, every: Tensor, faces: Tensor, torso: int, loose: bool) -> Tensor:
    """`Person.visible`, for extras that are the torso, then pairs: a ribbon's two edges (or two neighbours on
    a tube) share what is seen from between them. Head and torso are coarse: theirs is blurred, or edges
    of shade would show their triangles. loose: the hair is a cloud that lets light in."""
    head = len(model.v_template)
    strands = every[head + torso :].view(-1, 2, 3).mean(1)
    seen = visibility(every, faces, (0.0, 0.0, -0.01), torch.cat([every[: head + torso], strands]))
    rings = seen[head : head + torso].view(cloth.RINGS, cloth.ANGLES, -1)
    rings = torch.cat([rings[1:2], rings[1:]])  # the first ring hides under the rim
    for _ in range(4):
        rings = 0.5 * rings + 0.25 * (rings.roll(1, 1) + rings.roll(-1, 1))
        inner = torch.cat([rings[:1], rings, rings[-1:]])
        rings = 0.5 * rings + 0.25 * (inner[:-2] + inner[2:])
    bare = torch.from_numpy(_softening(model) @ seen[:head].numpy()).clamp_max_(1.0)  # sums of shares round
    own = seen[head + torso :]
    if loose:
        own = own + LET_IN * (1 - own)
        under = torch.from_numpy(_softening(model) @ model.regions["scalp"].float().numpy())
        bare = bare + (LET_IN * under)[:, None] * (1 - bare)
    return torch.cat([bare, rings.flatten(0, 1), own.repeat_interleave(2, 0)])


@functools.lru_cache(maxsize=4)
def _softening(model: HeadModel, rounds: int = 2) -> sp.csr_matrix:
    """[V, V]: vertex values averaged with their triangles' means, `rounds` times."""
    corners, V = model.faces.numpy(), len(model.v_template)
    rows = np.repeat(np.arange(len(corners)), 3)
    member = sp.csr_matrix((np.ones(len(rows), np.float32), (corners.ravel(), rows)), (V, len(corners)))
    degree = np.bincount(corners.ravel(), minlength=V).clip(1).astype(np.float32)
    once = sp.diags(1 / degree) @ member @ member.T / 3
    return sp.csr_matrix(once**rounds, dtype=np.float32)


def _dress(model: HeadModel, betas: Tensor, bare: Tensor | None, look: Look) -> Tensor:
    """[V, 3] m: skin under the cloth moves out by the cloth's thickness."""
    body = model.regions["neck"] | model.regions["boundary"]
    under = (cloth.neckline(model.v_template, look.collar) / 0.004).clamp(0, 1) * body
    normals = vertex_normals(model.identity(betas, bare), model.faces)
    standing = cloth.THICKNESS * under[:, None] * normals
    return standing if bare is None else bare + standing


def _grow_all(
    sources: Sources,
    seed: int,
    look: Look,
    style: Style | None,
    painted: Paint,
    ground: Ground,
    draw: Draw,
) -> list[tuple[hair.Ribbons, bool]]:
    """Ribbons of hair and beard (True: a beard)."""
    model, rng = sources.model, generator(seed, 8)
    out: list[tuple[hair.Ribbons, bool]] = []
    if style is not None and look.hat != "headscarf":
        cover = at_faces(model, painted.hair)
        out += [(ribbons, False) for ribbons in dress_head(ground, style, cover, draw, rng)]
    beard = beard_style(look.beard, draw)
    if beard is not None:
        where = at_faces(model, beard_cover(sources.atlas, look.beard, generator(seed, 2)))
        roots = ground.roots(where.clamp_min(0) ** 1.5, beard.strands, rng)
        out.append((hair.ribbons(hair.grow(roots, beard, ground.anchors, rng), rng), True))
    return out


def _glasses(model: HeadModel, canonical: Tensor, draw: Draw) -> Glasses:
    ears = []
    for side in ("left_ear", "right_ear"):
        ear = canonical[model.regions[side]]
        ears.append(ear[(ear[:, 1] - 0.4 * ear[:, 2].clamp_min(0)).argmax()])
    return sample_glasses(model.landmark_points(canonical, "ibug68"), canonical, (ears[0], ears[1]), draw)


def _hat(model: HeadModel, canonical: Tensor, torso: cloth.Torso, look: Look, draw: Draw) -> Hat | None:
    if not look.hat:
        return None
    if look.hat == "headscarf":
        points = model.landmark_points(canonical, "ibug68")
        return scarves.sample_headscarf(canonical, model.regions["skin"], points, torso, draw)
    make = scarves.sample_scarf if look.hat in scarves.SCARVES else hats.sample_hat
    return make(canonical, model.regions["skin"] & ~model.regions["ears"], look.hat, draw)


def _extras(
    grown: list[tuple[hair.Ribbons, bool]],
    torso: cloth.Torso,
    worn: Glasses | None,
    hat: Hat | None,
    look: Look,
) -> Extras:
    count = len(torso.vertices)
    zero = torch.zeros(count)
    up = torch.tensor([0.0, 1.0, 0.0]).expand(count, 3)
    parts = [
        (
            torso.vertices,
            torso.normals,
            up,
            torso.colours,
            torch.zeros(count, 2),
            zero,
            zero.long() + LABEL["cloth"],
            torso.roots,
        )
    ]
    faces, start = [torso.faces], count
    greys = torch.tensor([0.72, 0.71, 0.70])
    for ribbons, beard in grown:
        tint = ribbons.tint[:, None]
        t = ribbons.along[:, None] ** 2
        colour = look.hair + t * (look.tips - look.hair)
        mixed = 4 * look.grey * (1 - look.grey)  # half grey is pepper and salt; all grey is one colour again
        pepper = smoothstep((tint * 12.9).sin() * 0.5 + 0.5, 0.5 * mixed, 0.5 * mixed - 0.3)
        colour = colour + 0.35 * mixed * pepper * (greys - colour)
        colour = colour * (1 + (0.16 - 0.11 * look.grey) * tint)
        colour = colour * (0.80 + 0.20 * ribbons.along[:, None].clamp(0, 0.3) / 0.3)
        if beard:
            colour = colour * torch.tensor([1.06, 0.97, 0.93])
        number = torch.full((len(colour),), LABEL["skin" if beard else "hair"])
        parts.append(
            (
                ribbons.vertices,
                ribbons.normals,
                ribbons.tangents,
                colour.clamp(0, 1),
                ribbons.uv,
                torch.ones(len(colour)),
                number,
                ribbons.roots,
            )
        )
        faces.append(ribbons.faces + start)
        start += len(colour)
    solid: list[tuple[Glasses | Hat, Tensor, Tensor, str]] = []
    if worn is not None:
        every = torch.ones(len(worn.vertices), dtype=torch.long)
        solid.append((worn, worn.colour.expand(len(every), 3), worn.root * every, "glasses"))
    if hat is not None:
        solid.append((hat, hat.colours, hat.roots, "hat"))
    for thing, colours, carried, name in solid:
        count = len(thing.vertices)
        parts.append(
            (
                thing.vertices,
                thing.normals,
                thing.normals,
                colours,
                torch.zeros(count, 2),
                torch.zeros(count),
                torch.full((count,), LABEL[name]),
                carried,
            )
        )
        faces.append(thing.faces + start)
        start += count
    v, n, t, c, uv, is_hair, labels, roots = (torch.cat(column) for column in zip(*parts, strict=True))
    return Extras(v, n, t, c, uv, is_hair, labels, torch.cat(faces), roots)
