"""The pictures of one moment agree: between maps, between views, and with the head that made them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from omega_cli.data.studio.degrade import blur, colour, jpeg, noise, photograph, resample
from omega_cli.data.studio.light import Light, develop, linear_of, sample_light, sphere, studio_light
from omega_cli.data.studio.people import Person
from omega_cli.data.studio.scene import Sample, pose, render_sample
from omega_cli.data.studio.skin import LABEL
from omega_cli.geometry.camera import Camera, orthographic
from omega_cli.geometry.rotation import axis_angle_to_matrix


def centres(size: int) -> torch.Tensor:
    x = torch.arange(size) + 0.5
    return torch.stack(torch.meshgrid(x, x, indexing="xy"), -1)


def test_maps_agree_about_what_is_there(plain: dict[str, Sample]) -> None:
    for sample in plain.values():
        seen = sample.alpha > 0
        assert torch.equal(torch.isfinite(sample.depth), seen)
        assert torch.equal(sample.normal.norm(dim=1, keepdim=True) > 0.5, seen)
        assert (sample.rgb * ~seen == 0).all()
        assert (sample.labels[:, None][sample.alpha == 1] > 0).all()
        assert (sample.labels[:, None][sample.alpha == 0] == 0).all()
        assert sample.rgb.amin() >= 0 and sample.rgb.amax() <= 1
        lengths = sample.normal.norm(dim=1, keepdim=True)[seen]
        assert (lengths - 1).abs().max() < 1e-4


def test_depth_of_one_view_is_the_surface_of_the_other(
    plain: dict[str, Sample], ring: list[Camera], people: dict[str, Person]
) -> None:
    """Points of the bare head seen from the front, put into the three-quarter view, are not in front of what
    that view sees; where both see them they meet within a millimetre or two and bear one label."""
    sample = plain["bald"]
    grid = centres(96)
    face = sample.normal[0, 2] > 0.6
    inside = (sample.alpha[0, 0] == 1) & face & (sample.labels[0] != LABEL["cloth"])
    world = ring[0].unproject(grid[inside], sample.depth[0, 0][inside])
    pixel, z = ring[1].project(world)
    there = pixel.floor().long()
    seen = sample.depth[1, 0, there[:, 1], there[:, 0]]
    full = sample.alpha[1, 0, there[:, 1], there[:, 0]] == 1
    error = (z - seen)[full]
    assert (error > -0.012).float().mean() > 0.98  # nothing floats before the surface
    both = error.abs() < 0.004
    assert both.float().mean() > 0.75
    assert error[both].abs().median() < 1.2e-3
    same = sample.labels[0][inside][full][both] == sample.labels[1, there[:, 1], there[:, 0]][full][both]
    assert same.float().mean() > 0.9
    normal = [
        sample.normal[0][:, inside][:, full][:, both],
        sample.normal[1, :, there[:, 1], there[:, 0]][:, full][:, both],
    ]
    assert (normal[0] * normal[1]).sum(0).median() > 0.985  # world normals: the same from any side


def test_normals_are_the_slope_of_depth(plain: dict[str, Sample], ring: list[Camera]) -> None:
    """On the smooth forehead and cheeks of a front view: n ~ (-dz/dx, -dz/dy, 1) in metres."""
    sample = plain["bald"]
    metres = 2 * 0.21 / 96
    depth = sample.depth[0, 0]
    flat = (
        torch.nn.functional.max_pool2d((sample.labels[0] != LABEL["skin"]).float()[None, None], 5, 1, 2)[0, 0]
        == 0
    )
    flat &= sample.normal[0, 2] > 0.8
    right = (depth.roll(-1, 1) - depth.roll(1, 1)) / (2 * metres)
    down = (depth.roll(-1, 0) - depth.roll(1, 0)) / (2 * metres)
    slope = torch.nn.functional.normalize(torch.stack([right, -down, torch.ones_like(depth)]), dim=0)
    cosine = (slope * sample.normal[0]).sum(0)[flat]
    assert len(cosine) > 200 and cosine.median() > 0.985


def test_landmarks_lie_on_the_face(plain: dict[str, Sample], ring: list[Camera]) -> None:
    """Their pixels show the face (or a beard on it), at their own depth."""
    inner = torch.arange(17, 68)
    for name, sample in plain.items():
        points = sample.landmarks[0, inner]
        pixel = points.floor().long()
        assert ((points > 0) & (points < 96)).all()
        label = sample.labels[0, pixel[:, 1], pixel[:, 0]]
        assert (label > 0).all() and (label != LABEL["cloth"]).all()
        projected, z = ring[0].project(sample.landmarks_3d)
        assert torch.allclose(projected, sample.landmarks[0], atol=1e-3)
        gap = z[inner] - sample.depth[0, 0, pixel[:, 1], pixel[:, 0]]
        assert gap.median().abs() < 0.003, name
    lips = plain["bald"].labels[0][
        plain["bald"].landmarks[0, [51, 57], 1].long(), plain["bald"].landmarks[0, [51, 57], 0].long()
    ]
    assert {int(v) for v in lips} <= {LABEL["upper_lip"], LABEL["lower_lip"], LABEL["skin"]}


def test_everything_moves_as_one(people: dict[str, Person]) -> None:
    """A turn about the root, a shift and a scale move head, hair and cloth alike: pictures from a camera
    that moves along are the same."""
    person = people["long"]
    rest = person.model.zeros()
    turn = torch.tensor([[0.1, 0.5, -0.05]])
    moved = rest.replace(global_orient=turn, transl=torch.tensor([[0.02, 0.01, -0.03]]))
    before, after = pose(person, rest), pose(person, moved)
    R = axis_angle_to_matrix(turn)[0]
    shift = after.vertices[0] - before.vertices[0] @ R.T
    assert torch.allclose(after.vertices, before.vertices @ R.T + shift, atol=2e-5)
    assert torch.allclose(after.rotation, R, atol=1e-5)
    assert torch.allclose(after.tangents, before.tangents @ R.T, atol=1e-4)


def test_hair_goes_with_the_head_and_cloth_stays(people: dict[str, Person]) -> None:
    person = people["short"]
    nod = person.model.zeros().replace(neck_pose=torch.tensor([[0.3, 0.0, 0.0]]))
    before, after = pose(person, person.model.zeros()), pose(person, nod)
    way = (after.vertices - before.vertices).norm(dim=1)[len(person.canonical) :]
    hair = person.extras.labels == LABEL["hair"]
    cloth = person.extras.labels == LABEL["cloth"]
    assert way[hair].median() > 0.015 and way[cloth].median() < 0.004


def test_a_jaw_takes_its_beard_along(people: dict[str, Person]) -> None:
    person = people["short"]
    assert person.look.beard == "full beard"
    opened = person.model.zeros().replace(jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]))
    before, after = pose(person, person.model.zeros()), pose(person, opened)
    head = len(person.canonical)
    beard = torch.nonzero(person.extras.labels == LABEL["skin"])[:, 0]
    roots = person.extras.roots[beard]
    skin = (after.vertices - before.vertices)[roots]
    strands = (after.vertices - before.vertices)[head + beard]
    assert skin.norm(dim=1).amax() > 0.01
    assert ((skin - strands).norm(dim=1) < 0.4 * skin.norm(dim=1) + 0.004).float().mean() > 0.95


def test_one_camera_alone_gives_the_same_picture(
    people: dict[str, Person], ring: list[Camera], plain
) -> None:
    person = people["curls"]
    alone = render_sample(person, person.model.zeros(), ring[1:2], studio_light(), 96)
    for field in dataclasses.fields(Sample):
        one, all_views = getattr(alone, field.name), getattr(plain["curls"], field.name)
        expected = all_views if field.name == "landmarks_3d" else all_views[1:2]
        assert torch.allclose(one, expected, atol=1e-5), field.name


def test_light_adds_up_before_development(people: dict[str, Person]) -> None:
    """No light, no picture; more exposure, a brighter one; the left light lights the left cheek."""
    person = people["bald"]
    camera = [orthographic(0.0, 48, 0.21)]
    dark = Light(torch.eye(3), torch.zeros(3, 3), torch.zeros(4, 3))
    assert render_sample(person, person.model.zeros(), camera, dark, 48).rgb.max() == 0
    left = dataclasses.replace(dark, colours=torch.tensor([[1.5] * 3, [0.0] * 3, [0.0] * 3]))
    sample = render_sample(person, person.model.zeros(), camera, left, 48)
    skin = sample.labels[0] == LABEL["skin"]
    columns = torch.arange(48).expand(48, 48)
    bright = [sample.rgb[0].mean(0)[skin & side].mean() for side in (columns > 26, columns < 22)]
    assert bright[0] > 3 * bright[1]  # +x is the subject's left, the picture's right


def test_an_unoccluded_sphere_sees_everywhere(people: dict[str, Person]) -> None:
    """The nose's tip sees forward and not backward; deep roots see less than tips."""
    person = people["long"]
    assert person.visible.min() >= 0 and person.visible.max() <= 1
    tip = person.canonical[:, 2].argmax()
    toward = sphere()[:, 2]
    assert person.visible[tip][toward > 0.7].min() > 0.8
    assert person.visible[tip][toward < -0.9].max() < 0.05


def test_a_sample_is_one_frame(people: dict[str, Person]) -> None:
    person = people["bald"]
    two = person.model.zeros()
    two = type(two).concatenate([two, two])
    with pytest.raises(ValueError, match="one frame"):
        render_sample(person, two, [orthographic(0.0, 32, 0.21)], studio_light(), 32)


def test_development_and_its_inverse() -> None:
    x = torch.linspace(0, 0.69, 50)
    assert torch.allclose(linear_of(develop(x)), x, atol=1e-5)
    y = develop(torch.linspace(0, 20, 400))
    assert (y.diff() >= 0).all() and y.max() <= 1.0


def test_random_lights_are_metered() -> None:
    for seed in range(40):
        light = sample_light(torch.Generator().manual_seed(seed))
        assert 0.5 < light.on_a_face() * light.exposure < 1.5
        assert torch.allclose(light.directions.norm(dim=1), torch.ones(3), atol=1e-5)


def test_degradation_keeps_what_it_should() -> None:
    g = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 40, 40, generator=g)
    flat = torch.full((1, 3, 24, 24), 0.4)
    assert torch.allclose(blur(flat, 1.3), flat, atol=1e-6)
    assert (
        abs(float(blur(image, 1.0).mean() - image.mean())) < 0.01 and blur(image, 1.0).var() < image.var() / 2
    )
    assert torch.allclose(resample(flat, 0.5), flat, atol=1e-5) and resample(image, 1.0) is image
    assert torch.equal(colour(image, torch.ones(3), 1.0, 1.0), image) or torch.allclose(
        colour(image, torch.ones(3), 1.0, 1.0), image, atol=1e-6
    )
    grey = colour(image, torch.ones(3), 1.0, 0.0)
    assert (grey - grey.mean(1, keepdim=True)).abs().max() < 1e-6
    loud = noise(flat, 0.0, 0.05, torch.Generator().manual_seed(1))
    assert abs(float(loud.std()) - 0.05) < 0.005
    soft = blur(image, 2.0)
    errors = [(jpeg(soft, q) - soft).abs().mean() for q in (20, 60, 95)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02
    again = [photograph(image, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*again) and again[0].shape == image.shape
