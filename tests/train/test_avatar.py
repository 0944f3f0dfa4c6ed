"""Training the avatar network: samples that survive, a loss that falls, runs that can be gone on with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from omega_cli.data.studio.people import sample_person
from omega_cli.decode.checkpoint import DECODER
from omega_cli.decode.fit import Fitted, fit_pictures
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import perspective
from omega_cli.head.assets import load_head
from omega_cli.model import Drawn, OmegaModel
from omega_cli.render.checkpoint import REFINER
from omega_cli.splat_uv.checkpoint import ENCODER
from omega_cli.train import torchrun
from omega_cli.train.avatar import checkpoints, fitting, makers, refining, run, score
from omega_cli.train.avatar.loop import LoopConfig, NotFinite, Trainer
from omega_cli.train.avatar.objective import (
    LOOK,
    Lambdas,
    Wanted,
    face_box,
    random_look,
    target_terms,
    total,
)
from omega_cli.train.avatar.pool import AvatarPool, Member, avatar_of
from omega_cli.train.avatar.refining import RefinerTrainer
from omega_cli.train.avatar.samples import DRIVEN, NOVEL, SOURCE, AvatarSample
from omega_cli.train.config import PRESETS, TrainConfig
from omega_cli.train.schedule import learning_rate, mv_weight
from omega_cli.train.views.portraits import Portrait

TINY = TrainConfig(stage="avatar", **PRESETS["avatar"]["tiny"], preset="tiny")
SIZES = run.Sizes.of(TINY)
MAKING = makers.MakerConfig(
    Path(), Path(), plan=SIZES.plan, views=SIZES.views, fit=SIZES.fit, splat=SIZES.splat,
    fit_steps=SIZES.fit_steps,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def studio():
    return makers._studio(MAKING)


@pytest.fixture(scope="module")
def data(studio, tmp_path_factory) -> Path:
    """A data folder: two people to train on, one to score on, all of the studio."""
    folder, finish = tmp_path_factory.mktemp("avatar"), makers.finisher(MAKING)
    names = "samples/person-11", "samples/person-12", f"score/person-{makers.FIRST_HARD}"
    for name in names:
        path = folder / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        seed = int(name.split("-")[1])
        person = sample_person(seed, studio.studio.sources)
        finish(studio.sample(person, torch.Generator().manual_seed(seed))).save(path)
    return folder


def trainer(data: Path, steps: int, **changes) -> Trainer:
    torch.manual_seed(0)
    model = OmegaModel(load_head(), SIZES.splat, SIZES.networks)
    values = {"rate": 2e-3, "warmup": 2, "batch": 2, "at_least": 2} | changes
    config = LoopConfig(steps=steps, **values)
    return Trainer(model, AvatarPool(data / "samples", 8, "cpu"), None, None, config)


def test_a_sample_survives_its_file_bit_for_bit(data, tmp_path):
    sample = AvatarSample.load(data / "samples" / "person-11.npz")
    sample.save(tmp_path / "again.npz")
    again = AvatarSample.load(tmp_path / "again.npz")

    def same(a, b) -> None:
        for field in dataclasses.fields(a):
            one, other = getattr(a, field.name), getattr(b, field.name)
            if isinstance(one, torch.Tensor):
                assert one.dtype == other.dtype and torch.equal(one, other), field.name
            elif dataclasses.is_dataclass(one):
                same(one, other)

    same(sample, again)
    assert sample.targets.kind.tolist() == [SOURCE, NOVEL, DRIVEN]
    assert sample.rgb.shape == (6, 3, 64, 64) and sample.targets.rgba.shape == (3, 4, 64, 64)
    with pytest.raises(OmegaError):
        AvatarSample.load(tmp_path / "none.npz")


def test_true_pictures_lie_where_the_untrained_avatar_is(data):
    model = OmegaModel(load_head(), SIZES.splat, SIZES.networks)
    found = score.score(model, [Member.load(data / "samples" / "person-12.npz", "cpu")], None)
    assert found["raw"] == found["refined"] and set(found["raw"]["psnr"]) >= {"source", "driven", "all"}
    assert min(found["raw"]["psnr"].values()) > 12  # a head beside its truth gives 6 to 9


@torch.no_grad()
def test_a_sample_is_fitted_to_its_own_photo_and_views(data):
    """By its maker, as decode does it, with the photo where decode has it; training asks no more."""
    model = OmegaModel(load_head(), SIZES.splat, SIZES.networks)
    member = Member.load(data / "samples" / "person-12.npz", "cpu")
    _, views = avatar_of(model, member)
    base = member.base
    assert base is not None and base.fitted is not None
    photo, *others = fitting.pictures_of(member, model.head, views)
    assert len(others) == 6 and photo.colour.shape == (3, 64, 64) and 0.3 < float(photo.known.mean()) < 1
    shaped = member.standing(model.head).shaped

    def fit(steps: int) -> Fitted:
        seed = torch.Generator().manual_seed(0)
        return fit_pictures(model.head, shaped, base.decoded, photo, others, steps, seed)

    for kept, found in zip(base.fitted, fit(SIZES.fit_steps).changes, strict=True):
        assert float(found.colors.abs().max()) > 0.01 and float(found.shape().abs().max()) > 0.05
        torch.testing.assert_close(kept.colors, found.colors, atol=1e-3, rtol=1e-3)  # sixteen bits
        torch.testing.assert_close(kept.shape(), found.shape(), atol=1e-3, rtol=1e-3)
    before, after = fit(12).psnr
    assert before > 15 and after > before + 0.6  # measured: 19.0 to 20.2
    avatar_of(model, member)
    assert member.base is base


def test_a_sample_without_a_fit_is_the_analytic_avatar(data):
    sample = AvatarSample.load(data / "samples" / "person-12.npz")
    member = Member("plain", dataclasses.replace(sample, fit=None))
    with torch.no_grad():
        avatar_of(OmegaModel(load_head(), SIZES.splat, SIZES.networks), member)
    assert member.base is not None and member.base.fitted is None
    assert fitting.fitted(member.sample, load_head(), SIZES.splat, 0) is member.sample


def test_a_photograph_is_its_own_and_only_target(studio):
    model = studio.studio.sources.model
    camera = perspective(0.0, 512, 0.2, 1.0)
    labels = torch.ones(512, 512, dtype=torch.long)
    portrait = Portrait("a", torch.rand(4, 512, 512), labels, labels > 0, model.zeros(), camera)
    sample = studio.portrait(portrait)
    assert sample.targets.kind.tolist() == [SOURCE]
    assert torch.equal(sample.labels.long(), labels)


def test_the_loss_falls(data):
    teacher = trainer(data, 24, targets=3)  # all there are, so that chance matters little
    teacher.pool.refresh()
    people = teacher.pool.members

    def psnr() -> tuple[float, float]:
        found = score.score(teacher.model, people, None)
        return found["raw"]["psnr"]["all"], found["refined"]["psnr"]["all"]

    before = psnr()
    for _ in range(24):
        teacher.advance(0.0)
    after = psnr()
    assert after[0] > before[0] + 0.25 and after[1] > before[1] + 0.25, (before, after)
    drawn = score.rows(teacher.averaged(), teacher.model, people[:1])
    assert len(drawn) == 2 * len(score.COLUMNS)


def test_the_refiner_learns_alone_on_pictures_that_are_drawn_once(data, monkeypatch):
    before = trainer(data, 1)
    torch.nn.init.normal_(before.model.decoder.uv.last.weight, std=0.02)  # channels that say something
    teacher = RefinerTrainer(before.model, before.pool, None, None, before.config)
    teacher.pool.refresh()
    kept = {name: p.clone() for name, p in teacher.model.named_parameters()}
    drawn = []
    monkeypatch.setattr(refining, "avatar_of", lambda *of: drawn.append(of) or avatar_of(*of))
    first = [float(teacher.advance(0.0)["refined"]) for _ in range(40)]
    assert len(drawn) == len(teacher.pool) == 2
    changed = {name for name, p in teacher.model.named_parameters() if not torch.equal(p, kept[name])}
    assert changed and all(name.startswith("refiner.") for name in changed)
    assert sum(first[-10:]) < 0.97 * sum(first[:10])


def test_a_run_that_was_stopped_ends_as_one_that_was_not(data, tmp_path):
    whole = trainer(data, 4)
    whole.run(tmp_path / "a.jsonl")
    first = trainer(data, 4)
    first.pool.refresh()
    for step in range(2):
        first.advance(step / 4)
    state = first.state()
    folder = checkpoints.write(tmp_path, state, first.averaged().files(step=2))
    assert checkpoints.newest(tmp_path) == folder
    second = trainer(data, 4)
    second.restore(checkpoints.read_state(folder))
    assert second.pool.names == whole.pool.names and second.step == 2
    second.run(tmp_path / "b.jsonl")
    ends = [t.state() for t in (whole, second)]
    for part in ("model", "mean"):
        for name, value in ends[0][part].items():
            assert torch.equal(value, ends[1][part][name]), name
    files = checkpoints.read_networks(folder)
    second.model.load(files)  # eight bits a weight: near, not equal
    (folder / "state.pt").write_bytes(b"something else")
    with pytest.raises(OmegaError, match="cannot be read"):
        checkpoints.read_state(folder)
    with pytest.raises(OmegaError, match="2 processes"):
        trainer(data, 4).restore(state | {"processes": [1, 2]})


def test_a_target_that_is_no_number_stops_the_run_by_name(data):
    teacher = trainer(data, 2, batch=4)
    teacher.pool.refresh()
    bad = teacher.pool.members[1]
    rgba = torch.full_like(bad.sample.targets.rgba, math.nan, dtype=torch.float32)
    targets = dataclasses.replace(bad.sample.targets, rgba=rgba)
    bad.sample = dataclasses.replace(bad.sample, targets=targets)
    before = {name: p.clone() for name, p in teacher.model.named_parameters()}
    with pytest.raises(NotFinite, match="person-12") as told:
        teacher.advance(0.0)
    assert isinstance(told.value, OmegaError) and told.value.samples == ["person-12"]
    assert all(torch.equal(p, before[name]) for name, p in teacher.model.named_parameters())


def test_too_few_samples_and_nobody_who_makes_them(data, tmp_path):
    with pytest.raises(OmegaError, match="waits for 9"):
        trainer(data, 2, at_least=9).run(tmp_path / "a.jsonl", more=lambda: False)


def test_side_views_fade_and_the_rate_warms_and_falls():
    assert mv_weight(0.0) == pytest.approx(1.0) and mv_weight(1.0) == pytest.approx(0.1)
    assert mv_weight(0.3) > mv_weight(0.6) and mv_weight(2.0) == mv_weight(1.0)
    config = LoopConfig(rate=1.0, warmup=10, decay_from=0.5)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 50, 0.5) == 1 and learning_rate(config, 50, 1.0) == pytest.approx(0.02)


def test_the_box_of_a_face():
    points = torch.tensor([[20.0, 30.0], [60.0, 40.0], [40.0, 62.0]])
    rows_from, rows_to, columns_from, columns_to = face_box(points, 100)
    assert rows_to - rows_from == columns_to - columns_from == 53  # 40 px wide, 15 % more at each side
    assert columns_from <= 14 and columns_to >= 66 and rows_from <= 20 and rows_to >= 72
    assert face_box(points - 60, 100) is None and face_box(points + torch.tensor([35.0, 0.0]), 100)[3] == 100


def test_groups_by_azimuth():
    groups = [score.group_of(NOVEL, perspective(a, 64, 0.2, 1.0)) for a in (0, -40, 60, -120, 150, 180)]
    assert groups == ["front", "front", "side", "side", "back", "back"]
    assert score.group_of(SOURCE, perspective(170.0, 64, 0.2, 1.0)) == "source"


def test_what_is_scored_is_never_trained_on(tmp_path):
    config = makers.MakerConfig(tmp_path, tmp_path, blends=tmp_path, score_heads=2, score_people=3)
    names = [name for name, _, _ in makers.scored(config)]
    assert len(names) == len(set(names)) == 2 * len(makers.HELD_OUT) + 3
    assert len(makers.scored(dataclasses.replace(config, blends=None))) == 3


def test_a_tiny_run_from_the_command_line(data, tmp_path, omega):
    folder, there = tmp_path / "run", tmp_path / "data"
    shutil.copytree(data, there)
    words = ["train", "--stage", "avatar", "--preset", "tiny", "--data", there, "--workers", 0,
             "--wait-for", 2, "-o", folder, "--device", "cpu"]  # fmt: skip
    done = omega(*words, "--steps", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "avatar_decoder.safetensors")
    assert {p.name for p in folder.iterdir()} >= {
        "avatar_encoder.safetensors", "avatar_decoder.safetensors", "avatar_refiner.safetensors",
        "base.json", "checkpoints", "config.json", "metrics.jsonl", "people.png", "scores.jsonl",
    }  # fmt: skip
    refused = omega(*words, "--steps", 3)
    assert refused.returncode == 1 and "--resume" in refused.stderr
    done = omega(*words, "--steps", 3, "--resume")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    states = sorted(p.parent.name for p in folder.glob("checkpoints/*/state.pt"))
    assert states == ["step-0000003"]
    assert json.loads((folder / "config.json").read_text())["config"]["size"] == 64
    polished = tmp_path / "refiner"
    words[words.index("avatar")], words[words.index(folder)] = "refiner", polished
    refused = omega(*words, "--steps", 2)
    assert refused.returncode == 2 and "--start" in refused.stderr
    done = omega(*words, "--steps", 2, "--start", folder)
    assert done.returncode == 0, done.stderr
    files = checkpoints.read_networks(polished)
    _, about = REFINER.from_bytes(files[REFINER.name], "refiner")
    assert about["decoder"] == hashlib.sha256(files[DECODER.name]).hexdigest()
    stood = checkpoints.read_networks(folder)
    for network in (ENCODER, DECODER):  # the same numbers, though the files say of another run
        nets = [network.from_bytes(of[network.name], "")[0].state_dict() for of in (stood, files)]
        assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())


def test_the_identity_network_is_asked_about_the_refined_face_where_it_is_seen():
    raw, refined, truth = torch.rand(3, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    refined.requires_grad_()
    drawn, known = Drawn(raw, refined, torch.ones(2, 1, 32, 32)), torch.ones(2, 1, 32, 32)
    known[:, :, 30:] = 0
    asked = []

    def identity(image, wanted, points):
        asked.append((image, wanted, points.shape))
        return (image - wanted).square().mean((1, 2, 3))

    points = torch.rand(2, 68, 2) * 32
    box = (4, 28, 4, 28)
    terms = target_terms(drawn, Wanted(truth, known, [box, box], [None, box], points), None, identity)
    image, wanted, shape = asked[0]  # of the second: the first is turned away
    assert torch.equal(image[0, :, :30], refined[1, :, :30])
    assert torch.equal(image[0, :, 30:], truth[1, :, 30:])
    assert torch.equal(wanted[0], truth[1]) and shape == (1, 5, 2)
    expected = (image - wanted).square().mean() / 2  # the mean over both targets
    assert terms["identity"].item() == pytest.approx(expected.item())
    zero = dict.fromkeys(("mv", "local"), torch.zeros(()))
    with_it, without = (total(terms | zero, Lambdas(identity=w), 1.0).item() for w in (0.1, 0.0))
    assert with_it - without == pytest.approx(0.1 * terms["identity"].item(), rel=1e-4)
    target_terms(drawn, Wanted(truth, known, [box, box], [None, None], points), None, identity)
    assert len(asked) == 1


def test_two_targets_count_as_the_mean_of_each_alone():
    raw, refined, truth = torch.rand(3, 2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    known = (torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(2)) > 0.3).float()
    points, boxes, looks = torch.rand(2, 68, 2) * 40, [(2, 30, 5, 33), None], [(0, 40, 0, 40), (3, 20, 8, 25)]
    perceptual = identity = lambda a, b, *_: (a - b).square().mean((1, 2, 3))

    def terms(which: slice) -> dict[str, float]:
        drawn = Drawn(raw[which], refined[which], torch.ones(2, 1, 40, 40)[which])
        wanted = Wanted(truth[which], known[which], looks[which], boxes[which], points[which])
        return {k: float(v) for k, v in target_terms(drawn, wanted, perceptual, identity).items()}

    first, second, both = (terms(which) for which in (slice(0, 1), slice(1, 2), slice(0, 2)))
    assert first["box"] > 0.1 and first["identity"] > 0.01 and second["box"] == second["identity"] == 0
    for name, value in both.items():
        assert value == pytest.approx((first[name] + second[name]) / 2, rel=1e-5), name


def test_looks_lie_on_the_head_and_have_all_sizes():
    generator = torch.Generator().manual_seed(0)
    looks = [random_look((100, 400, 50, 300), 512, generator) for _ in range(300)]
    sides = [bottom - top for top, bottom, _, _ in looks]
    assert all(right - left == side for side, (_, _, left, right) in zip(sides, looks, strict=True))
    assert min(sides) < LOOK + 5 and max(sides) > 290 and min(sides) >= LOOK and max(sides) <= 300
    for top, bottom, left, right in looks:
        assert 0 <= top < bottom <= 512 and 0 <= left < right <= 512
        assert 100 <= (top + bottom) / 2 <= 400
    assert random_look((0, 64, 0, 64), 64, generator) == (0, 64, 0, 64)  # a small picture is seen whole


def test_processes_share_out_the_samples(data, tmp_path):
    (source,) = (data / "samples").glob("person-11.npz")
    for k in range(12):
        (tmp_path / f"person-{k}.npz").hardlink_to(source)
    pools = [AvatarPool(tmp_path, 8, "cpu", (r, 3)) for r in range(3)]
    for pool in pools:
        while pool.refresh():
            pass
    names = [name for pool in pools for name in pool.names]
    assert len(names) == len(set(names)) == 12 and all(len(pool) for pool in pools)


@pytest.mark.parametrize(
    ("here", "gpus", "local", "place", "backend"),
    [(2, 2, 1, "cuda:1", "nccl"), (4, 2, 3, "cuda:1", "gloo"), (3, 1, 2, "cuda:0", "gloo")],
)
def test_processes_beyond_the_gpus_share_them(monkeypatch, here, gpus, local, place, backend):
    """NCCL refuses two processes on one GPU."""
    values = {"RANK": local, "WORLD_SIZE": here, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": here}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    found = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: found.append(str(device)))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda name, **_: found.append(name))
    assert torchrun.joined("cuda") == (torch.device(place), local, here)
    assert found == [place, backend]
