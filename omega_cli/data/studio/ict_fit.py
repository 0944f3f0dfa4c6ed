"""The open head laid onto another head's surface, and fields carried back from there.

`register` bends the open head's skin onto a surface of any topology: a similarity from landmarks, then betas,
then smooth offsets whose stiffness is loosened step by step (non-rigid ICP). `Carrier` is the linear map that
this gives: a field on the surface's vertices -> the same field on all of the open head's vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from scipy.spatial import KDTree
from torch import Tensor
from trimesh.triangles import closest_point, points_to_barycentric

from omega_cli.geometry.mesh import uniform_laplacian, vertex_normals
from omega_cli.geometry.sparse import factorise
from omega_cli.head.model import HeadModel

CANDIDATES = 16  # faces looked at for each point: those with the nearest centres
BETA_ROUNDS, BETA_SPREAD = 14, 0.0001  # m of misfit everywhere that one beta's standard deviation weighs
LANDMARK_SHARE = 0.1  # of the pull, while the betas are fitted
STIFFNESS = tuple(np.geomspace(30.0, 0.03, 16))  # of the Laplacian of the offsets, against a weight of 1
FACING = 0.5  # cosine between normals from which two surfaces count as the same one
FAR = 0.012  # m: at most so far apart are they
INNER = slice(17, 68)  # landmarks whose meaning is sure: all but the jaw line
LANDMARK_WEIGHT = 3.0
TRUST = 0.002  # m: a vertex so near the surface takes its field over; the others' is filled in
FIRM_EARS = 6.0  # ears' folds differ: they are laid on less closely
MOUTH_REACH = 0.03  # m: how far from the lips the skin is that teeth and tongue go with
LASH_REACH, CAVITY_REACH = 0.003, 0.008  # m: from how far lashes, and the cavity's wall, go with the skin
SURE = 0.8  # from here on a mode that is nearly (anti)symmetric is made exactly so


@dataclass(frozen=True)
class Surface:
    """A triangle mesh: vertices [N, 3] m in the open head's frame, faces [G, 3]; landmarks [68] vertex idx;
    left_eye, right_eye: idx of the vertices of the eyeballs."""

    vertices: Tensor
    faces: Tensor
    landmarks: Tensor
    left_eye: Tensor
    right_eye: Tensor

    @cached_property
    def normals(self) -> Tensor:
        """[N, 3]."""
        return vertex_normals(self.vertices, self.faces)

    @cached_property
    def open_edge(self) -> Tensor:
        """[N] bool: vertices where the surface ends."""
        f = self.faces
        pairs = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(1).values
        found, count = torch.unique(pairs, dim=0, return_counts=True)
        at = torch.zeros(len(self.vertices), dtype=torch.bool)
        at[found[count == 1].flatten()] = True
        return at

    @cached_property
    def _triangles(self) -> tuple[np.ndarray, KDTree]:
        triangles = self.vertices[self.faces].double().numpy()
        return triangles, KDTree(triangles.mean(1))

    def nearest(self, points: Tensor) -> Places:
        """Where the surface is nearest to points [P, 3] m."""
        triangles, tree = self._triangles
        asked = points.double().numpy()
        k = min(CANDIDATES, len(triangles))
        near = tree.query(asked, k)[1].reshape(len(asked), k)
        at = closest_point(triangles[near.ravel()], asked.repeat(k, 0)).reshape(len(asked), k, 3)
        best = np.linalg.norm(at - asked[:, None], axis=2).argmin(1)
        rows = np.arange(len(asked))
        face = near[rows, best]
        weights = points_to_barycentric(triangles[face], at[rows, best], method="cramer").clip(0)
        weights /= weights.sum(1, keepdims=True)
        return Places(torch.from_numpy(face), torch.from_numpy(weights).float())


@dataclass(frozen=True)
class Places:
    """P points on a surface: face_index [P], barycentric [P, 3]."""

    face_index: Tensor
    barycentric: Tensor

    def of(self, surface: Surface, field: Tensor) -> Tensor:  # [N, C] -> [P, C]
        """A field on the surface's vertices, at the points."""
        return (field[surface.faces[self.face_index]] * self.barycentric[..., None]).sum(1)

    def inner(self, surface: Surface) -> Tensor:  # [P] bool
        """False for points on the edge where the surface ends: there lies only what has no counterpart."""
        corners = surface.open_edge[surface.faces[self.face_index]] & (self.barycentric > 1e-4)
        whole = (self.barycentric > 1e-4).sum(1)
        return (corners.sum(1) < whole) | (whole == 3)


def register(model: HeadModel, surface: Surface) -> Tensor:
    """[V, 3] m: the open head's vertices with its skin on the surface, exactly symmetric; loose parts and
    hidden skin are left to `Carrier`."""
    marks = surface.vertices[surface.landmarks]
    return _offsets(model, surface, marks, _shaped(model, surface, marks))


def _matched(
    model: HeadModel, surface: Surface, vertices: Tensor, far: float
) -> tuple[Tensor, Tensor, Tensor]:
    """For each vertex the nearest point [V, 3], its normal [V, 3], and whether it is the same surface [V]."""
    places = surface.nearest(vertices)
    points = places.of(surface, surface.vertices)
    normals = torch.nn.functional.normalize(places.of(surface, surface.normals), dim=1)
    facing = (normals * vertex_normals(vertices, model.faces)).sum(1) > FACING
    near = (points - vertices).norm(dim=1) < far
    return points, normals, facing & near & places.inner(surface) & outer_skin(model)


def outer_skin(model: HeadModel) -> Tensor:
    """[V] bool: skin but for the mouth's inside."""
    return model.regions["skin"] & ~model.regions["mouth_inside"]


def _shaped(model: HeadModel, surface: Surface, marks: Tensor) -> Tensor:
    """[V, 3]: the identity, moved, tilted and scaled, whose skin lies nearest the surface; each vertex is
    pulled along the surface's normal alone."""
    inner = model.landmarks["ibug68"]
    corners, weights = model.faces[inner.face_index[INNER]], inner.barycentric[INNER]
    basis = _symmetric_basis(model)
    at_marks = (basis[corners] * weights[..., None, None]).sum(1)  # [51, 3, B]
    held = torch.ones(basis.shape[2], dtype=torch.float64)
    held[-4:] = 0
    x, vertices = torch.zeros_like(held), model.v_template
    for turn in range(BETA_ROUNDS):
        points, normals, same = _matched(model, surface, vertices, FAR * (3 if turn < 4 else 1))
        rows = torch.einsum("vc,vcs->vs", normals[same], basis[same]).double()
        gap = ((points - vertices) * normals)[same].sum(1).double()
        off = (marks - model.landmark_points(vertices, "ibug68"))[INNER]
        count = float(same.sum())
        share = LANDMARK_SHARE * count / len(weights)
        A = rows.T @ rows + share * torch.einsum("lcs,lct->st", at_marks, at_marks).double()
        b = rows.T @ gap + share * torch.einsum("lcs,lc->s", at_marks, off).double()
        prior = torch.diag(BETA_SPREAD**2 * count * held)
        x = x + torch.linalg.solve(A + prior, b - prior @ x)
        vertices = model.v_template + basis @ x.float()
    return vertices


def _symmetric_basis(model: HeadModel) -> Tensor:
    """[V, 3, B]: the identity's components, no antisymmetric ones; then up, forwards, tilt and size."""
    rest, dirs = model.v_template, model.shapedirs
    if model.mirror_index is not None:
        dirs = dirs[..., mirror_signs(model, dirs.permute(2, 0, 1)) > 0]
    up, forwards = rest.new_tensor([0.0, 1.0, 0.0]), rest.new_tensor([0.0, 0.0, 1.0])
    tilt = torch.stack([torch.zeros_like(rest[:, 0]), -rest[:, 2], rest[:, 1]], 1)
    return torch.cat([dirs, torch.stack([up.expand_as(rest), forwards.expand_as(rest), tilt, rest], 2)], 2)


def mirrored(model: HeadModel, field: Tensor) -> Tensor:
    """A field [..., V, 3] seen in the mirror."""
    assert model.mirror_index is not None
    return field[..., model.mirror_index, :] * field.new_tensor([-1.0, 1.0, 1.0])


def mirror_signs(model: HeadModel, modes: Tensor) -> Tensor:
    """[K] of modes [K, V, 3]: 1 symmetric, -1 antisymmetric, between: neither."""
    product = (modes * mirrored(model, modes)).flatten(1).sum(1)
    return product / modes.square().flatten(1).sum(1).clamp_min(1e-20)


def _offsets(model: HeadModel, surface: Surface, marks: Tensor, shaped: Tensor) -> Tensor:
    """[V, 3]: `shaped`, bent smoothly onto the surface."""
    V = len(shaped)
    L = _laplacian(model)
    firm = np.where(model.regions["ears"].numpy(), FIRM_EARS, 1.0)
    bending = (L.T @ sp.diags(firm) @ L).tocsr()
    inner = model.landmarks["ibug68"]
    rows = np.arange(len(inner)).repeat(3).reshape(-1, 3)
    taken = slice(36, 68)  # eyes and mouth: closest points could choose the wrong lid or lip
    B = sp.csr_matrix(
        (inner.barycentric[taken].flatten().double().numpy(),
         (rows[: len(rows[taken])].ravel(), model.faces[inner.face_index[taken]].flatten().numpy())),
        (len(rows[taken]), V),
    )  # fmt: skip
    fixed = LANDMARK_WEIGHT * (B.T @ B)
    vertices = shaped
    for stiffness in STIFFNESS:
        points, normals, same = _matched(model, surface, vertices, FAR)
        # only along the normal: a vertex may slide
        goal = vertices + ((points - vertices) * normals).sum(1, keepdim=True) * normals
        W = sp.diags(same.double().numpy() + 1e-4)
        right = W @ (goal - shaped).double().numpy()
        off = (marks[taken] - model.landmark_points(shaped, "ibug68")[taken]).double().numpy()
        found = factorise(W + stiffness * bending + fixed).solve(right + LANDMARK_WEIGHT * (B.T @ off))
        offsets = torch.from_numpy(found).float()
        if model.mirror_index is not None:
            offsets = (offsets + mirrored(model, offsets)) / 2
        vertices = shaped + offsets
    return vertices


def _laplacian(model: HeadModel) -> sp.csr_matrix:
    L = uniform_laplacian(model.faces, len(model.v_template)).coalesce()
    (i, j), values = L.indices().numpy(), L.values().double().numpy()
    return sp.csr_matrix((values, (i, j)), L.shape)


class Carrier:
    """Fields of the surface on the open head, linear in the field. vertices [V, 3]: the registered head,
    loose parts and hidden skin filled in; trusted [V] bool: skin that takes the field over where it lies."""

    def __init__(self, model: HeadModel, surface: Surface, registered: Tensor) -> None:
        self.model, self.surface = model, surface
        points, _, same = _matched(model, surface, registered, TRUST)
        self.trusted = same
        if model.mirror_index is not None:
            self.trusted = same & same[model.mirror_index]
        self.gap = (points - registered).norm(dim=1)
        self._places = surface.nearest(registered[self.trusted])
        rest = model.v_template
        moved = self._spread(registered - rest, rest)
        for name, ball in self._balls():
            centre, radius = _sphere(surface.vertices[ball])
            mine = model.regions[name]
            at, own = _sphere(rest[mine])
            moved[mine] = centre + (rest[mine] - at) * (radius / own) - rest[mine]
        self.vertices = rest + moved
        if model.mirror_index is not None:
            self.vertices = (self.vertices + mirrored(model, self.vertices)) / 2

    def __call__(self, field: Tensor) -> Tensor:  # [K, N, 3] m -> [K, V, 3] m
        """Displacements of the surface's vertices, as displacements of the open head's."""
        K, V = len(field), len(self.vertices)
        flat = field.permute(1, 0, 2).flatten(1)
        skin = flat.new_zeros(V, 3 * K)
        skin[self.trusted] = self._places.of(self.surface, flat)
        out = self._spread(skin, self.vertices)
        for name, ball in self._balls():
            mine = self.model.regions[name]
            out[mine] = _growing(self.surface.vertices[ball], field[:, ball], self.vertices[mine])
        modes = out.view(V, K, 3).permute(1, 0, 2)
        if self.model.mirror_index is None:
            return modes
        signs = mirror_signs(self.model, modes)
        pure = torch.where(signs.abs() > SURE, signs.sign(), torch.zeros_like(signs))[:, None, None]
        return torch.where(pure != 0, (modes + pure * mirrored(self.model, modes)) / 2, modes)

    def _balls(self) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
        return ("left_eye", self.surface.left_eye), ("right_eye", self.surface.right_eye)

    def _spread(self, skin: Tensor, at: Tensor) -> Tensor:
        """[V, C]: a field known on the trusted skin, on everything but the eyeballs; at [V, 3]: where the
        vertices are that carry it."""
        regions = self.model.regions
        out = skin.clone()
        hidden = (outer_skin(self.model) & ~self.trusted) | regions["mouth_inside"]
        out[hidden] = self._filled(out, hidden)
        lips = at[regions["lips"] & outer_skin(self.model)]
        from_lips = torch.from_numpy(KDTree(lips.numpy()).query(at.numpy())[0]).float()
        weight = torch.exp(-0.5 * (from_lips / MOUTH_REACH) ** 2) * self.trusted
        body = weight > 0.01
        flow = _affine(at[body], out[body], weight[body])
        # near the lips the cavity's wall goes with them, or it would show through; its depth, with the teeth
        deep = torch.exp(-((from_lips / CAVITY_REACH) ** 2)) * regions["mouth_inside"]
        mouth = regions["mouth_inside"] | regions["teeth"] | regions["tongue"]
        out[mouth] = torch.lerp(flow(at[mouth]), out[mouth], deep[mouth, None])
        # and where it lies thin under the cheek or beside the nose, with these
        inside, skin_idx, share = self._cavity
        local = torch.einsum("lk,lkc->lc", share, out[skin_idx])
        thin = torch.exp(-(((at[inside] - at[skin_idx[:, 0]]).norm(dim=1) / CAVITY_REACH) ** 2))
        out[inside] = torch.lerp(out[inside], local, (thin * (1 - deep[inside]))[:, None])
        lashes, skin_idx, share = self.lash_roots
        out[lashes] = torch.einsum("lk,lkc->lc", share, out[skin_idx])
        return out

    def _filled(self, field: Tensor, hidden: Tensor) -> Tensor:
        """[U, C]: harmonic, held by the trusted skin. (A plate would swing beyond what holds it, and at
        folds, where hidden skin lies close behind the open one, show through it.)"""
        if not hidden.any():
            return field[hidden]
        L = _laplacian(self.model)
        u, k = (torch.nonzero(m).squeeze(1).numpy() for m in (hidden, self.trusted))
        degree = sp.diags(np.diff(L.indptr) - 1.0)  # makes it symmetric
        H = sp.csr_matrix(degree @ L)[u]
        system = sp.csc_matrix(H[:, u] + 1e-9 * sp.eye(len(u)))
        known = H[:, k] @ field[self.trusted].double().numpy()
        return torch.from_numpy(factorise(system).solve(-known)).float()

    @cached_property
    def _cavity(self) -> tuple[Tensor, Tensor, Tensor]:
        """The mouth's inside [L], and the skin [L, 24] nearest to it in shares [L, 24]."""
        rest = self.model.v_template.numpy()
        inside = torch.nonzero(self.model.regions["mouth_inside"]).squeeze(1)
        skin = torch.nonzero(outer_skin(self.model)).squeeze(1)
        distance, near = KDTree(rest[skin]).query(rest[inside], 24)
        return inside, skin[torch.from_numpy(near)], _shares(np.square(distance), CAVITY_REACH)

    @cached_property
    def lash_roots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lashes [L] go with skin [L, 24] in shares [L, 24]: the that near to them and to the root of
        their strip, so that none goes with the other lid."""
        rest = self.model.v_template.numpy()
        lashes = torch.nonzero(self.model.regions["lashes"]).squeeze(1)
        skin = torch.nonzero(outer_skin(self.model)).squeeze(1)
        tree = KDTree(rest[skin])
        distance, _ = tree.query(rest[lashes])
        root = np.flatnonzero(distance < np.quantile(distance, 0.3))
        own = rest[lashes[root]][KDTree(rest[lashes[root]]).query(rest[lashes])[1]]
        _, near = tree.query((own + rest[lashes]) / 2, 24)
        beside = rest[skin][near]
        apart = np.square(beside - own[:, None]).sum(2) + np.square(beside - rest[lashes][:, None]).sum(2)
        return lashes, skin[torch.from_numpy(near)], _shares(apart, LASH_REACH)


def _shares(squared: np.ndarray, reach: float) -> Tensor:  # [L, k] m^2 -> [L, k], rows sum to 1
    share = np.exp(-0.5 * (squared - squared.min(1, keepdims=True)) / reach**2)
    return torch.from_numpy(share / share.sum(1, keepdims=True)).float()


def _sphere(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centre [3] and radius [] of the sphere nearest to points [P, 3]."""
    p = points.double()
    A = torch.cat([2 * p, torch.ones_like(p[:, :1])], 1)
    x = torch.linalg.lstsq(A, p.square().sum(1)).solution
    return x[:3].float(), (x[3] + x[:3].square().sum()).sqrt().float()


def _growing(points: Tensor, field: Tensor, at: Tensor) -> Tensor:
    """[Q, 3 K]: the shift and the growth nearest to fields [K, P, 3] at points [P, 3], at points [Q, 3]:
    balls stay round, so that they can turn."""
    centre = points.mean(0)
    d = points - centre
    growth = (field * d).sum((1, 2)) / d.square().sum()
    return (field.mean(1) + growth[:, None] * (at - centre)[:, None]).flatten(1)


def _affine(points: Tensor, field: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """The affine field that is nearest to `field` [P, C] at points [P, 3]: a function of points [Q, 3]."""
    centre = points.mean(0)

    def columns(at: Tensor) -> Tensor:
        return torch.cat([at - centre, torch.full_like(at[:, :1], MOUTH_REACH)], 1)

    A = columns(points).double()
    H = A.T @ (weight[:, None] * A)
    x = torch.linalg.solve(H, A.T @ (weight[:, None] * field).double()).float()
    return lambda at: columns(at) @ x
