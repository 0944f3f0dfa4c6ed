"""Training the view network: samples that fit their lift, a pool, a loss that falls, a run from the CLI."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from omega_cli.data.studio.light import Light, sample_light
from omega_cli.data.studio.look import Draw, sample_look
from omega_cli.data.studio.people import generator, sample_person
from omega_cli.geometry.camera import perspective
from omega_cli.geometry.similarity import similarity
from omega_cli.head.params import HeadParams
from omega_cli.mv_diffuse.conditioning import base_of
from omega_cli.mv_diffuse.network import ViewNet, ViewNetConfig
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.train.views import loop, samples, score, scoring
from omega_cli.train.views.loop import LoopConfig, learning_rate
from omega_cli.train.views.pool import Pool
from omega_cli.train.views.shots import _all_around, _evened, _rim_noise, as_from_elsewhere, shoulder_free

SIZE = 64
TINY = ViewNetConfig(channels=(16, 16, 32), width=64, layers=1, embedding=16, positions=4)


@pytest.fixture(scope="module")
def made() -> torch.Tensor:
    """Two photos of one generated person, packed."""
    with torch.no_grad():
        studio = samples.Studio(SIZE, 0.21)
        return torch.stack(list(studio.samples(11, False, 2)))


def test_the_truth_lies_where_the_lift_lies(made):
    lift, photo, truth = samples.unpacked(made)
    both = torch.minimum(lift[:, :, 6], truth[:, :, 6]).sum((2, 3))
    either = torch.maximum(lift[:, :, 6], truth[:, :, 6]).sum((2, 3))
    assert float((both / either).min()) > 0.6  # hair and fit differ, head and neck do not
    front = torch.minimum(photo[:, 3], truth[:, 0, 6]).sum((1, 2)) / truth[:, 0, 6].sum((1, 2))
    assert float(front.min()) > 0.7  # photos may be cut at the crown or the chin
    solid = truth[:, :, 6] > 0.99
    assert torch.allclose(truth[:, :, 3:6].norm(dim=2)[solid], torch.tensor(1.0), atol=0.03)


def test_the_same_seed_gives_the_same_bytes_and_another_photo_other_ones(made):
    with torch.no_grad():
        again = next(samples.Studio(SIZE, 0.21).samples(11, False, 1))
    assert torch.equal(again, made[0]) and not torch.equal(made[0], made[1])


def test_two_mirrors_make_none_and_one_swaps_the_sides(made):
    maps = samples.unpacked(made)
    once = samples.mirrored(*maps)
    for a, b in zip(samples.mirrored(*once), maps, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert torch.equal(once[2][:, 1, :3], maps[2][:, 5, :3].flip(-1))
    assert torch.equal(once[2][:, 2, 3], -maps[2][:, 4, 3].flip(-1))


def test_a_camera_of_a_moved_frame_sees_what_the_frame_would():
    generator = torch.Generator().manual_seed(3)
    points = 0.1 * torch.randn(20, 3, generator=generator)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    turn = turn * torch.sign(torch.det(turn))
    moved = 1.3 * points @ turn.T + torch.tensor([0.02, -0.01, 0.03])
    found = similarity(points, moved)
    camera = canonical_cameras(SIZE, 0.21)[1]
    assert torch.allclose(found.seen_by(camera).project(points)[0], camera.project(moved)[0], atol=1e-3)


def test_a_pool_takes_in_files_forgets_the_oldest_and_draws_photographs(tmp_path, made):
    np.save(tmp_path / "person-1.npy", made.numpy())
    np.save(tmp_path / "front-a.npy", made[0].numpy())
    pool = Pool(tmp_path, 3, SIZE, "cpu")
    deadline = time.monotonic() + 20
    while pool.added < 3 and time.monotonic() < deadline:
        pool.refresh()
    assert len(pool) == 3 and int(pool.front_only.sum()) == 1
    drawn, front = pool.draw(8, torch.Generator().manual_seed(0), 0.25)
    assert drawn.shape == (8, samples.PLANES, SIZE, SIZE) and int(front.sum()) == 2
    np.save(tmp_path / "person-2.npy", made.numpy())
    while pool.added < 5 and time.monotonic() < deadline:
        pool.refresh()
    assert len(pool) == 3 and pool.added == 5 and not bool(pool.front_only[0])


def test_the_loss_falls_and_a_photograph_teaches_its_front_alone(made):
    torch.manual_seed(0)
    made, size = made[:, :, ::2, ::2], SIZE // 2
    net, config = ViewNet(TINY), LoopConfig(perceptual=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    people = torch.zeros(2, dtype=torch.bool)
    first = last = 0.0
    for step in range(100):
        terms = loop.batch_loss(net, None, made, people, config, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        first, last = (terms["total"].item() if step == 0 else first), terms["total"].item()
    assert last < 0.85 * first
    fresh = ViewNet(TINY)
    for seed in (0, 1):  # with and without the mirror
        fresh.zero_grad()
        terms = loop.batch_loss(fresh, None, made, ~people, config, torch.Generator().manual_seed(seed))
        assert terms["total"].item() > 0
        out = torch.zeros(2, 6, 7, size, size, requires_grad=True)
        rng = torch.Generator().manual_seed(seed)
        loop.batch_loss(lambda _, said=out: said, None, made, ~people, config, rng)["total"].backward()
        assert out.grad is not None
        assert float(out.grad[:, 1:].abs().max()) == 0 and float(out.grad[:, 0, :3].abs().max()) > 0


def test_scores_of_the_truth_are_perfect_and_the_rate_warms_and_falls(made):
    class Same(torch.nn.Module):
        def distance(self, a, b):
            return (a - b).abs().mean((1, 2, 3))

    _, _, truth = samples.unpacked(made)
    found = score.measures(truth, truth, Same())  # type: ignore[arg-type]
    assert float(found["lpips"].max()) == 0 and float(found["iou"].min()) == 1
    assert float(found["normal"].max()) < 0.1 and float(found["psnr"].min()) > 70
    rows = score.table(found, ["a", "b"])
    assert rows["iou"]["all"] == 1 and set(rows["psnr"]["heads"]) == {"a", "b"}
    config = LoopConfig(rate=1.0, warmup=10)
    assert learning_rate(config, 0, 0) == pytest.approx(0.1) and learning_rate(config, 50, 0.4) == 1
    assert learning_rate(config, 50, 1.0) == pytest.approx(0.02)


def test_what_is_scored_is_never_trained_on():
    names = {name for name, _, _ in scoring.tasks(2, 5)}
    assert len(names) == 2 * 8 + 5
    assert min(int(n.split("-")[1]) for n in names if n.startswith("hair")) >= scoring.FIRST_HARD
    drawn = {sample_look(generator(seed, 1)).style for seed in range(400)}
    assert all(any(word in style for style in drawn) for word in scoring.HARD)  # no word without a style


def test_a_light_all_around_is_metered_the_same_and_lights_the_back():
    for seed in range(4):
        light = sample_light(torch.Generator().manual_seed(seed))
        for other in (_all_around(light), _evened(light, 0.7)):
            assert other.on_a_face() * other.exposure == pytest.approx(
                light.on_a_face() * light.exposure, rel=1e-4
            )
        behind = Light(*(getattr(_all_around(light), n) for n in ("directions", "colours", "around")))
        turned = behind.rotated(torch.diag(torch.tensor([-1.0, 1.0, -1.0])))
        front, back = behind.on_a_face(), turned.on_a_face()
        assert back > 0.5 * front


def test_a_photograph_asks_for_its_lift(made):
    with torch.no_grad():
        studio = samples.Studio(SIZE, 0.21)
        model = studio.sources.model
        params = HeadParams.zeros(model.S, model.E)
        camera = perspective(0.0, 128, 0.2, 1.0)
        rgba, labels = torch.rand(4, 128, 128), torch.ones(128, 128, dtype=torch.long)
        area = torch.ones(128, 128, dtype=torch.bool)
        sample = samples.front_sample(studio.photographer, params, camera, rgba, labels, area, SIZE)
    lift, _, truth = samples.unpacked(sample[None])
    assert torch.allclose(base_of(lift)[:, 0], truth[:, 0], atol=0.01)


def test_a_tiny_run_from_the_command_line(tmp_path, omega):
    done = omega(
        "train", "--stage", "views", "--preset", "tiny", "--seconds", "6", "--score-heads", "0",
        "--score-hair", "0", "-o", tmp_path / "run", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "run" / "view_net.safetensors"
    assert done.stdout.strip() == str(weights) and weights.is_file()
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["config"]["size"] == 64 and record["config"]["seconds"] == 6


def test_a_face_seen_from_elsewhere_lies_over_itself_but_for_its_depth():
    """Least squares over shift and scale leave what depth does; what has none does not move."""
    points = 0.08 * torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    near = perspective(10.0, 512, 0.2, 0.6)
    seen = near.project(points)[0].double().numpy()
    seen -= seen.mean(0)
    off = as_from_elsewhere(near, points, 2.0)
    assert np.abs(off).max() > 3 and np.abs(off.mean(0)).max() < 1e-9
    assert abs((off * (seen + off)).sum()) < 1e-6 * (seen**2).sum()
    assert np.abs(as_from_elsewhere(near, points, 1.0)).max() < 1e-3
    depth = float(near.viewmat[2, :3] @ points.mean(0) + near.viewmat[2, 3])
    there = perspective(10.0, 512, 0.2, 0.6 + depth).project(points)[0].double().numpy()
    there -= there.mean(0)
    assert np.allclose(there * (there * seen).sum() / (there * there).sum(), seen + off, atol=0.02)
    level = points * torch.tensor([1.0, 1.0, 0.0]) @ near.viewmat[:3, :3]
    assert np.abs(as_from_elsewhere(near, level, 3.0)).max() < 0.01


def test_a_photo_is_seen_through_a_camera_that_was_found():
    """Of photos from 0.5 to 3 m; half of them keep the usual camera, which is further from what took them."""
    with torch.no_grad():
        studio = samples.Studio(SIZE, 0.21)
        photographer, taken, true = studio.photographer, [], []
        aim = photographer.aim

        def aimed(*args):
            found = aim(*args)
            true.append(float(found[0].K[0, 0]))
            return found

        photographer.aim = aimed
        for seed in range(12):
            rng = torch.Generator().manual_seed(seed)
            sitter = samples.studio_sitter(sample_person(seed + 40, studio.plain), rng)
            taken.append(float(photographer.photograph(sitter, rng).camera.K[0, 0]))
    off, usual = (np.log(np.array(x) / true) for x in (taken, 1280.0))
    usually = np.abs(np.array(taken) - 1280.0) < 0.1
    known = np.abs(off) < 1e-4
    assert 3 <= usually.sum() <= 9 and 1 <= known.sum() <= 6 and (usually | known).sum() < 12
    assert np.sqrt((off[~usually] ** 2).mean()) < 0.75 * np.sqrt((usual[~usually] ** 2).mean())


def test_a_matte_with_noise_on_its_rim_is_whole_inside_and_empty_outside():
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 16:48, 16:48] = 1
    for seed in range(20):
        noisy = _rim_noise(alpha, Draw(torch.Generator().manual_seed(seed)), 1.0)
        assert bool((noisy[:, 26:38, 26:38] == 1).all()) and not noisy[:, :6].any()
        assert not torch.equal(noisy, alpha)


def test_where_shoulders_are_cut_no_outline_of_them_is_left():
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 20:, 4:28], labels[:, 4:12, 12:20] = 13, 1  # cloth, skin
    mesh = torch.zeros(1, 1, 32, 32)
    mesh[..., 4:22, 12:20] = 1
    keep = shoulder_free(labels, mesh, 30.0)
    assert not keep[0, 19:, 2].any() and not keep[0, 18, 5:9].any()  # the rim, drawn as half backdrop
    assert keep[0, 4:22, 12:20].all() and keep[0, :16].all()
