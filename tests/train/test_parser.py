"""Training the face parser: drawn people with labels, what photographs allow, a loss on sets, a short run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from train.faces import painted, portrait

from omega_cli.avatar.layout import PARSING_LABELS
from omega_cli.console import NullReport
from omega_cli.track import parsing as labels
from omega_cli.track import parsing_checkpoint
from omega_cli.track.parsing_network import ParserNet
from omega_cli.train import stage
from omega_cli.train.config import TrainConfig
from omega_cli.train.parser import augment, compare, drawn, loop, partial, score, spoil
from omega_cli.train.parser.loss import RARE, allowed, believed, partial_loss, pixel_weights
from omega_cli.train.parser.run import TINY_NET

SIZE = 64


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Pictures this small are faster without the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def people() -> torch.Tensor:  # [4, PLANES, SIZE, SIZE]: two people, two pictures each
    with torch.no_grad():
        studio = drawn.Studio(SIZE)
        return torch.cat([studio.samples(seed, False, 2) for seed in (3, 11)])


def test_people_are_drawn_with_their_labels_the_same_each_time(people):
    with torch.no_grad():
        again = drawn.Studio(SIZE).samples(11, False, 2)
    assert torch.equal(again, people[2:]) and not torch.equal(people[2], people[3])
    alpha, number = people[:, 3], people[:, 4]
    assert torch.equal(number > 0, (alpha > 127) & (number > 0))  # nothing of a person where it is empty
    assert float(((alpha > 250) & (number == 0)).float().mean()) < 0.01
    for one in number:
        assert {labels.SKIN, labels.NOSE, labels.LOWER_LIP} <= set(one.unique().tolist())
        high = torch.nonzero((one > 0).any(1))[0]
        face = torch.nonzero(torch.isin(one, torch.tensor(labels.FACE_LABELS)).any(1))
        assert 0.15 * SIZE < float(face[-1] - face[0]) < 0.7 * SIZE and float(high) < 0.5 * SIZE


def test_a_lens_is_labelled_and_darkened_but_not_the_hair_before_it():
    sample = torch.full((drawn.PLANES, 32, 32), 200, dtype=torch.uint8)
    sample[4] = labels.SKIN
    sample[4, :16] = labels.HAIR
    rim = np.array([(8, 8), (24, 8), (24, 24), (8, 24)], float)
    out = drawn.with_lenses(sample, [rim], torch.zeros(3), 0.5)
    assert out[4, 20, 16] == labels.GLASSES and out[0, 20, 16] == 100
    assert out[4, 12, 16] == labels.HAIR and torch.equal(out[:, :16], sample[:, :16])
    assert torch.equal(out[:, 28:], sample[:, 28:])


def test_a_photograph_allows_what_landmarks_and_matte_know():
    one = portrait()
    bits = partial.allowed_labels(one)

    def at(x: float, y: float) -> set[str]:
        return {n for i, n in enumerate(PARSING_LABELS) if bits[int(y), int(x)] >> i & 1}

    def of(*idx: int) -> set[str]:
        return at(*one.points[list(idx)].mean(0))

    assert at(40, 40) == {"background"} and at(5, 5) == set() and at(5, 280) == set()
    assert of(13, 0) == {"upper_lip"} and of(14, 17) == {"lower_lip"} and of(1, 2) == {"nose"}
    assert of(159, 145) == {"eyes", "glasses"} and of(52, 105) == {"brows", "glasses"}
    assert of(200) == {"skin"} and of(50, 101) == {"skin", "glasses"}
    assert of(9, 107, 336) <= {"skin", "glasses"}  # skin of whatever colour, this far inside
    assert at(144, one.points[10, 1] - 14) == set()  # one grey for all: a bald head, or grey hair
    assert at(144, 280) == set()  # grey as the skin is: a neck, or a shirt of that colour
    assert (bits[~one.photo] == 0).all()
    assert partial.credible(one) and not partial.credible(replace(one, matte=0.5 * one.matte))


def test_colours_find_the_hairline_and_a_fringe():
    one, line = painted(False)
    bits = partial.allowed_labels(one)
    top, forehead = bits[int(line) - 14, 120:168], bits[int(line) + 8, 120:168]
    glasses = partial.bits(labels.GLASSES)
    assert (top == partial.bits(labels.HAIR, labels.HAT)).all()
    assert (forehead & ~glasses == 1 << labels.SKIN).all()
    assert not (bits[250:] >> labels.HAIR & 1).any()  # a shirt of that colour hangs on no hair
    assert (bits[280, 60:80] == 1 << labels.CLOTH).all()
    fringed, line = painted(True)
    bits = partial.allowed_labels(fringed)
    hair = partial.bits(labels.HAIR, labels.HAT)
    assert (bits[int(line) - 14, 120:168] & ~glasses == hair).mean() > 0.6
    x, y = fringed.points[[52, 105]].mean(0).astype(int)
    assert bits[y, x] == 0  # whether brows show through it is not known


def test_colours_do_not_tell_hair_of_the_skins_colour_from_skin():
    one = replace(portrait(), rgb=painted(False)[0].rgb)
    same = replace(one, rgb=np.where(one.rgb.max(2, keepdims=True) < 1, 0, one.rgb[150:151]))
    told = partial.skin_or_hair(same, partial.places(same))
    assert not told.told and float(told.odds.min()) == 0 and float(told.odds.max()) > partial.CLEAR


def test_the_loss_is_the_probability_of_the_allowed_set():
    logits = torch.randn(2, labels.LABELS, 3, 3, dtype=torch.double)
    bits = torch.full((2, 3, 3), partial.bits(labels.SKIN, labels.HAIR))
    bits[1] = 0
    p = logits.softmax(1)
    wanted = -(p[0, labels.SKIN] + p[0, labels.HAIR]).log().mean()
    assert float(partial_loss(logits, bits)) == pytest.approx(float(wanted), rel=1e-5)
    common = partial.EVERY - partial.bits(*RARE)
    logits[:, list(RARE)] = -50
    assert float(partial_loss(logits, bits * 0)) == 0  # nothing known, nothing learned
    assert float(partial_loss(logits, bits * 0 + common)) == pytest.approx(0, abs=1e-6)
    either = torch.tensor([[[partial.bits(labels.SKIN, labels.GLASSES)]]])
    both = torch.full((1, labels.LABELS, 1, 1), -50.0)
    both[0, [labels.SKIN, labels.GLASSES]] = 0.0
    both.requires_grad_(True)
    partial_loss(both, either).backward()
    assert both.grad is not None and float(both.grad[0, labels.GLASSES]) > 0.4  # spectacles are rare
    only = torch.tensor([[[partial.bits(labels.GLASSES)]]])
    assert float(partial_loss(both.detach(), only)) == pytest.approx(np.log(2), rel=1e-4)
    sure = torch.tensor([[[partial.bits(labels.EARS), partial.bits(labels.EARS, labels.SKIN), 0]]])
    assert pixel_weights(sure).flatten().tolist() == [2.5, 1.0, 0.0]
    assert allowed(sure)[0, :, 0, 1].nonzero().flatten().tolist() == [labels.SKIN, labels.EARS]


def test_a_teacher_narrows_what_it_is_sure_of_and_doubts_a_wrong_matte():
    logits = torch.zeros(1, labels.LABELS, 1, 4)
    logits[0, labels.HAIR] = torch.tensor([9.0, 1.0, 9.0, 9.0])
    two = partial.bits(labels.HAIR, labels.SKIN)
    bits = torch.tensor([[[two, two, 0, partial.bits(labels.BACKGROUND)]]])
    told = believed(logits, bits, 0.8, 0.05)[0, 0].tolist()
    assert told == [1 << labels.HAIR, two, 1 << labels.HAIR, 0]


def test_a_picture_and_its_labels_move_together(people):
    torch.manual_seed(0)
    rgb = (people[:, 4:5] == labels.HAIR).float().repeat(1, 3, 1, 1)
    out, bits = augment.moved(rgb, 1 << people[:, 4].int(), SIZE, (0.8, 1.2), 10.0, 0.05)
    hair = (bits == 1 << labels.HAIR)[:, None]
    assert float((hair & (out[:, :1] > 0.5)).sum() / (hair | (out[:, :1] > 0.5)).sum()) > 0.93
    batch = augment.of_people(people, SIZE, None)
    assert float(batch.seen.min()) >= 0 and float(batch.seen.max()) <= 1
    assert batch.seen.shape == (4, 3, SIZE, SIZE) and not torch.equal(batch.seen, batch.clean)
    gentle = torch.rand(2, 3, 16, 16)
    assert torch.allclose(spoil.blurred(gentle, torch.zeros(2)), gentle, atol=1e-6)
    flat = spoil.blurred(torch.full((1, 3, 16, 16), 0.3), torch.tensor([2.0]))
    assert torch.allclose(flat, torch.full_like(flat, 0.3), atol=1e-5)


def test_the_loss_falls_on_people_and_photographs(people):
    torch.manual_seed(0)
    one = portrait()
    matte = (255 * one.matte).astype(np.uint8)[..., None]
    photo = torch.from_numpy(np.concatenate([one.rgb, matte], 2)).permute(2, 0, 1)[None]
    bits = torch.from_numpy(partial.allowed_labels(one))[None]
    net, config = ParserNet(TINY_NET), loop.LoopConfig(size=SIZE)
    batch = augment.joined(
        [augment.of_people(people, SIZE, None), augment.of_photographs(photo, bits, SIZE, None)]
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    totals = []
    for _ in range(15):
        terms = loop.batch_loss(net, None, batch, len(people), config)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        totals.append(float(terms["total"].detach()))
    assert totals[-1] < 0.7 * totals[0] and set(terms) == {"people", "photos", "total"}
    taught = loop.batch_loss(net, net.eval(), batch, len(people), config)
    assert torch.isfinite(taught["total"])


def test_agreement_is_counted_where_the_truth_is_known():
    truth = torch.full((4, 4), labels.SKIN)
    truth[:2], truth[0] = labels.HAIR, score.UNKNOWN
    found = torch.where(truth == labels.HAIR, labels.NOSE, labels.SKIN)
    table = score.score(lambda _: found, [(torch.zeros(3, 4, 4), truth)])
    assert table["skin"]["all"] == 1 and table["hair"]["all"] == 0 and table["person"]["all"] == 1
    assert table["face"]["all"] == pytest.approx(8 / 12, abs=1e-3) and "cloth" not in table
    assert score.labels_of(torch.tensor([0, 1, 2, 3, 1 << 14])).tolist() == [255, 0, 1, 255, 14]
    assert any("skin" in line for line in compare.lines(table))
    assert len(compare.COLOURS) == labels.LABELS


def test_a_tiny_run_writes_weights_scores_and_its_settings(tmp_path):
    config = TrainConfig(stage="parser", preset="tiny", seconds=1.0, workers=1)
    weights = stage.run(config, tmp_path / "run", report=NullReport())
    assert weights == tmp_path / "run" / "face_parser.safetensors"
    net, about = parsing_checkpoint.from_bytes(weights.read_bytes(), "here")
    assert about["trained_on"] == ["studio/*"] and net.config == TINY_NET
    row = json.loads((tmp_path / "run" / "scores.jsonl").read_text().splitlines()[-1])
    assert row["step"] == -1 and 0 <= row["person"]["person"]["all"] <= 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["size"] == 64
