"""Identities of ICT-FaceKit Light on the open head's topology: one small npz for the studio's people.

    python -m omega_cli.data.studio.ict_pack --data DIR -o ict.npz

DIR holds `vertex_indices.json` as ICT gives it and `ict_facekit_f16.npz`, its model as arrays: neutral
[N, 3] cm; faces [G, 4] (-1: a triangle) with face_material [G] and material_names; identity_modes [K, N, 3],
scaled so that people are coefficients ~ N(0, 1), as ICT's own sampler draws them. The npz that is written:

- head_sha256 of the open head that it fits; mean [V, 3] m, modes [K, V, 3] float16, m; std [K]
- betas_mean [S], betas_modes [K, S]: the open head's identity nearest to each, on its skin
- lids [V] bool: skin that lies on the eyeballs; lashes [L], lash_skin [L, 24], lash_share: what they go with
- fit_mm: mean, 95th percentile and largest gap of the skin that found its place; trusted: its share
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from omega_cli.data.reading import need, read_json
from omega_cli.data.studio.ict_fit import INNER, Carrier, Surface, outer_skin, register
from omega_cli.errors import OmegaError
from omega_cli.geometry.mesh import vertex_normals
from omega_cli.geometry.similarity import similarity
from omega_cli.head.model import HeadModel

MODEL, INDICES = "ict_facekit_f16.npz", "vertex_indices.json"
FACE, BACK, BALLS = "M_Face", "M_BackHead", ("M_ScleraLeft", "M_ScleraRight")
HINT = f"Give the folder with {MODEL} and {INDICES}."
RIDGE = 1e-4  # of the betas' fit: a beta is worth 1 cm of one vertex
OVER_BALL, FACING_OUT = (
    1.45,
    0.3,
)  # lids: within so many radii of a ball's centre, facing away


def pack(root: Path, out: Path) -> dict[str, float]:
    """Write the pack `out` from ICT's folder `root`; how well the head lies on ICT's, in mm.

    Raises OmegaError where a file is missing or no such model.
    """
    from omega_cli.head.assets import load_head

    arrays = make(load_head(), *_read(root))
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)
    mean, most, worst = arrays["fit_mm"].tolist()
    return {"mean": mean, "p95": most, "max": worst, "trusted": float(arrays["trusted"])}


def _read(root: Path) -> tuple[Surface, Tensor]:
    """ICT's neutral head in its own frame, cm, and its modes [K, N, 3]."""
    indices = read_json(root / INDICES, "ICT's landmarks", HINT)
    with np.load(need(root / MODEL, "ICT's model", HINT), allow_pickle=False) as z:
        absent = {"neutral", "faces", "face_material", "material_names", "identity_modes"} - set(z.files)
        if absent:
            raise OmegaError(f"{root / MODEL} lacks {', '.join(sorted(absent))}.", HINT)
        vertices, quads, material = z["neutral"], z["faces"], z["face_material"]
        names = [str(name) for name in z["material_names"]]
        modes = torch.from_numpy(z["identity_modes"].astype(np.float32))

    def made_of(name: str) -> np.ndarray:
        if name not in names:
            raise OmegaError(f"{root / MODEL} has no material {name}.", HINT)
        return _triangles(quads[material == names.index(name)])

    faces = np.concatenate([made_of(FACE), _widest(made_of(BACK), vertices)])
    left, right = (torch.from_numpy(np.unique(made_of(name))) for name in BALLS)
    landmarks = torch.tensor(indices["idx_to_landmark_verts"])
    neutral = torch.from_numpy(vertices.astype(np.float32))
    return Surface(neutral, torch.from_numpy(faces), landmarks, left, right), modes


def _triangles(quads: np.ndarray) -> np.ndarray:  # [G, 4] -> [F, 3]
    return np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]]).astype(np.int64)


def _widest(faces: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """The widest connected part: of the back's, the head; the others line mouth and eyes."""
    if not len(faces):
        return faces
    ends, N = faces[:, [1, 2, 0]].ravel(), len(vertices)
    part = connected_components(coo_matrix((np.ones(len(ends)), (faces.ravel(), ends)), (N, N)))[1]
    of_face = part[faces[:, 0]]
    widths = {k: float(np.ptp(vertices[part == k], axis=0).max()) for k in np.unique(of_face)}
    return faces[of_face == max(widths, key=widths.__getitem__)]


def make(model: HeadModel, source: Surface, modes: Tensor) -> dict[str, Any]:
    """The pack's arrays, from a head in any frame and unit and its modes [K, N, 3]."""
    marks = model.landmark_points(model.v_template, "ibug68")
    there = similarity(source.vertices[source.landmarks][INNER], marks[INNER])
    surface = replace(source, vertices=there(source.vertices))
    carrier = Carrier(model, surface, register(model, surface))
    carried = carrier(there.scale * modes @ there.R.T)
    # the middle of the ears stays: the open head's origin lies midway between the ear canals
    ears = model.regions["ears"]
    mean = carrier.vertices - (carrier.vertices - model.v_template)[ears].mean(0)
    carried = carried - carried[:, ears].mean(1, keepdim=True)
    gap = 1000 * carrier.gap[carrier.trusted]
    skin = outer_skin(model)
    betas = _betas(model, torch.cat([(mean - model.v_template)[None], carried]), carrier.trusted)
    lashes, lash_skin, lash_share = carrier.lash_roots
    return {
        "head_sha256": np.array(model.sha256),
        "mean": mean.numpy(),
        "modes": carried.numpy().astype(np.float16),
        "std": np.ones(len(modes), np.float32),
        "betas_mean": betas[0].numpy(),
        "betas_modes": betas[1:].numpy(),
        "lids": _lids(model, mean, carrier.trusted).numpy(),
        "lashes": lashes.numpy().astype(np.int32),
        "lash_skin": lash_skin.numpy().astype(np.int32),
        "lash_share": lash_share.numpy(),
        "fit_mm": np.array([gap.mean(), gap.quantile(0.95), gap.max()], np.float32),
        "trusted": np.array(float(carrier.trusted[skin].float().mean()), np.float32),
    }


def _betas(model: HeadModel, moved: Tensor, where: Tensor) -> Tensor:
    """[K, S] of fields [K, V, 3]: the betas nearest to them."""
    A = model.shapedirs[where].flatten(0, 1).double()
    H = A.T @ A + RIDGE * torch.eye(model.S, dtype=torch.float64)
    return torch.linalg.solve(H, A.T @ moved[:, where].flatten(1).double().T).T.float()


def _lids(model: HeadModel, vertices: Tensor, skin: Tensor) -> Tensor:
    """[V] bool."""
    normals, out = vertex_normals(vertices, model.faces), torch.zeros_like(skin)
    for name in ("left_eye", "right_eye"):
        joint = model.J_regressor[3 if name == "left_eye" else 4] @ vertices
        radius = (vertices[model.regions[name]] - joint).norm(dim=1).amax()
        away = vertices - joint
        distance = away.norm(dim=1)
        out |= skin & (distance < OVER_BALL * radius) & ((normals * away).sum(1) > FACING_OUT * distance)
    return out


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help=HINT)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The pack."
)
def main(data: Path, output: Path) -> None:
    """Write the pack of ICT's identities for `omega studio preview --shapes` and `omega train --shapes`."""
    torch.set_num_threads(1)
    try:
        fit = pack(data, output)
    except OmegaError as error:
        raise click.ClickException(f"{error.message}\n  {error.hint}") from error
    click.echo(output)
    click.echo(
        f"{fit['trusted']:.1%} of the skin lies on ICT's, {fit['mean']:.3f} mm off on average, 95 % under "
        f"{fit['p95']:.3f} mm, at most {fit['max']:.2f} mm.", err=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
