"""VALID heads: 34 textured heads with hair, drawn by our rasteriser from fixed cameras: exact truth.

A folder with `heads.npz` (names; verts [34, V, 3] metres, y up, face towards +z; faces, uv from the top
left; joints), `parts.npz` (`NAME/PART/{v,f,uv}`: eyes, teeth, wigs) and `tex/NAME_{skin,wig}.jpg`
(MIT licence). Camera ids are `azAAA_el+EE` in degrees: az 0 sees the face, az 90 the subject's left ear,
el +30 looks from above. The world is the data set's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from omega_cli.data.reading import need, picture, to_linear, to_srgb
from omega_cli.errors import OmegaError
from omega_cli.evaluate.frames import Frame, View
from omega_cli.evaluate.protocol import Protocol
from omega_cli.geometry.camera import Camera, perspective
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.raster import blend, rasterize

DISTANCE = 1.2  # m from the head's centre  # ours
HALF_EXTENT = 0.19  # m that a picture spans to each side: all of the hair  # ours
RADIUS = 0.2  # m around the head's centre, beyond which nothing is drawn  # ours
SUPERSAMPLING = 2  # pixels drawn per pixel and axis, for edges with alpha
_KEY, _KEY_LIGHT, _SKY, _AMBIENT = (0.35, 0.45, 0.82), 0.55, 0.2, 0.4  # linear light  # ours
_CAMERA = re.compile(r"az(\d{3})_el([+-]\d{2})")


def freeze(root: Path, protocol: Protocol) -> Protocol:
    """Unchanged: a head stands still, so there is nothing to sample."""
    if not protocol.frozen:
        raise OmegaError(
            f"The protocol {protocol.name} samples fractions, but VALID heads have one frame each.",
            'Give every sample "sequence": "neutral" and "frames": [0].',
        )
    return protocol


def read(root: Path, protocol: Protocol) -> Iterator[Frame]:
    """The protocol's heads; a view is drawn when its picture or mask is asked for."""
    protocol = freeze(root, protocol)
    library = _Library(root)
    if not protocol.target_cameras:
        raise OmegaError(
            f"The protocol {protocol.name} names no target cameras.",
            'VALID heads are drawn from any: list ids such as "az090_el+00".',
        )
    for sample in protocol.samples:
        if (sample.sequence, sample.frames) != ("neutral", (0,)):
            raise OmegaError(
                f"The protocol {protocol.name} asks for {sample.where}, frames {list(sample.frames)}.",
                'VALID heads have "sequence": "neutral" and "frames": [0] alone.',
            )
        pose = library.head_pose(sample.identity)
        views = []
        for name in (protocol.source_camera, *protocol.target_cameras):
            camera = view_camera(name, pose[:3, 3], protocol.size)
            views.append(
                View(
                    camera,
                    partial(library.draw_part, sample.identity, camera, 0),
                    partial(library.draw_part, sample.identity, camera, 1),
                )
            )
        yield Frame(sample.identity, "neutral", 0, views[0], views[1:], (), pose, pose[:3, 3])


def view_camera(name: str, centre: Tensor, size: int) -> Camera:
    """The camera that an id such as "az045_el-15" names, around a head's centre [3] m."""
    found = _CAMERA.fullmatch(name)
    if found is None:
        raise OmegaError(f"{name!r} names no camera of VALID heads.", 'Write it like "az045_el-15".')
    return perspective(float(found[1]), size, HALF_EXTENT, DISTANCE, centre.float(), float(found[2]), id=name)


class _Library:
    """The folder; its files are read when the first head is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        hint = "Give the folder with heads.npz, parts.npz and tex/ as --root."
        for name in ("heads.npz", "parts.npz", "tex"):
            need(root / name, "VALID heads", hint)
        # a head's views are asked for again and again: as picture, as mask, for every variant measured
        self._drawn = lru_cache(maxsize=32)(self._draw)
        self._mesh = lru_cache(maxsize=1)(self._read_mesh)

    @property
    def heads(self) -> dict[str, np.ndarray]:
        return _arrays(self.root / "heads.npz")

    def _index(self, identity: str) -> int:
        names = list(map(str, self.heads["names"]))
        if identity not in names:
            raise OmegaError(f"{self.root} has no head {identity}.", f"It has {', '.join(names)}.")
        return names.index(identity)

    def head_pose(self, identity: str) -> Tensor:
        """Head -> world [4, 4], m: upright, at the middle of the skull."""
        joints = self.heads["joints"][self._index(identity)]
        named = dict(zip(map(str, self.heads["joint_names"]), joints, strict=True))
        pose = torch.eye(4)
        middle = 0.7 * named["Head"] + 0.3 * named["HeadEnd"] + [0, 0, 0.03]
        pose[:3, 3] = torch.from_numpy(middle).float()
        return pose

    def draw_part(self, identity: str, camera: Camera, which: int) -> Tensor:
        """The picture (0) or the mask (1) of a view."""
        return self._drawn(identity, camera.id, camera.width)[which].clone()

    def _read_mesh(self, identity: str) -> _Mesh:
        i, parts = self._index(identity), _arrays(self.root / "parts.npz")
        textures = [self._texture(identity, "skin")]
        pieces = [(self.heads["verts"][i], self.heads["faces"], self.heads["uv"], 0)]
        for key in sorted(k for k in parts if k.startswith(f"{identity}/") and k.endswith("/v")):
            stem, wig = key[:-2], "wig" in key
            if wig:
                textures.append(self._texture(identity, "wig"))
            pieces.append(
                (parts[key], parts[f"{stem}/f"], parts[f"{stem}/uv"], len(textures) - 1 if wig else 0)
            )
        starts = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
        faces = np.concatenate([p[1].astype(np.int64) + start for p, start in zip(pieces, starts)])
        owner = np.concatenate([np.full(len(p[1]), p[3]) for p in pieces])
        points = np.concatenate([np.hstack([p[0], p[2]]) for p in pieces]).astype(np.float32)
        centre = self.head_pose(identity)[:3, 3].numpy()
        points, faces, owner = _clip(points, faces, owner, centre)
        points, faces, owner = torch.from_numpy(points), torch.from_numpy(faces), torch.from_numpy(owner)
        vertices, uv = points[:, :3].contiguous(), points[:, 3:].contiguous()
        return _Mesh(vertices, faces, vertex_normals(vertices, faces), uv, owner, textures)

    def _texture(self, identity: str, kind: str) -> Tensor:
        from PIL import Image

        path = self.root / "tex" / f"{identity}_{kind}.jpg"
        need(path, f"the {kind} texture of {identity}", "Copy the folder tex/ whole.")
        try:
            with Image.open(path) as image:
                return to_linear(picture(np.asarray(image.convert("RGB"))))
        except OSError as error:
            raise OmegaError(f"{path} cannot be read ({error}).", "Copy the folder tex/ whole.") from error

    def _draw(self, identity: str, name: str, size: int) -> tuple[Tensor, Tensor]:
        """Picture [3, S, S] (sRGB, colours not multiplied by alpha) and alpha [1, S, S]."""
        mesh = self._mesh(identity)
        fine = view_camera(name, self.head_pose(identity)[:3, 3], size * SUPERSAMPLING)
        fragments = rasterize(mesh.vertices, mesh.faces, fine)
        covered = fragments.face_index >= 0
        seen = covered.nonzero(as_tuple=True)
        face = fragments.face_index[seen].long()
        weights = fragments.barycentric[seen]

        def at(values: Tensor) -> Tensor:  # [V, C] -> [pixels, C]
            return blend(values, mesh.faces, face, weights)

        colour = mesh.colours(at(mesh.uv), mesh.owner[face])
        normal = at(mesh.normals)
        # hair is single sheets: what is seen from behind is lit as if it faced the camera
        towards = -fine.forward
        normal = functional.normalize(torch.where((normal @ towards < 0)[..., None], -normal, normal), dim=-1)
        key = (normal @ functional.normalize(torch.tensor(_KEY), dim=0)).clamp_min(0)
        light = _AMBIENT + _SKY * (0.5 + 0.5 * normal[:, 1:2]) + _KEY_LIGHT * key[:, None]
        drawn = torch.zeros(4, *covered.shape)
        drawn[:, seen[0], seen[1]] = torch.cat([colour * light, torch.ones_like(light)], dim=1).T
        mixed = functional.avg_pool2d(drawn[None], SUPERSAMPLING)[0]
        alpha = mixed[3:]
        return to_srgb(mixed[:3] / alpha.clamp_min(1e-6)), alpha


@dataclass(frozen=True, eq=False)
class _Mesh:
    """All parts of one head: vertices [V, 3] m, faces [F, 3], normals [V, 3], uv [V, 2]; owner [F]: which of
    the textures ([3, H, W], linear light) a face wears."""

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    uv: Tensor
    owner: Tensor
    textures: list[Tensor]

    def colours(self, uv: Tensor, owner: Tensor) -> Tensor:  # [n, 2], [n] -> [n, 3]
        out = torch.zeros(len(uv), 3)
        for k, texture in enumerate(self.textures):
            mine = owner == k
            grid = (2 * uv[mine] - 1)[None, None]
            picked = functional.grid_sample(texture[None], grid, padding_mode="border", align_corners=False)
            out[mine] = picked[0, :, 0].T
        return out


def _clip(
    points: np.ndarray, faces: np.ndarray, owner: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What lies within RADIUS of the head: the data set cuts the arms off along torn edges.

    points [V, 3 + C] (position, then what is interpolated along), faces [F, 3], owner [F].
    """
    reach = RADIUS - np.linalg.norm(points[:, :3] - centre, axis=1)
    inside = (reach[faces] > 0).sum(1)
    kept, kept_owner = [faces[inside == 3]], [owner[inside == 3]]
    for count in (1, 2):
        # turn each cut face so that its odd corner (the only one inside, or outside) comes first
        cut, odd = faces[inside == count], (reach[faces[inside == count]] > 0) == (count == 1)
        first = odd.argmax(1)[:, None]
        a, b, c = np.take_along_axis(cut, (first + np.arange(3)) % 3, 1).T
        ab, ac = np.arange(len(a)) + len(points), np.arange(len(a)) + len(points) + len(a)
        for other in (b, c):
            t = (reach[a] / (reach[a] - reach[other]))[:, None]
            points = np.concatenate([points, points[a] + t * (points[other] - points[a])])
        halves = [(a, ab, ac)] if count == 1 else [(ab, b, c), (ab, c, ac)]
        kept += [np.stack(half, 1) for half in halves]
        kept_owner += [owner[inside == count]] * len(halves)
    return points.astype(np.float32), np.concatenate(kept), np.concatenate(kept_owner)


@lru_cache(maxsize=2)
def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError) as error:
        raise OmegaError(f"{path} cannot be read ({error}).", "Copy the VALID heads again.") from error
