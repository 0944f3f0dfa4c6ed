"""HeadModel: the strongest statements about Eq. 1 that hold, on the committed open head."""

from __future__ import annotations

import pytest
import torch

from omega_cli.errors import OmegaError
from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.head.assets import load_head, open_head_path
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.head.regions import region_weights


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head()


def random_params(model: HeadModel, T: int, seed: int = 0) -> HeadParams:
    g = torch.Generator().manual_seed(seed)

    def small(size: float) -> torch.Tensor:
        return size * torch.randn(T, 3, generator=g)

    return HeadParams(
        betas=torch.randn(model.S, generator=g),
        expression=torch.rand(T, model.E, generator=g) * 0.3,
        global_orient=small(0.3),
        neck_pose=small(0.2),
        jaw_pose=small(0.1),
        leye_pose=small(0.1),
        reye_pose=small(0.1),
        transl=small(0.5),
        scale=torch.tensor(1.2),
    )


def test_zero_parameters_give_the_template(model: HeadModel) -> None:
    out = model(model.zeros())
    assert (out.vertices[0] - model.v_template).abs().max() < 1e-6
    assert torch.allclose(out.joints[0], model.J_regressor @ model.v_template, atol=1e-7)


def test_a_batch_is_its_frames_one_by_one(model: HeadModel) -> None:
    params = random_params(model, 4)
    whole = model(params)
    for t in range(4):
        single = model(params.frame(t))
        assert (whole.vertices[t] - single.vertices[0]).abs().max() < 1e-6
        assert (whole.joints[t] - single.joints[0]).abs().max() < 1e-6
    assert torch.equal(params.frame(-1).transl, params.transl[3:])
    assert len(params.frames([0, 2])) == 2


def test_orientation_scale_and_translation_move_the_head_rigidly(model: HeadModel) -> None:
    params = random_params(model, 3)
    still = params.replace(global_orient=torch.zeros(3, 3), transl=torch.zeros(3, 3), scale=torch.ones(()))
    root = (model.J_regressor @ model.identity(params.betas))[0]
    R = axis_angle_to_matrix(params.global_orient)
    base = model(still).vertices
    wanted = params.scale * ((base - root) @ R.mT + root) + params.transl[:, None]
    assert (model(params).vertices - wanted).abs().max() < 2e-6


def test_transforms_skin_any_rest_point(model: HeadModel) -> None:
    params = random_params(model, 2).replace(expression=torch.zeros(2, model.E))
    out, rest = model(params), model.identity(params.betas)
    blended = torch.einsum("vj,tjab->tvab", model.weights, out.transforms)
    homogeneous = torch.cat([rest, torch.ones(len(rest), 1)], dim=1)
    assert ((blended @ homogeneous[..., None])[..., :3, 0] - out.vertices).abs().max() < 2e-6


def test_offsets_are_added_before_skinning(model: HeadModel) -> None:
    """A bump on the crown turns with the neck: the posed offset is the rotated canonical one."""
    params = model.zeros().replace(neck_pose=torch.tensor([[0.3, -0.4, 0.2]]))
    crown = int((model.v_template[:, 1] - model.v_template[:, 2].abs() * 0.1).argmax())
    offsets = torch.zeros_like(model.v_template)
    offsets[crown] = torch.tensor([0.01, 0.03, -0.02])
    assert model.J_regressor[:, crown].abs().max() == 0 and model.weights[crown, 1] > 0.999
    moved = model(params, offsets).vertices[0] - model(params).vertices[0]
    assert (moved[crown] - axis_angle_to_matrix(params.neck_pose)[0] @ offsets[crown]).abs().max() < 1e-6
    moved[crown] = 0
    assert moved.abs().max() < 1e-6
    assert torch.equal(model(params, torch.zeros_like(offsets)).vertices, model(params).vertices)


@pytest.mark.parametrize(("pose", "region"), [("leye_pose", "left_eye"), ("reye_pose", "right_eye")])
def test_an_eye_pose_turns_its_ball_alone(model: HeadModel, pose: str, region: str) -> None:
    out = model(model.zeros().replace(**{pose: torch.tensor([[0.0, 0.35, 0.0]])})).vertices[0]
    moved = (out - model.v_template).norm(dim=1)
    ball = model.regions[region]
    assert moved[~ball].max() < 1e-7
    joint = (model.J_regressor @ model.v_template)[3 if region == "left_eye" else 4]
    before, after = model.v_template[ball] - joint, out[ball] - joint
    assert (after.norm(dim=1) - before.norm(dim=1)).abs().max() < 1e-6
    front = int(before[:, 2].argmax())
    assert after[front, 0] > before[front, 0] + 0.004  # turning about +y looks to the subject's left


def test_gradients_reach_every_parameter(model: HeadModel) -> None:
    params = model.zeros()
    fields = ("betas", "expression", "global_orient", "neck_pose", "jaw_pose", "leye_pose", "transl", "scale")
    leaves = {name: getattr(params, name).clone().requires_grad_() for name in fields}
    model(params.replace(**leaves)).vertices.square().sum().backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0, name


def test_region_weights(model: HeadModel) -> None:
    weights = region_weights(model, {"skin": 0.5, "scalp": 2.0}, default=-1)
    assert (weights[model.regions["scalp"]] == 2).all()
    assert (weights[model.regions["face"]] == 0.5).all()
    assert (weights[model.regions["eyes"]] == -1).all()
    with pytest.raises(KeyError, match="scalp"):
        region_weights(model, {"hat": 1.0})


def test_a_missing_or_damaged_file_is_named(tmp_path) -> None:
    with pytest.raises(OmegaError, match=r"nothing\.npz"):
        load_head(tmp_path / "nothing.npz")
    torn = tmp_path / "torn.npz"
    torn.write_bytes(open_head_path().read_bytes()[:20000])
    with pytest.raises(OmegaError, match=r"torn\.npz is damaged"):
        load_head(torn)


def test_shapes_are_checked(model: HeadModel) -> None:
    with pytest.raises(ValueError, match=r"transl must be \[1, 3\]"):
        model.zeros().replace(transl=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="shaped must be"):
        model.animate(torch.zeros(5, 3), model.zeros())
