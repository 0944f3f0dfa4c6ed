"""The analytic decoder on the open head: every part in its own colours, bound where it is drawn."""

from __future__ import annotations

import functools

import pytest
import torch

from omega_cli.decode.analytic import Decoded, decode_surface
from omega_cli.decode.colours import complete_texture, light_of
from omega_cli.decode.lids import unfolding
from omega_cli.decode.surface import covering_texels
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import perspective
from omega_cli.head.assets import load_head
from omega_cli.head.parts import PARTS, face_parts

SIZE = 128
GREEN = torch.tensor([0.2, 0.6, 0.3])
head = functools.cache(load_head)


def eye_centres() -> torch.Tensor:
    return (head().J_regressor @ head().v_template)[3:5]


@functools.cache
def layout():
    face_index, barycentric = covering_texels(head().uvs, head().uv_faces, SIZE)
    lashes = face_parts(head())[face_index.clamp_min(0)] == PARTS.index("lashes")
    face_index = torch.where(lashes, -1, face_index)
    part = torch.where(face_index >= 0, face_parts(head())[face_index.clamp_min(0)], -1)
    return face_index, barycentric, part


def completed(rgb: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    face_index, barycentric, _ = layout()
    return complete_texture(head(), head().v_template, eye_centres(), rgb, weight, face_index, barycentric)


@functools.cache
def decoded() -> Decoded:
    """All skin green and seen, nothing else seen."""
    rgb, weight = GREEN[:, None, None].expand(3, SIZE, SIZE), (layout()[2] == 0).float()[None]
    return decode_surface(head(), head().v_template, eye_centres(), rgb, weight)


def test_seen_skin_comes_through_untouched_but_for_the_folded_lids() -> None:
    rgb = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    face_index, _, part = layout()
    out = completed(rgb, torch.ones(1, SIZE, SIZE))
    folded = (unfolding(head(), head().v_template)[face_index.clamp_min(0)] > 0).float()
    beside = torch.nn.functional.max_pool2d(folded[None], 3, 1, 1)[0]  # whose rim is softened
    still = (part == 0) & (beside == 0)
    assert still.float().mean() > 0.8
    assert torch.allclose(out[:, still], rgb[:, still], atol=1e-6)


@pytest.mark.parametrize("seen_eyes", [True, False])
def test_unseen_lids_and_lips_take_skin_never_eye_or_mouth(seen_eyes: bool) -> None:
    part = layout()[2]
    rgb = torch.where(part == 0, GREEN[:, None, None], torch.ones(3, 1, 1))
    near = torch.nn.functional.max_pool2d((part > 0).float()[None, None], 9, 1, 4)[0, 0] > 0
    weight = (~near | (seen_eyes & (part > 0))).float()[None]
    out = completed(rgb, weight)
    assert (out[:, part == 0] - GREEN[:, None]).abs().max() < 1e-4


def test_hidden_parts_look_like_what_they_are() -> None:
    part = layout()[2]
    weight = (part == 0).float()[None]
    out = completed(GREEN[:, None, None].expand(3, SIZE, SIZE).clone(), weight)
    mean = {name: out[:, part == i].mean(1) for i, name in enumerate(PARTS) if bool((part == i).any())}
    assert {"left_eye", "right_eye", "teeth", "tongue", "mouth_inside"} <= set(mean)
    assert mean["teeth"].mean() > mean["tongue"].mean() > mean["mouth_inside"].mean()
    for name in ("tongue", "mouth_inside"):
        assert mean[name][0] > 1.3 * mean[name][1]
    for name in ("left_eye", "right_eye"):
        luminance = out[:, part == PARTS.index(name)].mean(0)
        assert luminance.min() < 0.15 and luminance.max() > 0.6


def test_light_is_judged_by_seen_skin_alone_and_is_bounded() -> None:
    rgb = torch.cat([torch.full((50, 3), 0.3), torch.ones(50, 3)])
    share = torch.cat([torch.ones(50), torch.zeros(50)])
    assert light_of(rgb, share) == pytest.approx((0.3 / 0.55) ** 0.5, abs=1e-4)
    assert light_of(rgb, torch.zeros(100)) == 1.0
    assert light_of(torch.zeros(9, 3), torch.ones(9)) == pytest.approx(0.6)


def test_one_gaussian_per_covered_texel_but_the_lashes_and_one_per_vertex() -> None:
    face_index = layout()[0]
    d = decoded()
    assert len(d.uv) == int((face_index >= 0).sum()) and len(d.vertex) == len(head().v_template)
    assert torch.equal(d.vertex.means, head().v_template)
    for g in (d.uv, d.vertex):
        assert torch.allclose(g.quats.norm(dim=1), torch.ones(len(g)), atol=1e-4)
        assert g.scales.min() > 0 and g.scales.max() < 0.0061
        assert g.opacities.min() >= 0 and g.opacities.max() <= 1
        assert g.colors.min() >= 0 and g.colors.max() <= 1


def test_the_head_is_closed_from_every_side() -> None:
    d = decoded()
    bound = BoundGaussians.bind(d.uv, d.face_index, d.barycentric, d.vertex, head().v_template, head().faces)
    for azimuth in (0.0, 90.0, 180.0):
        out = render(bound.canonical, perspective(azimuth, 128, 0.15))
        solid = torch.nn.functional.max_pool2d(1 - (out.alpha > 0.5).float()[None], 7, 1, 3)[0] == 0
        assert solid.sum() > 2000 and out.alpha[solid].min() > 0.95


def test_driving_with_the_canonical_pose_changes_nothing_and_an_open_jaw_shows_the_mouth() -> None:
    model, d = head(), decoded()
    bound = BoundGaussians.bind(d.uv, d.face_index, d.barycentric, d.vertex, model.v_template, model.faces)
    still = bound.pose(model.v_template)
    assert (still.means - bound.canonical.means).abs().max() < 1e-6
    params = model.zeros()
    expression = params.expression.clone()
    expression[0, model.expression_names.index("jawOpen")] = 0.8
    opened = model(params.replace(expression=expression)).vertices[0]
    lips = model.v_template[model.regions["lips"]]
    centre = (lips.amin(0) + lips.amax(0)) / 2
    camera = perspective(0.0, 96, 0.022, centre=centre)
    shut, wide = (render(bound.pose(v), camera).image.permute(1, 2, 0) for v in (model.v_template, opened))
    assert ((GREEN - shut).abs().amax(-1) < 0.1).float().mean() > 0.97
    inside = (GREEN - wide).abs().amax(-1) > 0.25  # past the lips' soft edge
    assert 0.03 < inside.float().mean() < 0.5
    red, green, _ = wide[inside].unbind(-1)
    assert (red > green - 0.05).float().mean() > 0.85  # dark red or white, no longer green


def test_a_lash_line_is_not_drawn_out_over_the_closed_lid() -> None:
    """Skin is green; what unfolds in a blink was seen dark. Most of it turns to skin, a line stays."""
    model, (face_index, _, part) = head(), layout()
    unfolds = unfolding(model, model.v_template)
    assert 20 < int((unfolds > 0.9).sum()) < 2000
    assert model.regions["eye_region"][model.faces[unfolds > 0.9]].float().mean() > 0.9
    lid = (unfolds[face_index.clamp_min(0)] > 0.9) & (part == 0)
    rgb = torch.where(lid, torch.tensor(0.1), GREEN[:, None, None].expand(3, SIZE, SIZE))
    out = completed(rgb, (part == 0).float()[None])
    assert (out[:, lid] - GREEN[:, None]).abs().mean() < 0.5 * (0.1 - GREEN).abs().mean()
    away = (part == 0) & (torch.nn.functional.max_pool2d(lid.float()[None, None], 9, 1, 4)[0, 0] == 0)
    assert (out[:, away] - GREEN[:, None]).abs().max() < 1e-4
