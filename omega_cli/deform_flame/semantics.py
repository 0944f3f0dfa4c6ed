"""Which vertex answers to which term: the semantic mask of paper 3.2, as weights per vertex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from omega_cli.head.model import HeadModel
from omega_cli.head.regions import region_weights

# Relative weights w_i of Eq. 3: high on the hair-bearing scalp and at the boundary, minimal on the face.
# ours; the paper gives no numbers.
LAPLACIAN = {"scalp": 0.4, "boundary": 1.0, "neck": 0.2, "ears": 0.02, "face": 0.01}
FACE_WEIGHT = LAPLACIAN["face"]
# The normal term is for non-facial regions only; an ear is nearly rigid, so its maps count for less.
NORMAL = {"scalp": 1.0, "boundary": 1.0, "neck": 1.0, "ears": 0.25}
FREE = ("scalp", "boundary", "neck")
NEEDED_REGIONS = tuple(LAPLACIAN)
# Pull back to the undeformed place, next to keeping the shape. The rim of the neck slides without it:
# no map says where within the surface a vertex belongs.
STAY = 0.002
# How far from its place an outline may pull a vertex, metres (ours). Nape and back of the neck reach as
# far as the scalp, because long hair hangs there; the throat is skin and hardly leaves the fit.
THROAT_REACH = 0.02
# Rings of vertices above the open rim of the neck that no outline pulls: the mask ends there as well,
# but horizontally, which says nothing about the surface.
RIM_RINGS = 2


@dataclass(frozen=True)
class Semantics:
    """Per-vertex weights and roles of one head. V vertices.

    free [V] bool: scalp, boundary, neck: normals, outlines and the Laplacian move them.
    held [V] bool: face and ears and what is sewn to them: landmarks move them, the parametric shape
        holds them, and the pull of the free regions does not reach them.
    Neither free nor held: separate pieces (eyeballs, teeth, ...), carried by `anchors`.
    laplacian [V] w_i of Eq. 3; place [V]: pull to the undeformed place; normal [V], outline [V]:
        weights in [0, 1]; reach [V] m: how far an outline may pull, `farthest` its largest value.
    mapped [F + 1] bool: faces that the normal maps speak of; False at the end, for "no face".
    outlined [F] bool: faces that the outlines speak of.
    pieces [V] long: number of the separate piece, -1 for the skin; anchors: for each piece the held
        vertices [A] whose mean offset it takes.
    """

    free: Tensor
    held: Tensor
    laplacian: Tensor
    place: Tensor
    normal: Tensor
    outline: Tensor
    reach: Tensor
    farthest: float
    mapped: Tensor
    outlined: Tensor
    pieces: Tensor
    anchors: tuple[Tensor, ...]

    def follow(self, offsets: Tensor) -> Tensor:
        """Offsets [V, 3] in which each separate piece has moved rigidly with the skin next to it."""
        if not self.anchors:
            return offsets
        carried = torch.stack([offsets[anchor].mean(0) for anchor in self.anchors])
        return torch.where((self.pieces >= 0)[:, None], carried[self.pieces.clamp_min(0)], offsets)


def read_semantics(model: HeadModel, canonical: Tensor, semantic: bool, max_offset: float) -> Semantics:
    """Roles and weights on the canonical head [V, 3] m.

    semantic False is Table 3's ablation: one w for every vertex. It is the face's w, because any larger
    uniform weight smooths the face away (the paper's argument for the semantic one).
    """
    V = model.v_template.shape[0]
    device = model.v_template.device
    free = torch.zeros(V, dtype=torch.bool, device=device)
    for name in FREE:
        free |= model.regions[name]
    neighbours = _adjacency(model.faces, V)
    count, label = connected_components(neighbours, directed=False)
    skin_piece = np.bincount(label, weights=free.cpu().numpy(), minlength=count) > 0
    sewn = torch.from_numpy(skin_piece[label]).to(device)
    pieces = torch.full((V,), -1, dtype=torch.long, device=device)
    anchors = []
    held = sewn & ~free
    held_idx = torch.nonzero(held).squeeze(1)
    for piece in np.flatnonzero(~skin_piece):
        members = torch.from_numpy(label == piece).to(device)
        pieces[members] = len(anchors)
        anchors.append(_nearest(canonical, members, held_idx))
    weights = region_weights(model, LAPLACIAN, FACE_WEIGHT).to(canonical)
    if not semantic:
        weights = torch.full_like(weights, FACE_WEIGHT)
    normal = region_weights(model, NORMAL, 0.0).to(canonical) * sewn
    reach = torch.where(model.regions["neck"], _neck_reach(model, canonical, max_offset), max_offset)
    outline = free.to(canonical)
    outline[_near_rim(model.faces, neighbours, V).to(device)] = 0.0
    return Semantics(
        free=free,
        held=held,
        laplacian=weights * sewn,
        place=STAY * (held | model.regions["boundary"]).to(canonical),
        normal=normal,
        outline=outline,
        reach=reach,
        farthest=float(reach.max()),
        mapped=torch.cat([(normal[model.faces] > 0).any(1), sewn.new_zeros(1)]),
        outlined=(outline[model.faces] > 0).any(1),
        pieces=pieces,
        anchors=tuple(anchors),
    )


def open_rim(faces: Tensor) -> Tensor:
    """Numbers of the vertices on an edge that only one face has."""
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
    base = int(faces.max()) + 1
    # one number a pair: unique rows take ten times as long
    keys, uses = torch.unique(pairs[:, 0] * base + pairs[:, 1], return_counts=True)
    single = keys[uses == 1]
    return torch.unique(torch.cat([single // base, single % base]))


def _adjacency(faces: Tensor, V: int) -> sp.csr_matrix:
    a, b, c = faces.cpu().numpy().T
    i, j = np.r_[a, b, c, b, c, a], np.r_[b, c, a, a, b, c]
    return sp.csr_matrix((np.ones(len(i), np.int32), (i, j)), (V, V))


def _nearest(canonical: Tensor, members: Tensor, held_idx: Tensor, count: int = 24) -> Tensor:
    """The held vertices nearest to a piece's centre, which carry it."""
    distance = (canonical[held_idx] - canonical[members].mean(0)).norm(dim=1)
    return held_idx[distance.topk(min(count, len(held_idx)), largest=False).indices]


def _neck_reach(model: HeadModel, canonical: Tensor, max_offset: float) -> Tensor:
    """THROAT_REACH at the throat, max_offset at the nape, smoothly between them. [V] m."""
    z = canonical[:, 2]
    neck = z[model.regions["neck"]]
    if len(neck) == 0:
        return torch.full_like(z, max_offset)
    t = ((z - neck.min()) / (neck.max() - neck.min()).clamp_min(1e-6) - 0.3).div(0.4).clamp(0, 1)
    smooth = t * t * (3 - 2 * t)
    low = min(THROAT_REACH, max_offset)
    return max_offset + (low - max_offset) * smooth


def _near_rim(faces: Tensor, neighbours: sp.csr_matrix, V: int) -> Tensor:
    """Vertices [V] bool within RIM_RINGS edges of an open rim."""
    near = np.zeros(V, bool)
    near[open_rim(faces).cpu().numpy()] = True
    for _ in range(RIM_RINGS):
        near |= (neighbours @ near.astype(np.int32)) > 0
    return torch.from_numpy(near)
