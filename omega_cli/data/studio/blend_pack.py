"""VALID heads packed for blending: one small npz with all that a machine without landmarker or parts needs.

`pack` reads the folder that data/valid.py describes, plus `expressions.npz` (names; deltas_0p1mm
[N, E, Q, 3] int16 on vertex_ids [Q]). All heads are brought to one size by their landmarks and into the open
head's frame (origin between the ear canals, +y up, +z face). The npz:

- names [N]; base_mean [B, 3], base [N, B, 3] float16 differences: head, then eyes, then caps that close the
  cut arms; faces, uv; head_count: how many of the B vertices are the head's own
- landmark_faces [N, 68], landmark_weights [N, 68, 3]: iBUG's points on the base mesh
- expression_ids, expressions [N, E, Q, 3] (0.1 mm), turns [N, 3, 3]: their way into the frame
- scalp_v, cloth_v [B], scalp, cloth [S, S] uint8: soft masks; labels [S, S] (PARSING_LABELS) under them
- hair, dress [N, S, S] uint8: what of the scalp is hair, and of neck and chest cloth; skin_colour [N, 3]
- NAME/skin, NAME/wig: JPEG bytes; NAME/wig_{v,f,uv}, NAME/teeth_{v,f,uv,lower}: parts of their own topology
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omega_cli.data.reading import need
from omega_cli.data.studio import blend_landmarks
from omega_cli.data.studio.blend_masks import Masks, covers, make_masks
from omega_cli.data.studio.blend_parts import arm_caps, visible_faces
from omega_cli.errors import OmegaError
from omega_cli.geometry.similarity import similarity

TEXTURE = 512  # px of skins and wigs
JOINED = ("h_L_eye", "h_R_eye", "h_L_gland", "h_R_gland")  # one topology in all heads
TEETH = ("h_TeethUp", "h_TeethDown")
MOUTH_OPEN, OPENING = "MouthOpen_h", 0.5  # the shape, and how much of it, that parts the lips
STILL = slice(17, 48)  # brows, nose and eyes: what a mouth does not move
INNER = slice(17, 68)
HINT = "Give the folder with heads.npz, parts.npz, expressions.npz and tex/."


@dataclass(frozen=True)
class _Folder:
    """The arrays of the three files, and where they lie."""

    root: Path
    heads: dict[str, np.ndarray]
    parts: dict[str, np.ndarray]
    expressions: dict[str, np.ndarray]

    def index(self, name: str) -> int:
        return list(map(str, self.heads["names"])).index(name)

    def part(self, name: str, kind: str) -> tuple[Tensor, Tensor, Tensor] | None:
        """(vertices, faces, uv) of a part, None where the head has none."""
        if f"{name}/{kind}/v" not in self.parts:
            return None
        v, f, uv = (self.parts[f"{name}/{kind}/{key}"] for key in ("v", "f", "uv"))
        return torch.from_numpy(v).float(), torch.from_numpy(f.astype(np.int64)), torch.from_numpy(uv).float()

    def texture(self, name: str, kind: str) -> np.ndarray:  # [S, S, 3] uint8
        from PIL import Image

        with Image.open(need(self.root / "tex" / f"{name}_{kind}.jpg", f"the {kind} of {name}", HINT)) as im:
            square = im.convert("RGB").resize((TEXTURE, TEXTURE), Image.Resampling.BOX)
            return np.asarray(square)


def pack(
    root: Path,
    out: Path,
    names: Sequence[str] | None = None,
    *,
    detect: blend_landmarks.Detect | None = None,
) -> None:
    """Write the heads `names` (all, by default) of a VALID folder to the npz `out`.

    detect: finds iBUG's points in a picture; our landmarker by default.
    """
    folder = _read(root)
    known = list(map(str, folder.heads["names"]))
    chosen = known if names is None else list(names)
    if missing := sorted(set(chosen) - set(known)):
        raise OmegaError(f"{root} has no head {', '.join(missing)}.", f"It has {', '.join(known)}.")
    if detect is not None:
        arrays = _pack(folder, chosen, detect)
    else:
        from omega_cli import weights
        from omega_cli.track.landmarks import Landmarker, ibug_points

        with Landmarker(weights.resolve("face_landmarker").read_bytes()) as landmarker:

            def points(rgb: np.ndarray) -> np.ndarray | None:
                found = landmarker.detect(rgb)
                return ibug_points(found[0].points)[0] if found else None

            arrays = _pack(folder, chosen, points)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)


def _read(root: Path) -> _Folder:
    files = []
    for name in ("heads.npz", "parts.npz", "expressions.npz"):
        with np.load(need(root / name, "VALID heads", HINT), allow_pickle=False) as data:
            files.append({key: data[key] for key in data.files})
    return _Folder(root, *files)


def _pack(folder: _Folder, names: list[str], detect: blend_landmarks.Detect) -> dict[str, Any]:
    idx = [folder.index(name) for name in names]
    joined = [kind for kind in JOINED if all(folder.part(name, kind) for name in names)]
    raw, faces, uv = _base(folder, names, joined)
    head_count = folder.heads["verts"].shape[1]
    textures = [folder.texture(name, "skin") for name in names]
    places = _landmarks(folder, names, raw, faces, uv, textures, detect)
    marks = [_at(v, faces, *place) for v, place in zip(raw, places, strict=True)]
    turns, shifts = _into_frame(marks)
    base = torch.einsum("nij,nvj->nvi", turns, raw) + shifts[:, None]
    base, faces, uv = arm_caps(base, faces, uv, head_count)
    mean = base.mean(0)
    mean_marks = torch.stack([_at(mean, faces, *place) for place in places]).mean(0)
    masks = make_masks(mean, faces, uv, head_count, mean_marks, TEXTURE)
    E = folder.expressions
    arrays: dict[str, Any] = {
        "names": np.array(names),
        "base_mean": mean.numpy(),
        "base": (base - mean).numpy().astype(np.float16),
        "faces": faces.numpy().astype(np.int32),
        "uv": uv.numpy(),
        "head_count": np.array(head_count),
        "landmark_faces": np.stack([place[0].numpy() for place in places]).astype(np.int32),
        "landmark_weights": np.stack([place[1].numpy() for place in places]).astype(np.float32),
        "expression_names": E["names"],
        "expression_ids": E["vertex_ids"].astype(np.int32),
        "expressions": E["deltas_0p1mm"][idx].astype(np.int16),
        "turns": turns.numpy(),
        "scalp_v": masks.scalp_v.numpy().astype(np.float16),
        "cloth_v": masks.cloth_v.numpy().astype(np.float16),
        "scalp": _bytes_of(masks.scalp),
        "cloth": _bytes_of(masks.cloth),
        "face_zone": _bytes_of(masks.face_zone),
        "labels": masks.labels.numpy().astype(np.uint8),
    }
    arrays |= _looks(textures, [folder.part(name, "h_wig") is not None for name in names], masks)
    for i, name in enumerate(names):
        arrays[f"{name}/skin"] = _jpeg(textures[i])
        arrays |= _own_parts(folder, name, turns[i], shifts[i])
    return arrays


def _base(folder: _Folder, names: list[str], joined: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Heads with eyes as one mesh: vertices [N, B, 3] in the set's world, faces, uv [B, 2]."""
    heads = folder.heads
    faces = [torch.from_numpy(heads["faces"].astype(np.int64))]
    uv = [torch.from_numpy(heads["uv"]).float()]
    vertices = [torch.from_numpy(heads["verts"][[folder.index(n) for n in names]]).float()]
    start = vertices[0].shape[1]
    for kind in joined:
        own = [part for name in names if (part := folder.part(name, kind)) is not None]
        vertices.append(torch.stack([part[0] for part in own]))
        faces.append(own[0][1] + start)
        uv.append(own[0][2])
        start += len(own[0][0])
    return torch.cat(vertices, 1), torch.cat(faces), torch.cat(uv)


def _at(vertices: Tensor, faces: Tensor, face_index: Tensor, weights: Tensor) -> Tensor:
    return (vertices[faces[face_index]] * weights[..., None]).sum(1)


def _landmarks(
    folder: _Folder,
    names: list[str],
    raw: Tensor,
    faces: Tensor,
    uv: Tensor,
    textures: list[np.ndarray],
    detect: blend_landmarks.Detect,
) -> list[tuple[Tensor, Tensor]]:
    E = folder.expressions
    ids, shapes = torch.from_numpy(E["vertex_ids"].astype(np.int64)), list(map(str, E["names"]))
    named = list(map(str, folder.heads["joint_names"]))
    places = []
    for i, name in enumerate(names):
        vertices, at = raw[i].clone(), folder.index(name)
        if MOUTH_OPEN in shapes:
            delta = E["deltas_0p1mm"][at, shapes.index(MOUTH_OPEN)].astype(np.float32) * 1e-4
            vertices[ids] += OPENING * torch.from_numpy(delta)
        joint = torch.from_numpy(folder.heads["joints"][at, named.index("Head")]).float()
        texture = torch.from_numpy(textures[i].copy()).permute(2, 0, 1).float() / 255
        centre = joint + torch.tensor([0.0, 0.03, 0.0])
        places.append(blend_landmarks.find(vertices, faces, uv, texture, centre, detect, name))
    return places


def _into_frame(marks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Linear maps [N, 3, 3] and shifts [N, 3] from the set's world to the open head's frame.

    One size for all, by the still points; then the mean face onto the open head's, upright (the tilt that
    fits best is kept: it is the pose that the open head's face has between its ear canals).
    """
    from omega_cli.head.assets import load_head

    model = load_head()
    scales, shifts, _ = blend_landmarks.rescale([m[STILL] for m in marks])
    fitted = torch.stack([s * m + t for m, s, t in zip(marks, scales, shifts, strict=True)]).mean(0)
    there = similarity(fitted[INNER], model.landmark_points(model.v_template, "ibug68")[INNER])
    turns = torch.stack([there.scale * s * there.R for s in scales])
    return turns, torch.stack([there(t[None])[0] for t in shifts])


def _looks(textures: list[np.ndarray], wigged: list[bool], masks: Masks) -> dict[str, np.ndarray]:
    """Skin colour [N, 3], and the cover of hair and cloth [N, S, S] of every head."""
    skin, hair, dress = [], [], []
    for texture, bare in zip(textures, wigged, strict=True):
        own = texture.astype(np.float32) / 255
        colour = np.median(own[masks.cheeks.numpy()], axis=0)
        skin.append(colour)
        of_hair, of_cloth = covers(own, colour, masks, bare)
        hair.append(of_hair)
        dress.append(of_cloth)
    return {
        "skin_colour": np.stack(skin).astype(np.float32),
        "hair": (255 * np.stack(hair)).astype(np.uint8),
        "dress": (255 * np.stack(dress)).astype(np.uint8),
    }


def _own_parts(folder: _Folder, name: str, turn: Tensor, shift: Tensor) -> dict[str, np.ndarray]:
    """Wig and teeth of one head, in the frame; of the teeth what a mouth can show."""
    out: dict[str, np.ndarray] = {}
    wig = folder.part(name, "h_wig")
    if wig is not None:
        out |= _part_arrays(f"{name}/wig", wig[0] @ turn.T + shift, wig[1], wig[2])
        out[f"{name}/wig"] = _jpeg(folder.texture(name, "wig"))
    pieces, lower, start = [], [], 0
    for kind in TEETH:
        part = folder.part(name, kind)
        if part is None:
            continue
        vertices = part[0] @ turn.T + shift
        faces = part[1][visible_faces(vertices, part[1])]
        used, faces = torch.unique(faces, return_inverse=True)
        pieces.append((vertices[used], faces + start, part[2][used]))
        lower.append(np.full(len(used), kind == TEETH[1]))
        start += len(used)
    if pieces:
        columns = [torch.cat(column) for column in zip(*pieces, strict=True)]
        out |= _part_arrays(f"{name}/teeth", *columns)
        out[f"{name}/teeth_lower"] = np.concatenate(lower)
    return out


def _part_arrays(stem: str, vertices: Tensor, faces: Tensor, uv: Tensor) -> dict[str, np.ndarray]:
    # 16 bits over 1 m: 0.015 mm, where float16 would round at the ends of long hair
    fixed = (vertices.clamp(-0.499, 0.499) * 65536).round().numpy().astype(np.int16)
    return {
        f"{stem}_v": fixed,
        f"{stem}_f": faces.numpy().astype(np.uint16),
        f"{stem}_uv": (uv.clamp(0, 1) * 65535).round().numpy().astype(np.uint16),
    }


def _bytes_of(mask: Tensor) -> np.ndarray:
    return (255 * mask.clamp(0, 1)).round().numpy().astype(np.uint8)


def _jpeg(rgb: np.ndarray) -> np.ndarray:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "JPEG", quality=92, subsampling=0)
    return np.frombuffer(data.getvalue(), np.uint8)
