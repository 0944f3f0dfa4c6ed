"""The avatar networks in the stages, from file to file: nothing at first, then something, not a wrong one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import avatar_networks as nets
import pytest
import torch

from omega_cli import weights
from omega_cli.avatar import layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import Report
from omega_cli.decode.checkpoint import DECODER
from omega_cli.decode.config import DecodeConfig
from omega_cli.errors import OmegaError
from omega_cli.evaluate import stage as evaluation
from omega_cli.evaluate.config import ABLATIONS, EvaluateConfig
from omega_cli.gaussians.model import COLOURS
from omega_cli.generate import pipeline
from omega_cli.render.checkpoint import REFINER
from omega_cli.render.config import RenderConfig
from omega_cli.splat_uv.checkpoint import ENCODER
from omega_cli.splat_uv.encoder import EncoderConfig
from omega_cli.splat_uv.features import CHANNELS


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.write(tmp_path_factory.mktemp("untrained"), nets.model(awake=False))


@pytest.fixture(scope="session")
def awake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.write(tmp_path_factory.mktemp("awake"), nets.model(awake=True))


@pytest.fixture(autouse=True)
def omega_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if omega came without avatar networks, whatever it comes with."""
    entries = {name: entry for name, entry in weights.registry().items() if name not in nets.NAMES}
    monkeypatch.setattr(weights, "registry", lambda: entries)


@pytest.fixture
def avatar(toy_avatar: Avatar) -> Avatar:
    nets.give_mesh(toy_avatar)
    return toy_avatar


def file(folder: Path, name: str) -> str:
    return str(folder / name)


def learned(avatar: Avatar, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """uv/ and gaussians/ with the networks of a folder."""
    uv = nets.splat_uv(avatar, file(folder, layout.AVATAR_ENCODER))
    return uv, nets.decode(avatar, net=file(folder, layout.AVATAR_DECODER))


def in_registry(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """omega comes with these files of the folder."""
    entries = {
        name: weights.Entry(name, name, "test", nets.NAMES[name], "MIT", "here", {"kind": "packaged"})
        for name in names
    }
    everything = {**weights.registry(), **entries}
    monkeypatch.setattr(weights, "registry", lambda: everything)
    monkeypatch.setenv("OMEGA_WEIGHTS", str(folder))


def test_untrained_networks_give_the_analytic_files_bit_for_bit(avatar: Avatar, untrained: Path) -> None:
    uv = nets.splat_uv(avatar, "none")
    new_uv = nets.splat_uv(avatar, file(untrained, layout.AVATAR_ENCODER))
    C = len(CHANNELS)
    assert uv["features"].shape[0] == C and new_uv["features"].shape[0] == C + 4
    assert bool(new_uv["features"][C:].any()) and torch.equal(new_uv["weight"], uv["weight"])
    # the splat adds up in bands of as many rows as fit a cache: with more channels in another order
    assert torch.allclose(new_uv["features"][:C], uv["features"], rtol=1e-5, atol=1e-6)

    base = nets.decode(avatar, source="analytic")
    pictures = nets.render(avatar)
    ply = (avatar.gaussians / layout.CANONICAL_PLY).read_bytes()
    sheet = (avatar.gaussians / layout.SHEET).read_bytes()

    made = nets.decode(avatar, net=file(untrained, layout.AVATAR_DECODER))
    assert made.keys() == base.keys()
    for name, tensor in made.items():
        if name.endswith("colors"):
            assert tensor.shape[1] == COLOURS and not tensor[:, 3:].any()
            tensor = tensor[:, :3]
        assert torch.equal(tensor, base[name]), name
    assert (avatar.gaussians / layout.CANONICAL_PLY).read_bytes() == ply
    assert (avatar.gaussians / layout.SHEET).read_bytes() == sheet
    assert nets.render(avatar) == pictures
    assert nets.render(avatar, refiner=file(untrained, layout.AVATAR_REFINER)) == pictures


def test_awake_networks_change_everything_and_always_alike(avatar: Avatar, awake: Path) -> None:
    nets.splat_uv(avatar, "none")
    base = nets.decode(avatar, source="analytic")
    analytic = nets.render(avatar)
    refiner = file(awake, layout.AVATAR_REFINER)
    _, made = learned(avatar, awake)
    raw, refined = nets.render(avatar), nets.render(avatar, refiner=refiner)
    for name in ("quats", "scales", "opacities"):
        assert not torch.equal(made[f"uv.{name}"], base[f"uv.{name}"]), name
    assert bool(made["uv.local_offsets"].any()) and bool(made["vertex.colors"][:, 3:].any())
    assert all(len({analytic[n], raw[n], refined[n]}) == 3 for n in ("000000.png", "000001.png", "sheet.png"))
    again = learned(avatar, awake)[1]
    assert all(torch.equal(again[name], tensor) for name, tensor in made.items())
    assert nets.render(avatar, refiner=refiner) == refined
    for folder, name in (
        (avatar.uv, layout.AVATAR_ENCODER),
        (avatar.gaussians, layout.AVATAR_DECODER),
        (avatar.renders / layout.TURNTABLE, layout.AVATAR_REFINER),
    ):
        digest = f"sha256:{weights.sha256_of(awake / name)}"
        assert record.read_stage(folder)["weights"][file(awake, name)] == digest
        assert record.is_fresh(avatar, folder)


def test_a_network_of_ones_own_that_changes_makes_its_folder_stale(
    avatar: Avatar, untrained: Path, tmp_path: Path
) -> None:
    run = nets.write(tmp_path / "run", nets.model(awake=False))
    learned(avatar, run)
    assert record.is_fresh(avatar, avatar.gaussians)
    nets.write(run, nets.model(awake=True, seed=3))
    found = record.status(avatar, avatar.gaussians)
    assert found.state == "stale" and layout.AVATAR_DECODER in found.reasons[0]


def test_what_comes_with_omega_is_used_unless_told_otherwise(
    avatar: Avatar, awake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets.splat_uv(avatar, "auto")
    assert nets.decode(avatar)["uv.colors"].shape[1] == 3  # nothing is there: analytic
    in_registry(monkeypatch, awake, *nets.NAMES)
    nets.splat_uv(avatar, "auto")
    assert nets.decode(avatar)["uv.colors"].shape[1] == COLOURS
    refined = nets.render(avatar)
    assert record.read_stage(avatar.gaussians)["weights"].keys() == {"open_head", "avatar_decoder"}
    assert nets.render(avatar, refine=False)["000000.png"] != refined["000000.png"]
    assert nets.decode(avatar, source="analytic")["uv.colors"].shape[1] == 3
    report = Report(quiet=True)
    nets.render(avatar, report)
    found = record.read_stage(avatar.renders / layout.TURNTABLE)
    assert found["metrics"]["refined"] is False and not report.warnings  # an analytic avatar is not refined


def test_asking_for_what_is_not_there_is_an_error(avatar: Avatar, tmp_path: Path) -> None:
    nets.splat_uv(avatar, "none")
    with pytest.raises(OmegaError, match="without an avatar decoder") as caught:
        nets.decode(avatar, source="omega")
    assert "--source analytic" in caught.value.hint and not avatar.gaussians.exists()
    nets.decode(avatar)
    with pytest.raises(OmegaError, match="without an avatar refiner"):
        nets.render(avatar, refine=True)
    missing = str(tmp_path / "nowhere.safetensors")
    with pytest.raises(OmegaError, match=r"no avatar encoder .*nowhere"):
        nets.splat_uv(avatar, missing)
    with pytest.raises(OmegaError, match=r"no avatar decoder .*nowhere"):
        nets.decode(avatar, net=missing)
    with pytest.raises(OmegaError, match=r"no avatar refiner .*nowhere"):
        nets.render(avatar, refiner=missing)
    with pytest.raises(ValueError, match="analytic"):
        DecodeConfig(source="analytic", net=missing)
    with pytest.raises(ValueError, match="no-refine"):
        RenderConfig(refine=False, refiner=missing)


def test_one_network_is_not_taken_for_another(awake: Path, tmp_path: Path) -> None:
    own = {ENCODER: layout.AVATAR_ENCODER, DECODER: layout.AVATAR_DECODER, REFINER: layout.AVATAR_REFINER}
    (tmp_path / "half").write_bytes((awake / layout.AVATAR_REFINER).read_bytes()[:-50])
    for kind, name in own.items():
        found = kind.find(file(awake, name))
        assert found is not None and found.about["trained_on"] == ["studio/*"]
        assert found is kind.find(file(awake, name))  # read once
        for other in (*(awake / n for n in own.values() if n != name), tmp_path / "half"):
            with pytest.raises(OmegaError, match=f"is no {kind.words}"):
                kind.find(str(other))


def test_networks_that_do_not_belong_together_are_refused(
    avatar: Avatar, awake: Path, tmp_path: Path
) -> None:
    other = nets.write(tmp_path / "other", nets.model(awake=True, seed=1))
    wide = dataclasses.replace(nets.CONFIG, encoder=EncoderConfig((8, 8, 16), 6))
    wider = nets.write(tmp_path / "wider", nets.model(awake=True, config=wide))
    learned(avatar, awake)
    with pytest.raises(OmegaError, match="trained with another encoder") as caught:
        nets.decode(avatar, net=file(other, layout.AVATAR_DECODER))
    assert "splat-uv" in caught.value.hint
    with pytest.raises(OmegaError, match="maps of 21 channels, this one has 19"):
        nets.decode(avatar, net=file(wider, layout.AVATAR_DECODER))
    with pytest.raises(OmegaError, match="another network than the refiner"):
        nets.render(avatar, refiner=file(other, layout.AVATAR_REFINER))
    nets.splat_uv(avatar, "none")
    nets.decode(avatar, source="analytic")
    with pytest.raises(OmegaError, match="3 colours, a refiner reads 32") as caught:
        nets.render(avatar, refiner=file(awake, layout.AVATAR_REFINER))
    assert "decode" in caught.value.hint


def test_another_head_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    net = nets.model(awake=True)
    net.head = dataclasses.replace(net.head, sha256="0" * 64)
    run = nets.write(tmp_path / "run", net)
    with pytest.raises(OmegaError, match="another head"):
        learned(avatar, run)
    short = nets.model(awake=True)
    short.decoder.vertex.code = torch.nn.Parameter(short.decoder.vertex.code[:-1])
    config = short.decoder.config
    short.decoder.config = dataclasses.replace(config, vertices=config.vertices - 1)
    run = nets.write(tmp_path / "short", short)
    with pytest.raises(OmegaError, match=f"{config.vertices - 1} vertices, this one has {config.vertices}"):
        learned(avatar, run)


def test_a_network_that_nobody_asked_for_and_that_does_not_fit_is_a_warning(
    avatar: Avatar, awake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_registry(monkeypatch, awake, "avatar_decoder")
    nets.splat_uv(avatar, "none")
    report = Report(quiet=True)
    assert nets.decode(avatar, report)["uv.colors"].shape[1] == 3
    assert "maps of 19 channels, this one has 15" in report.warnings[0]
    assert record.read_stage(avatar.gaussians)["warnings"]


def test_one_choice_sets_all_stages(awake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pipeline.network_settings(str(awake))
    assert own["splat-uv"] == {"encoder": file(awake, layout.AVATAR_ENCODER)}
    assert own["decode"]["net"] == file(awake, layout.AVATAR_DECODER)
    assert own["render"] == {"refine": True, "refiner": file(awake, layout.AVATAR_REFINER)}
    half = tmp_path / "half"
    half.mkdir()
    (half / layout.AVATAR_DECODER).write_bytes((awake / layout.AVATAR_DECODER).read_bytes())
    assert pipeline.network_settings(str(half))["splat-uv"] == {"encoder": "none"}
    assert pipeline.network_settings(str(half))["render"]["refine"] is False
    with pytest.raises(OmegaError, match="no avatar network"):
        pipeline.network_settings(str(tmp_path))
    for choice in ("auto", "none", str(awake)):
        for step in pipeline.STEPS:  # each is a setting of its stage, and allowed
            step.config_class()(**pipeline.network_settings(choice).get(step.name, {}))


def test_the_table_has_rows_for_the_networks_where_there_are_any(
    awake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(evaluation.variants_of(EvaluateConfig())) == {"full"}
    assert set(evaluation.variants_of(EvaluateConfig(ablations=True))) == set(ABLATIONS)
    rows = evaluation.variants_of(EvaluateConfig(ablations=True, networks=str(awake)))
    assert set(rows) == {*ABLATIONS, "no avatar network", "raw"}
    assert rows["raw"]["decode"]["net"] and rows["raw"]["render"] == {"refine": False, "refiner": ""}
    assert rows["no avatar network"]["decode"] == {"source": "analytic", "net": ""}
    assert rows["single view"]["splat-uv"]["single_view"] is True and rows["single view"]["decode"]["net"]
    json.dumps(rows)
    in_registry(monkeypatch, awake, *nets.NAMES)
    assert "raw" in evaluation.variants_of(EvaluateConfig(ablations=True))


def test_files_hold_the_networks_and_say_what_they_belong_to(awake: Path) -> None:
    net, again = nets.model(awake=True), nets.model(awake=False, seed=5)
    files = net.files(step=7)
    again.load(files)
    assert again.files(step=7).keys() == files.keys() == nets.NAMES.keys()
    for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert float((a - b).abs().max()) <= 0.005 * float(a.abs().max()) + 1e-6
    _, about = DECODER.from_bytes(files["avatar_decoder"], "here")
    assert about["step"] == 7 and about["head"] == net.head.sha256 and len(about["encoder"]) == 64
