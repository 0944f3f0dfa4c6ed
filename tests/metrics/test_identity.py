"""The identity loss: SFace as OpenCV runs it, true gradients, two people told apart; ArcFace files too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files
import pytest
import torch
from conftest import weight_file
from PIL import Image
from torch import Tensor

from omega_cli.errors import OmegaError
from omega_cli.metrics import csim as csim_module
from omega_cli.metrics.alignment import SIDE, TEMPLATE, aligned, five_points, similarity
from omega_cli.metrics.csim import SFACE_SAME, FaceFinder, align, load_csim
from omega_cli.metrics.identity import IdentityLoss, load_identity

Face = tuple[Tensor, Tensor]  # picture [1, 3, 256, 256] in [0, 1], five points [1, 5, 2] px, centres at +0.5


@pytest.fixture(scope="module")
def sface() -> IdentityLoss:
    weight_file("sface")
    return load_identity("sface")


def face(path: Path, box: tuple[int, int, int, int]) -> Face:
    with Image.open(path) as photo:
        pixels = np.asarray(photo.convert("RGB").crop(box).resize((256, 256)))
    points = FaceFinder(weight_file("yunet")).points(pixels)
    assert points is not None
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return image, torch.from_numpy(points)[None] + 0.5


@pytest.fixture(scope="module")
def collins(astronaut: Path) -> Face:
    return face(astronaut, (96, 0, 352, 256))


@pytest.fixture(scope="module")
def hopper(grace_hopper: Path) -> Face:
    return face(grace_hopper, (56, 20, 456, 420))


@pytest.fixture(scope="module")
def faces(collins: Face, hopper: Face) -> list[np.ndarray]:
    """Real faces, aligned as CSIM aligns them: [112, 112, 3] uint8."""
    found = [
        align((image[0].permute(1, 2, 0) * 255).byte().numpy(), points[0].numpy() - 0.5)
        for image, points in (collins, hopper)
    ]
    return [*found, found[0][:, ::-1].copy(), (found[1] * 0.4).astype(np.uint8)]


def test_sface_is_what_opencv_makes_of_the_file(sface: IdentityLoss, faces: list[np.ndarray]) -> None:
    theirs = csim_module._sface(weight_file("sface"))
    images = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float() / 255
    for found, rgb in zip(sface.features(images).double().numpy(), faces, strict=True):
        expected = theirs(rgb).ravel().astype(np.float64)
        cosine = found @ expected / np.linalg.norm(expected) / np.linalg.norm(found)
        assert cosine > 0.999999


def test_whole_pictures_have_csims_features(sface: IdentityLoss, collins: Face, hopper: Face) -> None:
    """Apart from what two samples a pixel and eight bits in between make of it."""
    weight_file("yunet")
    csim = load_csim("sface")
    for image, points in (collins, hopper):
        ours, theirs = sface.embed(image, points), csim.embed(image)
        assert (ours * theirs).sum().item() > 0.97


def test_faces_are_aligned_as_csim_aligns_them(collins: Face) -> None:
    image, points = collins
    found = aligned(image, points.float() - 0.5)[0].permute(1, 2, 0).numpy() * 255
    expected = align((image[0].permute(1, 2, 0) * 255).round().byte().numpy(), points[0].numpy() - 0.5)
    assert np.abs(found - expected).mean() < 0.5


def test_the_similarity_is_the_nearest_of_all() -> None:
    """Against least squares over its four numbers, for points that no similarity fits."""
    points = torch.rand(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 200
    for p, found in zip(points.numpy(), similarity(points).numpy(), strict=True):
        (x, y), (one, zero) = p.T, (np.ones(5), np.zeros(5))
        rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
        a, b, tx, ty = np.linalg.lstsq(rows, np.array(TEMPLATE).T.reshape(-1), rcond=None)[0]
        assert np.allclose(found, [[a, -b, tx], [b, a, ty]])


def test_five_points_of_68() -> None:
    points = torch.zeros(2, 68, 2)
    points[:, 36:42, 0], points[:, 42:48, 0] = torch.arange(6.0), torch.arange(6.0) + 20
    points[:, 30], points[:, 48], points[:, 54] = torch.tensor([[10.0, 5]]), torch.tensor([[4.0, 9]]), 16.0
    expected = torch.tensor([[2.5, 0], [22.5, 0], [10, 5], [4, 9], [16, 16]])
    assert torch.equal(five_points(points), expected.expand(2, 5, 2))


def test_one_person_is_near_and_two_are_far(sface: IdentityLoss, collins: Face, hopper: Face) -> None:
    """Collins dimmed and noisy is near herself; Hopper, brought to where her points are, is far."""
    image, points = collins
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    moved = np.linalg.lstsq(np.c_[points[0].numpy(), np.ones(5)], hopper[1][0].numpy(), rcond=None)[0]
    grid = np.stack([*np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5), np.ones((256, 256))], -1)
    there = torch.from_numpy(grid @ moved)[None].float() / 128 - 1
    other = torch.nn.functional.grid_sample(hopper[0], there, align_corners=False)
    images = torch.cat([image, 0.5 * image, image + 0.05 * noise, other])
    distances = sface.distance(images, image.expand(4, -1, -1, -1), points.expand(4, -1, -1))
    assert abs(distances[0].item()) < 1e-6
    assert distances[1:3].max() < 0.25 and distances[3] > 1 - SFACE_SAME
    alone = [sface.distance(images[i : i + 1], image, points) for i in range(4)]
    assert torch.allclose(torch.cat(alone), distances, atol=1e-5)


def test_the_gradient_is_the_slope(collins: Face) -> None:
    """Through alignment and network, in double precision; into the picture alone."""
    weight_file("sface")
    double = load_identity("sface").double()
    image, points = (t.double() for t in collins)
    generator = torch.Generator().manual_seed(1)
    truth = (image + 0.1 * torch.randn(image.shape, generator=generator, dtype=image.dtype)).requires_grad_()
    changed, landmarks = image.clone().requires_grad_(), points.clone().requires_grad_()
    double.distance(changed, truth, landmarks).sum().backward()
    assert changed.grad is not None and truth.grad is None and landmarks.grad is None
    direction = torch.randn(image.shape, generator=generator, dtype=image.dtype)
    step = 1e-8 * direction  # small: thousands of units have a bend
    with torch.no_grad():
        ahead, behind = (double.distance(image + s, truth, points).item() for s in (step, -step))
    assert (ahead - behind) / 2e-8 == pytest.approx((changed.grad * direction).sum().item(), rel=1e-5)


def test_every_pixel_of_the_face_has_a_gradient(sface: IdentityLoss, collins: Face) -> None:
    """Also where the face is shrunk to less than half: a sample a pixel would leave gaps."""
    large = torch.nn.functional.interpolate(collins[0], scale_factor=2, mode="bilinear").requires_grad_()
    points = 2 * collins[1]
    matrix = similarity(points)[0]
    assert matrix[:, 0].norm() < 0.6
    sface.distance(large, 0.5 * large.detach() + 0.2, points).sum().backward()
    assert large.grad is not None
    (x, y), reach = points[0].mean(0).long().tolist(), 40
    inside = large.grad[0, :, y - reach : y + reach, x - reach : x + reach].abs().sum(0)
    assert (inside > 0).float().mean() > 0.99


def test_a_few_steps_make_a_face_more_alike(sface: IdentityLoss, collins: Face) -> None:
    image, points = collins
    blurred = torch.nn.functional.avg_pool2d(image, 9, 1, 4).requires_grad_()
    before = sface.distance(blurred, image, points)
    (gradient,) = torch.autograd.grad(before.sum(), blurred)
    with torch.no_grad():
        after = sface.distance(blurred - 0.02 * gradient.sign(), image, points)
    assert after.item() < before.item() - 0.05


def test_points_in_one_place_give_a_number(sface: IdentityLoss, collins: Face) -> None:
    image = collins[0].clone().requires_grad_()
    distance = sface.distance(image, collins[0], torch.full((1, 5, 2), 40.0))
    distance.sum().backward()
    assert distance.isfinite().all() and image.grad is not None and image.grad.isfinite().all()


def iresnet(*, mxnet: bool, side: int = SIDE) -> bytes:
    """An ArcFace file in small: two residual blocks, a dense layer and a norm; random weights.

    mxnet: as files converted from there begin, with the normalisation, and with slopes [C].
    """
    random, nodes, tensors = np.random.default_rng(0), [], {}

    def add(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(onnx_files.node(op, inputs, [output], **attributes))
        return output

    def weight(name: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> str:
        tensors[name] = (shift + scale * random.standard_normal(shape)).astype(np.float32)
        return name

    def norm(x: str, name: str, C: int) -> str:
        inputs = [weight(f"{name}_{k}", C, scale=0.1, shift=s) for k, s in (("g", 1), ("b", 0), ("m", 0))]
        tensors[f"{name}_v"] = np.full(C, 0.9, np.float32)
        return add("BatchNormalization", [x, *inputs, f"{name}_v"], name, epsilon=2e-5)

    def conv(x: str, name: str, i: int, o: int, stride: int) -> str:
        w = weight(f"{name}_w", o, i, 3, 3, scale=(9 * i) ** -0.5)
        return add("Conv", [x, w], name, kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)

    def prelu(x: str, name: str, C: int) -> str:
        slope = weight(f"{name}_slope", *((C,) if mxnet else (C, 1, 1)), scale=0.1, shift=0.25)
        return add("PRelu", [x, slope], name)

    x = "data"
    if mxnet:
        tensors["half"], tensors["scale"] = np.float32(127.5), np.float32(1 / 127.5)
        x = add("Mul", [add("Sub", [x, "half"], "_minusscalar0"), "scale"], "_mulscalar0")
    x = prelu(norm(conv(x, "conv0", 3, 8, 2), "bn0", 8), "relu0", 8)
    for block, (i, o) in enumerate(((8, 8), (8, 16))):
        y = conv(norm(x, f"bn1_{block}", i), f"conv1_{block}", i, o, 1)
        y = conv(prelu(norm(y, f"bn2_{block}", o), f"relu_{block}", o), f"conv2_{block}", o, o, 2)
        short = conv(x, f"short_{block}", i, o, 2)
        x = add("Add", [norm(y, f"bn3_{block}", o), norm(short, f"bn4_{block}", o)], f"add_{block}")
    x = add("Flatten", [add("Dropout", [norm(x, "bn5", 16)], "dropout")], "flat")
    dense = [weight("dense_w", 32, 16 * (side // 8) ** 2, scale=0.02), weight("dense_b", 32)]
    norm(add("Gemm", [x, *dense], "dense", transB=1), "features", 32)
    whole = [onnx_files.tensor(*item) for item in tensors.items()]
    return onnx_files.model(nodes, whole, {"data": (1, 3, side, side)}, {"features": (1, 32)}, 11)


@pytest.mark.parametrize("mxnet", [False, True])
def test_an_arcface_file_as_onnx_runtime_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: list[np.ndarray], mxnet: bool
) -> None:
    """A batch, from a file for one picture; normalised once: by us, or by the graph itself."""
    import onnxruntime

    path = tmp_path / "arcface.onnx"
    path.write_bytes(iresnet(mxnet=mxnet))
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path))
    loss = load_identity("arcface")
    assert loss.name == "ArcFace"
    # ONNX Runtime reads slopes [C] by the letter, along the last side: it gets the same file with [C, 1, 1]
    session = onnxruntime.InferenceSession(iresnet(mxnet=False), providers=["CPUExecutionProvider"])
    images = np.stack(faces).transpose(0, 3, 1, 2)
    features = loss.features(torch.from_numpy(images).float() / 255).numpy()
    for found, rgb in zip(features, images, strict=True):
        x = ((rgb.astype(np.float32) - 127.5) / 127.5)[None]
        expected = session.run(None, {"data": x})[0][0]
        assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert np.std(features, axis=0).max() > 0.01  # they do differ


def test_what_is_no_face_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMEGA_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path / "none"))
    with pytest.raises(OmegaError, match=r"arcface\.onnx is missing"):
        load_identity("arcface")
    (tmp_path / "arcface.onnx").write_bytes(b"no network")
    with pytest.raises(OmegaError, match="no ONNX file"):
        load_identity("arcface")
    (tmp_path / "arcface.onnx").write_bytes(iresnet(mxnet=False, side=96))
    with pytest.raises(OmegaError, match=r"no face network: its input data is \[1, 3, 96, 96\]"):
        load_identity("arcface")
    with pytest.raises(ValueError, match="model must be one of sface, arcface"):
        load_identity("facenet")  # pyright: ignore
