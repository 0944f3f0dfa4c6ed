"""Many people at once are each of them alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from omega_cli.data.studio.light import Light, sample_light, stack_lights, studio_light
from omega_cli.data.studio.people import HAIR, HEAD, PLAIN, Person
from omega_cli.data.studio.scene import Sample, render_people, render_sample
from omega_cli.data.studio.skin import LABEL
from omega_cli.data.studio.views import clip_space, stack_views
from omega_cli.geometry.camera import Camera, orthographic, perspective
from omega_cli.geometry.raster import clip_vertices
from omega_cli.head.params import HeadParams

SIZE = 64


def moments(people: list[Person]) -> tuple[HeadParams, list[list[Camera]], list[Light]]:
    """A pose, two cameras (one of each model) and a light for each, all different."""
    P, model = len(people), people[0].model
    rng = torch.Generator().manual_seed(4)
    params = model.zeros(P).replace(
        expression=0.3 * torch.rand(P, model.E, generator=rng),
        neck_pose=0.2 * torch.randn(P, 3, generator=rng),
        jaw_pose=torch.tensor([[0.1, 0.0, 0.0]]).expand(P, 3),
        global_orient=0.2 * torch.randn(P, 3, generator=rng),
        transl=0.01 * torch.randn(P, 3, generator=rng),
    )
    cameras = [
        [orthographic(30.0 * p, SIZE, 0.21), perspective(-50.0 * p, 2 * SIZE, 0.2, 1.0)] for p in range(P)
    ]
    lights = [sample_light(torch.Generator().manual_seed(p)) for p in range(P - 1)]
    return params, cameras, [studio_light(), *lights]


def test_a_crowd_is_its_people(people: dict[str, Person]) -> None:
    """Shape, hair counts, textures, pose, cameras and light of each one are their own."""
    three = [people[name] for name in ("curls", "bald", "long")]
    params, cameras, lights = moments(three)
    together = render_people(three, params, cameras, lights, SIZE)
    assert together.rgb.shape == (3, 2, 3, SIZE, SIZE) and together.landmarks_3d.shape == (3, 68, 3)
    for p, person in enumerate(three):
        alone = render_sample(person, params.frame(p), cameras[p], lights[p], SIZE)
        for field in dataclasses.fields(Sample):
            one, many = getattr(alone, field.name), getattr(together[p], field.name)
            assert torch.allclose(one, many, atol=2e-5), (p, field.name)


def test_a_crowd_needs_its_rows(people: dict[str, Person]) -> None:
    two = [people["bald"], people["short"]]
    params, cameras, lights = moments(two)
    with pytest.raises(ValueError, match="equal rows"):
        render_people(two, params, cameras[:1], lights, SIZE)
    with pytest.raises(ValueError, match="one frame for each"):
        render_people(two, params.frame(0), cameras, lights, SIZE)


def test_views_are_what_cameras_project() -> None:
    cameras = [orthographic(20.0, 100, 0.3), perspective(200.0, 50, 0.2, 1.1, elevation_deg=10.0)]
    points = 0.2 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    views = stack_views(cameras, 80, "cpu")
    clip = clip_space(points[None], views.to_clip[None])[0]
    for k, camera in enumerate(cameras):
        expected = clip_vertices(points, camera.resized(80, 80))
        assert torch.allclose(clip[k], expected, atol=1e-4)
        toward = views.eyes[:3, k] - points * views.eyes[3, k]
        toward = toward / toward.norm(dim=1, keepdim=True)
        assert torch.allclose(toward, camera.view_directions(points), atol=1e-5)


def test_lamps_that_burn_for_nobody_are_left_out() -> None:
    light = studio_light()
    dark = dataclasses.replace(
        light, colours=light.colours * torch.tensor([[1.0], [0.0], [0.0]]), exposure=2.0
    )
    assert stack_lights([dark], "cpu").directions.shape == (1, 1, 3)
    both = stack_lights([dark, light], "cpu")
    assert both.directions.shape == (2, 3, 3)
    assert torch.equal(both.colours[0, 0], 2 * light.colours[0]) and torch.equal(both.around[1], light.around)


def test_kinds_of_faces(people: dict[str, Person]) -> None:
    for name, person in people.items():
        kinds = person.kinds
        assert (kinds[: len(person.model.faces)] == HEAD).all() and len(kinds) == len(person.faces)
        first = person.extras.labels[person.extras.faces[:, 0]]
        extra = kinds[len(person.model.faces) :]
        assert (extra[first == LABEL["hair"]] == HAIR).all() and (
            extra[first == LABEL["cloth"]] == PLAIN
        ).all()
        assert (extra == HAIR).any() == (name != "bald" or person.look.beard not in ("none", "stubble"))


def test_a_person_moves_whole(people: dict[str, Person]) -> None:
    """`to` keeps every number, and people of one model share it where they arrive."""
    there = [people[name].to("cpu") for name in ("bald", "long")]
    assert there[0].model is there[1].model
    assert torch.equal(there[1].extras.table, people["long"].extras.table)
    assert torch.equal(there[1].paint.texels, people["long"].paint.texels)
