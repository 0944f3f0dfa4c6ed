"""DINOv3 as the encoder: a real folder of a small one, read from disk; frozen, silent at first, and named."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import avatar_networks as nets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from omega_cli import weights
from omega_cli.avatar import codecs, layout, record
from omega_cli.avatar.layout import Avatar
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.gaussians.model import COLOURS
from omega_cli.splat_uv import stage
from omega_cli.splat_uv.checkpoint import ENCODER, read_backbone
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.dino import DinoConfig, DinoEncoder

transformers = pytest.importorskip("transformers", minversion="4.56", reason="pip install -e .[dino]")

SMALL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_register_tokens": 4, "layerscale_value": 0.5, "initializer_range": 0.2, "image_size": 64,
}  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv3 ViT as Hugging Face has them, but small and with random weights."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("weights") / "dinov3"
    transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**SMALL)).save_pretrained(out)
    return out


@pytest.fixture(scope="session")
def pictures(astronaut: Path, grace_hopper: Path) -> Tensor:  # [2, 3, 64, 96]
    boxes = ((astronaut, (96, 0, 480, 256)), (grace_hopper, (0, 20, 512, 361)))
    small = [np.asarray(Image.open(p).convert("RGB").crop(box).resize((96, 64))) for p, box in boxes]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def encoder(folder: Path, outputs: int = 16, seed: int = 0) -> DinoEncoder:
    backbone, _ = read_backbone(str(folder))
    torch.manual_seed(seed)
    return DinoEncoder(DinoConfig.of(backbone, channels=16, outputs=outputs), backbone).eval()


def test_the_maps_are_those_of_the_model(folder: Path, pictures: Tensor) -> None:
    """Each block's patches, without class and register tokens, in their rows and columns."""
    backbone, _ = read_backbone(str(folder))
    assert DinoConfig.of(backbone).blocks == (0, 1, 2, 3)
    model = transformers.DINOv3ViTModel.from_pretrained(folder).eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        answer = model((pictures - mean[:, None, None]) / deviation[:, None, None], output_hidden_states=True)
        blocks = [model.norm(hidden) for hidden in answer.hidden_states[1:-1]] + [answer.last_hidden_state]
    found = backbone.maps(pictures, (0, 1, 2, 3))
    for block, tokens in zip(found, blocks, strict=True):
        assert block.shape == (2, 32, 4, 6)
        for row in range(4):
            for column in range(6):
                expected = tokens[:, 1 + 4 + 6 * row + column]
                assert torch.allclose(block[:, :, row, column], expected, atol=1e-5)


def test_the_names_of_the_published_files(folder: Path, pictures: Tensor, tmp_path: Path) -> None:
    """Facebook's files say layer.0 where some versions of transformers say model.layer.0."""
    other = shutil.copytree(folder, tmp_path / "published")
    tensors = load_file(folder / "model.safetensors")
    renamed = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    assert any(name.startswith("layer.0.") for name in renamed)
    save_file(renamed, other / "model.safetensors", {"format": "pt"})
    (expected,), (found,) = (read_backbone(str(f))[0].maps(pictures, (3,)) for f in (folder, other))
    assert torch.equal(found, expected)


@torch.no_grad()
def test_views_are_encoded_one_by_one_and_nothing_lies_outside_the_mask(
    folder: Path, pictures: Tensor
) -> None:
    net = encoder(folder, outputs=6)
    mask = torch.ones(2, 1, 64, 96)
    mask[..., :20] = 0
    out = net(pictures, mask)
    assert out.shape == (2, 6, 64, 96) and not out[..., :20].any() and out[..., 20:].std() > 0.01
    assert torch.allclose(out[1:], net(pictures[1:], mask[1:]), atol=1e-5)
    assert (out[0] - out[1]).abs().mean() > 0.01


@torch.no_grad()
def test_what_is_finer_than_a_patch_and_what_is_far_away_are_both_heard(
    folder: Path, pictures: Tensor
) -> None:
    net, mask = encoder(folder), torch.ones(1, 1, 64, 96)
    before = net(pictures[:1], mask)
    dotted = pictures[:1].clone()
    dotted[..., 30:32, 30:32] += 0.5
    near = (net(dotted, mask) - before)[0].abs().sum(0)
    assert near[28:34, 28:34].mean() > 3 * near[28:34, 40:46].mean()  # a dot is where it is
    assert near[60:, 90:].mean() > 0  # attention reaches everywhere


def test_the_pyramid_learns_and_the_transformer_does_not(folder: Path, pictures: Tensor) -> None:
    net = encoder(folder).train()
    assert net.backbone is not None and not net.backbone.net.training
    before = {name: tensor.clone() for name, tensor in net.backbone.net.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(2):  # what blocks add is silent at the first step
        optimizer.zero_grad()
        net(pictures, torch.ones(2, 1, 64, 96)).square().mean().backward()
        optimizer.step()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    after = net.backbone.net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(p.grad is None and not p.requires_grad for p in net.backbone.net.parameters())
    held = {id(p) for p in net.backbone.net.parameters()}
    assert not held & {id(p) for p in net.parameters()} and not set(net.state_dict()) & set(before)
    twin = copy.deepcopy(net)  # training averages a copy
    assert twin.backbone is net.backbone and twin.last.weight is not net.last.weight


def test_a_file_holds_the_pyramid_and_names_its_transformer(folder: Path, pictures: Tensor) -> None:
    net = encoder(folder)
    data = ENCODER.to_bytes(net, step=3)
    sha256 = weights.sha256_of(folder / "model.safetensors")
    assert sha256.encode() in data[:4096] and len(data) < 120_000
    again, about = ENCODER.from_bytes(data, "test")
    assert isinstance(again, DinoEncoder) and again.config == net.config and about["step"] == 3
    assert again.config.backbone == sha256
    with pytest.raises(RuntimeError, match="attach a backbone"):
        again(pictures, torch.ones(2, 1, 64, 96))
    mask = torch.ones(2, 1, 64, 96)
    with torch.no_grad():
        expected, found = net(pictures, mask), again.attach(read_backbone(str(folder))[0])(pictures, mask)
    assert (found - expected).abs().mean() < 0.02 * expected.abs().mean()


# --- in the stages ----------------------------------------------------------------------------------------


@pytest.fixture
def avatar(toy_avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> Avatar:
    """With a mesh, and as if omega came without avatar networks."""
    entries = {name: entry for name, entry in weights.registry().items() if name not in nets.NAMES}
    monkeypatch.setattr(weights, "registry", lambda: entries)
    nets.give_mesh(toy_avatar)
    return toy_avatar


def run_of(folder: Path, out: Path, *, awake: bool) -> Path:
    """The files of a training run whose encoder is DINOv3's."""
    model = nets.model(awake=awake)
    model.encoder = encoder(folder, outputs=4)  # type: ignore[assignment]
    return nets.write(out, model)


def splat_uv(avatar: Avatar, run: Path, backbone: str) -> dict[str, Tensor]:
    encoder = str(run / layout.AVATAR_ENCODER)
    config = SplatUVConfig(uv_size=nets.SIZE, encoder=encoder, encoder_backbone=backbone)
    stage.run(avatar, config, report=NullReport(), force=True)
    return codecs.load_tensors(avatar.uv / layout.FEATURES)


def test_an_untrained_avatar_is_the_analytic_one_pixel_by_pixel(
    avatar: Avatar, folder: Path, tmp_path: Path
) -> None:
    plain = nets.splat_uv(avatar, "none")["features"]
    run = run_of(folder, tmp_path / "run", awake=False)
    features = splat_uv(avatar, run, str(folder))["features"]
    C = len(plain)
    assert features.shape[0] == C + 4 and features[C:].std() > 0.01
    # the splat adds up in bands of as many rows as fit a cache: with more channels in another order
    assert torch.allclose(features[:C], plain, rtol=1e-5, atol=1e-6)
    base, pictures = nets.decode(avatar, source="analytic"), nets.render(avatar)
    made = nets.decode(avatar, net=str(run / layout.AVATAR_DECODER))
    for name, tensor in made.items():
        if name.endswith("colors"):
            assert tensor.shape[1] == COLOURS and not tensor[:, 3:].any()
            tensor = tensor[:, :3]
        assert torch.equal(tensor, base[name]), name
    assert nets.render(avatar) == pictures
    assert nets.render(avatar, refiner=str(run / layout.AVATAR_REFINER)) == pictures


def test_a_trained_avatar_listens_and_its_record_names_both_files(
    avatar: Avatar, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder dinov3 beside the other weights is found without being named."""
    monkeypatch.setenv("OMEGA_WEIGHTS", str(folder.parent))
    run = run_of(folder, tmp_path / "run", awake=True)
    splat_uv(avatar, run, "")
    recorded = record.read_stage(avatar.uv)["weights"]
    for file in (run / layout.AVATAR_ENCODER, folder / "model.safetensors"):
        assert recorded[str(file)] == f"sha256:{weights.sha256_of(file)}"
    assert record.is_fresh(avatar, avatar.uv)
    heard = nets.decode(avatar, net=str(run / layout.AVATAR_DECODER))
    other = nets.model(awake=True)
    other.encoder = encoder(folder, outputs=4, seed=9)  # type: ignore[assignment]
    nets.write(tmp_path / "other", other)
    splat_uv(avatar, tmp_path / "other", str(folder))
    again = nets.decode(avatar, net=str(tmp_path / "other" / layout.AVATAR_DECODER))
    assert not torch.equal(heard["uv.colors"], again["uv.colors"])


def test_views_that_are_no_whole_patches_are_refused(avatar: Avatar, folder: Path, tmp_path: Path) -> None:
    run = run_of(folder, tmp_path / "run", awake=False)
    for azimuth in layout.AZIMUTHS:
        for name, channels in ((layout.view_rgb(azimuth), 3), (layout.view_mask(azimuth), 1)):
            image = codecs.load_image(avatar.views / name, channels)
            codecs.save_image(avatar.views / name, image[:, :56, :56])
    with pytest.raises(OmegaError, match="56×56 px; the avatar encoder needs sides that are multiples of 16"):
        splat_uv(avatar, run, str(folder))


def test_a_folder_that_is_missing_or_of_something_else_is_named(
    avatar: Avatar, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(folder, tmp_path / "run", awake=False)
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path / "none"))

    def refused(path: str, words: str, hint: str = "--encoder-backbone") -> None:
        with pytest.raises(OmegaError, match=words) as caught:
            splat_uv(avatar, run, path)
        assert hint in caught.value.hint

    refused("", "DINOv3 model, which is not here")
    refused(str(tmp_path / "nowhere"), "no folder .*nowhere")
    other = tmp_path / "other"
    other.mkdir()
    refused(str(other), r"lacks config\.json and model\.safetensors")
    shutil.copy(folder / "config.json", other)
    (other / "pytorch_model.bin").write_bytes(b"a pickle")
    refused(str(other), r"lacks model\.safetensors\. It has pytorch_model\.bin, which omega does not read")
    (other / "model.safetensors").write_bytes(b"damaged")
    refused(str(other), "no DINOv3 model that can be read")
    tensors = load_file(folder / "model.safetensors")
    left_out = {name: t for name, t in tensors.items() if "layer.2.mlp" not in name}
    save_file(left_out, other / "model.safetensors", {"format": "pt"})
    refused(str(other), r"lacks 4 tensors \(.*layer\.2\.mlp")
    (other / "config.json").write_text("{")
    refused(str(other), "no JSON file")
    facts = json.loads((folder / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(facts | {"model_type": "dinov2"}))
    refused(str(other), "of a 'dinov2', not of a 'dinov3_vit'")
    (other / "config.json").write_text(json.dumps(facts | {"hidden_size": 48}))
    refused(str(other), "no DINOv3 model that can be read")
    (other / "config.json").write_text(json.dumps(facts))
    save_file({n: t + 1 for n, t in tensors.items()}, other / "model.safetensors", {"format": "pt"})
    refused(str(other), "trained on another DINOv3 model", "Give the folder")


def test_without_transformers_the_way_to_get_it_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(folder, tmp_path / "unread")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(OmegaError, match="needs the package transformers") as caught:
        read_backbone(str(other))
    assert caught.value.hint == 'pip install "transformers>=4.56"'
