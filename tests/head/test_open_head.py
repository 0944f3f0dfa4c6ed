"""What the committed open head promises (docs/open-head.md), read from the file itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph
import torch

from omega_cli.geometry.camera import orthographic
from omega_cli.geometry.mesh import face_areas, face_normals
from omega_cli.geometry.raster import rasterize
from omega_cli.geometry.uvmap import count_uv, rasterize_uv, texel_positions, uv_areas
from omega_cli.head.arkit import ARKIT_NAMES, mirror_permutation
from omega_cli.head.assets import load_head, open_head_path
from omega_cli.head.model import HeadModel

FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head()


def express(model: HeadModel, **values: float) -> torch.Tensor:
    """Template with ARKit shapes [V, 3]."""
    out = model.v_template.clone()
    for name, value in values.items():
        out += value * model.exprdirs[:, :, ARKIT_NAMES.index(name)]
    return out


def test_size(model: HeadModel) -> None:
    assert 6500 <= len(model.v_template) <= 8500
    assert model.S >= 100 and model.expression_names == ARKIT_NAMES and len(ARKIT_NAMES) == 52
    assert open_head_path().stat().st_size < 12e6
    assert model.regions["scalp"].sum() >= 2000


def test_placement(model: HeadModel) -> None:
    """Metres, y up, face to +z, subject's left = +x, origin midway between the ears."""
    v, r = model.v_template, model.regions
    ears = v[r["ears"]]
    assert ears.mean(0).abs().max() < 0.012
    assert v[r["left_ear"], 0].min() > 0.05 and v[r["right_ear"], 0].max() < -0.05
    assert v[r["nose"], 2].max() == v[r["skin"], 2].max() > 0.09
    height = v[r["scalp"], 1].max() - v[r["face"], 1].min()
    assert 0.19 < height < 0.24  # chin to crown of an adult
    pupils = (model.J_regressor @ v)[3:, 0]
    assert 0.054 < pupils[0] - pupils[1] < 0.070


def test_skin_is_one_manifold_surface_facing_outwards(model: HeadModel) -> None:
    inside = (
        model.regions["eyes"] | model.regions["teeth"] | model.regions["tongue"] | model.regions["lashes"]
    )
    f = model.faces[~inside[model.faces].any(1)]
    directed = Counter((int(a), int(b)) for t in f for a, b in zip(t, t.roll(-1), strict=True))
    assert max(directed.values()) == 1  # consistent winding, no edge with three faces
    open_edges = [edge for edge in directed if edge[::-1] not in directed]
    graph = sp.coo_matrix((np.ones(len(open_edges)), np.array(open_edges).T), shape=[len(inside)] * 2)
    _, label = csgraph.connected_components(graph, directed=False)
    loops = [n for n in np.bincount(label) if n > 1]
    assert len(loops) == 3  # the bust's edge and two eye openings
    graph = sp.coo_matrix(
        (np.ones(3 * len(f)), (f.flatten(), f.roll(1, 1).flatten())), shape=[len(inside)] * 2
    )
    _, label = csgraph.connected_components(graph, directed=False)
    assert len(np.unique(label[np.unique(f)])) == 1
    normals = face_normals(model.v_template, f)
    centre = model.v_template[f].mean(1)
    scalp = model.regions["scalp"][f].all(1)
    assert ((normals * (centre - torch.tensor([0.0, 0.02, 0.0]))).sum(1)[scalp] > 0).all()
    assert face_areas(model.v_template, model.faces).min() > 1e-9


def test_both_eyeballs_are_whole_balls(model: HeadModel) -> None:
    for name, joint in (("left_eye", 3), ("right_eye", 4)):
        f = model.faces[model.regions[name][model.faces].all(1)]
        edges = Counter(
            tuple(sorted((int(a), int(b)))) for t in f for a, b in zip(t, t.roll(-1), strict=True)
        )
        assert set(edges.values()) == {2}  # closed
        p = model.v_template[model.regions[name]]
        radius = (p - (model.J_regressor @ model.v_template)[joint]).norm(dim=1)
        assert radius.max() / radius.min() < 1.02
        outward = face_normals(model.v_template, f) * (model.v_template[f].mean(1) - p.mean(0))
        assert (outward.sum(1) > 0).all()


def test_scalp_is_refined(model: HeadModel) -> None:
    f = model.faces[model.regions["scalp"][model.faces].all(1)]
    e = torch.unique(torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(1).values, dim=0)
    length = (model.v_template[e[:, 0]] - model.v_template[e[:, 1]]).norm(dim=1)
    assert length.median() < 0.005 and length.max() < 0.009


def test_left_right_symmetry(model: HeadModel) -> None:
    m = model.mirror_index
    assert m is not None and torch.equal(m[m], torch.arange(len(m)))
    assert (model.v_template[m] * FLIP - model.v_template).abs().max() < 1e-6
    assert (model.weights[m][:, [0, 1, 2, 4, 3]] - model.weights).abs().max() < 1e-6
    mirrored = model.exprdirs[m][:, :, mirror_permutation()] * FLIP[:, None]
    assert (mirrored - model.exprdirs).abs().max() < 2e-6
    corner = {(int(v), round(float(u), 5), round(float(w), 5)) for v, (u, w) in zip(
        model.faces.flatten(), model.uvs[model.uv_faces.flatten()], strict=True)}  # fmt: skip
    reflected = {(int(m[v]), round(1 - u, 5), w) for v, u, w in corner}
    assert len(corner ^ reflected) < 0.02 * len(corner)  # all but rounding


def test_identity_components_are_orthogonal_and_ordered(model: HeadModel) -> None:
    A = model.shapedirs.double().flatten(0, 1)
    length = A.norm(dim=0)
    assert (length[:-1] >= length[1:] * (1 - 1e-4)).all()
    directions = A / length
    assert (directions.T @ directions - torch.eye(model.S)).abs().max() < 5e-3  # int16 storage
    draws = torch.randn(200, model.S, generator=torch.Generator().manual_seed(4))
    heads = model.v_template + (draws @ model.shapedirs.flatten(0, 1).T).view(200, -1, 3)
    scalp, face = model.regions["scalp"], model.regions["face"]
    height = heads[:, scalp, 1].amax(1) - heads[:, face, 1].amin(1)
    assert 0.006 < height.std() < 0.016 and height.min() > 0.17 and height.max() < 0.27
    width = heads[:, scalp, 0].amax(1) - heads[:, scalp, 0].amin(1)
    assert width.min() > 0.11 and width.max() < 0.19
    ears = heads[:, model.regions["ears"]].mean(1)
    assert ears.abs().max() < 0.03  # the origin stays between the ears


def test_joints_and_weights(model: HeadModel) -> None:
    assert (model.J_regressor.sum(1) - 1).abs().max() < 1e-5
    assert (model.weights.sum(1) - 1).abs().max() < 1e-5 and model.weights.min() >= 0
    assert model.parents == (-1, 0, 1, 1, 1)
    joints, r = model.J_regressor @ model.v_template, model.regions
    assert joints[0, 1] < joints[1, 1] < joints[3, 1]  # root below neck below eyes
    assert (model.weights[r["scalp"], 1] > 0.98).all()
    assert (model.weights[r["boundary"], 0] > 0.9).all()
    assert (model.weights[r["lower_teeth"], 2] == 1).all() and (model.weights[r["upper_teeth"], 2] == 0).all()


def test_jaw_pose_looks_like_jaw_open(model: HeadModel) -> None:
    wanted = express(model, jawOpen=1.0) - model.v_template
    errors = []
    for angle in (0.3, 0.35, 0.4, 0.45):
        moved = model(model.zeros().replace(jaw_pose=torch.tensor([[angle, 0.0, 0.0]]))).vertices[0]
        errors.append(float((moved - model.v_template - wanted)[model.regions["face"]].norm(dim=1).mean()))
    assert min(errors) < 0.25 * wanted[model.regions["face"]].norm(dim=1).mean()


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_a_blink_closes_the_lids(model: HeadModel, side: str) -> None:
    joint = (model.J_regressor @ model.v_template)[3 if side == "Left" else 4]
    camera = orthographic(0, 256, 0.03, centre=joint)
    ball = model.regions[f"{side.lower()}_eye"][model.faces].all(1)

    def seen(vertices: torch.Tensor) -> int:
        index = rasterize(vertices, model.faces, camera).face_index
        return int((ball[index.clamp_min(0)] & (index >= 0)).sum())

    opened = seen(model.v_template)
    assert opened > 2000
    assert seen(express(model, **{f"eyeBlink{side}": 1.0})) < 0.01 * opened
    assert seen(express(model, **{f"eyeWide{side}": 1.0})) > 1.2 * opened


def test_expressions_move_what_they_name(model: HeadModel) -> None:
    travel = model.exprdirs.norm(dim=1)  # [V, 52]
    r = model.regions

    def moves(name: str) -> torch.Tensor:
        return travel[:, ARKIT_NAMES.index(name)]

    x = model.v_template[:, 0]
    for name in ("eyeBlink", "mouthSmile", "browOuterUp", "cheekSquint", "noseSneer"):
        left = moves(f"{name}Left")
        assert left[x > 0.005].max() > 3 * left[x < -0.02].max()
    assert 0.03 < moves("jawOpen").max() < 0.05 and moves("jawOpen")[r["scalp"]].max() < 0.002
    corner = int(torch.where(r["lips"], x, torch.tensor(-1.0)).argmax())
    smile = model.exprdirs[corner, :, ARKIT_NAMES.index("mouthSmileLeft")]
    assert smile[0] > 0.003 and smile[1] > 0.003
    assert moves("tongueOut")[r["tongue"]].max() > 0.02
    assert travel[r["eyes"]].max() == 0  # balls turn by pose alone


def test_regions(model: HeadModel) -> None:
    r = model.regions
    for name in (
        "face", "scalp", "neck", "boundary", "left_ear", "right_ear", "ears", "left_eye", "right_eye", "eyes",
        "lips", "teeth", "tongue", "mouth_inside", "lashes", "nose", "eye_region", "forehead", "skin",
    ):  # fmt: skip
        assert r[name].any(), name
    partition = torch.stack([r[n] for n in ("face", "scalp", "neck", "ears", "boundary")]).sum(0)
    assert torch.equal(partition, r["skin"].long())
    kinds = torch.stack([r[n] for n in ("skin", "eyes", "teeth", "tongue", "mouth_inside", "lashes")]).sum(0)
    assert (kinds == 1).all()
    mirror = model.mirror_index
    assert torch.equal(r["left_ear"][mirror], r["right_ear"]) and torch.equal(r["face"][mirror], r["face"])


def test_uv_layout(model: HeadModel) -> None:
    area = uv_areas(model.uvs, model.uv_faces)
    assert area.min() > 0  # no flipped or collapsed triangle
    assert model.uvs.min() >= 0 and model.uvs.max() <= 1
    count = count_uv(model.uvs, model.uv_faces, 2048)
    assert count.max() == 1
    raster = rasterize_uv(model.uvs, model.uv_faces, 1024)
    covered = raster.covered.float().mean()
    assert covered >= 0.85

    def share(name: str) -> float:
        member = model.regions[name][model.faces].sum(1) >= 2
        return float((member[raster.face_index.clamp_min(0)] & raster.covered).float().mean())

    assert share("scalp") >= 0.30 and share("face") >= 0.30
    assert share("eyes") > 0.015 and share("teeth") > 0.02 and share("ears") > 0.025
    # a uv corner belongs to one vertex: interpolation across the map is interpolation on the surface
    owner = torch.full((len(model.uvs),), -1)
    owner[model.uv_faces.flatten()] = model.faces.flatten()
    assert torch.equal(owner[model.uv_faces], model.faces)
    where = texel_positions(model.v_template, model.faces, raster)
    step = (where[:, 1:] - where[:, :-1]).norm(dim=-1)
    skin = model.regions["face"][model.faces].all(1)[raster.face_index.clamp_min(0)] & raster.covered
    assert step[skin[:, 1:] & skin[:, :-1]].quantile(0.99) < 0.001  # 1024 map: under 1 mm a texel on the face


def test_landmarks(model: HeadModel) -> None:
    dense, sparse = model.landmarks["mediapipe478"], model.landmarks["ibug68"]
    assert len(dense) == 478 and len(sparse) == 68
    assert dense.valid.sum() >= 470 and sparse.valid.all()
    for e in (dense, sparse):
        assert (e.barycentric.sum(1) - 1).abs().max() < 1e-5 and e.barycentric.min() >= 0
    p, q = (model.landmark_points(model.v_template, name) for name in ("mediapipe478", "ibug68"))
    iris = model.regions["eyes"][model.faces[dense.face_index]].all(1)
    assert torch.nonzero(iris).flatten().tolist() == list(range(468, 478))
    joints = model.J_regressor @ model.v_template
    assert (p[473, :2] - joints[3, :2]).norm() < 0.002 and (p[468, :2] - joints[4, :2]).norm() < 0.002
    nose_tip = model.v_template[model.regions["nose"]]
    assert (q[30] - nose_tip[nose_tip[:, 2].argmax()]).norm() < 0.012
    assert (
        abs(float(q[8, 0])) < 0.002 and q[8, 1] < q[57, 1] < q[51, 1] < q[33, 1] < q[27, 1]
    )  # chin ... brow
    reflected = q[[*range(16, -1, -1), *range(26, 16, -1)]] * FLIP
    assert (reflected - q[:27]).norm(dim=1).max() < 0.006
    assert q[36, 0] < q[39, 0] < q[42, 0] < q[45, 0]  # the subject's right eye comes first
    lips = model.regions["lips"] | model.regions["mouth_inside"]
    assert lips[model.faces[sparse.face_index[60:]]].any(1).all()
    # an opening mouth parts the inner lips
    opened = model.landmark_points(express(model, jawOpen=0.5), "ibug68")
    gap = (opened[62] - opened[66]).norm() - (q[62] - q[66]).norm()
    assert gap > 0.008
    # a closing eye brings its lids together
    shut = model.landmark_points(express(model, eyeBlinkLeft=1.0), "ibug68")
    assert (shut[43] - shut[47])[1] < 0.4 * (q[43] - q[47])[1]


def test_albedo(model: HeadModel) -> None:
    a, r = model.albedo, model.regions
    assert a is not None and a.min() >= 0 and a.max() <= 1
    assert a[r["teeth"]].mean() > 0.75 and a[r["mouth_inside"]].mean() < 0.3
    pupil = a[r["left_eye"]].sum(1).argmin()
    assert model.v_template[r["left_eye"]][pupil, 2] > model.v_template[r["left_eye"], 2].max() - 0.001
