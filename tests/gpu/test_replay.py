"""Work recorded as a CUDA graph and replayed: the same as the plain calls, whatever the inputs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from omega_cli.geometry.camera import orthographic, perspective
from omega_cli.geometry.raster import rasterize
from omega_cli.head.assets import load_head
from omega_cli.kernels.uv_splat import uv_splat_pyramid
from omega_cli.render.refiner import Refiner, refine, refine_replayed
from omega_cli.replay import Replayed
from omega_cli.splat_uv.agreement import agreement_table
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.encoder import Encoder
from omega_cli.splat_uv.features import CHANNELS
from omega_cli.splat_uv.stage import Photo, SplatHead, Views, splat_posed, splat_replayed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LABELS = ("background", "skin", "eyes", "mouth_inside")


@contextmanager
def never_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def avatar(seed: int, size: int = 192) -> tuple:
    """A head of random shape, its views in random colours and a random parsing of its photo, on the GPU."""
    g = torch.Generator().manual_seed(seed)
    model = load_head()
    params = model.zeros().replace(betas=0.5 * torch.randn(model.S, generator=g))
    offsets = 2e-3 * torch.randn(model.v_template.shape, generator=g)
    vertices = model(params, offsets).vertices[0]
    cameras = [orthographic(a, size, 0.2, id=str(a)) for a in (0.0, 90.0, 180.0 + 30 * seed)]
    masks = [rasterize(vertices, model.faces, camera).mask.float()[None] for camera in cameras]
    # within what the front view allows beside it, and beyond
    rgb = [0.3 * k + 0.2 * torch.rand(3, size, size, generator=g) for k, _ in enumerate(cameras)]
    labels = torch.randint(len(LABELS), (size, size), generator=g)
    photo_camera = perspective(10.0, size, 0.2)
    to = [[t.cuda() for t in images] for images in (rgb, masks)]
    views = Views([c.to("cuda") for c in cameras], *to, torch.rand(3, generator=g).cuda())
    agreement = agreement_table(LABELS).cuda()
    photo = Photo(labels.cuda(), vertices.cuda(), photo_camera.to("cuda"), agreement)
    return params.to("cuda"), offsets.cuda(), views, photo


def assert_same(replayed: tuple, plain: tuple) -> None:
    """Normals are summed in any order, so a pixel at a limit may fall to either side."""
    (ours, identity, pixels), (theirs, wanted, counted) = replayed, plain
    for name in ("features", "weight"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert ((a - b).abs() > 1e-5).float().mean() < 1e-3 and b.abs().mean() > 1e-2
    torch.testing.assert_close(identity, wanted, atol=1e-6, rtol=1e-6)
    assert (pixels - counted).abs().max() <= 4 and counted.min() > 1000


def test_splat_uv_is_that_of_the_plain_calls_for_every_next_avatar():
    head, config = SplatHead.of(load_head(device="cuda")), SplatUVConfig(uv_size=128)
    for seed in range(5):
        inputs = (*avatar(seed), config)
        assert_same(splat_replayed(head, *inputs), splat_posed(head, *inputs))


def test_results_are_the_callers_own():
    head, config = SplatHead.of(load_head(device="cuda")), SplatUVConfig(uv_size=128, keep_views=True)
    first, second = ((*avatar(seed), config) for seed in (0, 1))
    for _ in range(2):
        splat_replayed(head, *first)
    kept = splat_replayed(head, *first)
    features, sums = kept[0].features.clone(), kept[0].pyramids[0].sums[0].clone()
    splat_replayed(head, *second)
    assert torch.equal(kept[0].features, features) and torch.equal(kept[0].pyramids[0].sums[0], sums)


def test_splat_uv_never_waits_for_the_gpu():
    head, config = SplatHead.of(load_head(device="cuda")), SplatUVConfig(uv_size=128)
    inputs = (*avatar(0), config)
    for _ in range(3):  # constants are made once; the third is a replay
        splat_posed(head, *inputs)
        splat_replayed(head, *inputs)
    torch.cuda.synchronize()
    with never_waiting():
        splat_posed(head, *inputs)
        splat_replayed(head, *inputs)


def test_an_encoder_is_replayed_with_its_own_weights_and_never_waits():
    """Convolutions may choose another algorithm when recorded: the learned channels agree to TF32."""
    head, config = SplatHead.of(load_head(device="cuda")), SplatUVConfig(uv_size=128)
    torch.manual_seed(0)
    nets = [Encoder().cuda().eval().requires_grad_(False) for _ in range(2)]
    maps = []
    for net in nets:
        for seed in range(4):
            inputs = (*avatar(seed), config, net)
            ours, plain = splat_replayed(head, *inputs), splat_posed(head, *inputs)
            C = len(CHANNELS)
            assert len(ours[0].features) == C + net.config.outputs
            for a, b, near in (
                (ours[0].features[:C], plain[0].features[:C], 1e-5),
                (ours[0].features[C:], plain[0].features[C:], 1e-2 * plain[0].features[C:].abs().max()),
            ):
                assert ((a - b).abs() > near).float().mean() < 1e-3 and b.abs().mean() > 1e-3
            torch.cuda.synchronize()
            with never_waiting():
                splat_posed(head, *inputs)
                splat_replayed(head, *inputs)
        maps.append(ours[0].features[C:])
    assert (maps[0] - maps[1]).abs().mean() > 1e-2  # the first one's weights were not kept for the second


@torch.inference_mode()
@pytest.mark.parametrize("size", [(512, 512), (300, 420)])
@pytest.mark.parametrize("over", [None, (0.9, 0.8, 0.1)])
def test_the_refiner_draws_on_cuda_what_it_draws_on_the_cpu(size: tuple[int, int], over: tuple | None):
    torch.manual_seed(0)
    net = Refiner().eval().requires_grad_(False)
    torch.nn.init.normal_(net.last.weight, std=0.05)
    here = copy.deepcopy(net)
    net = net.cuda()
    for _ in range(4):
        colours = torch.rand(*size, 32).permute(2, 0, 1)  # as gsplat gives them
        alpha = torch.rand(size)
        behind = None if over is None else torch.tensor(over)
        wanted = refine(here, colours, alpha, behind)
        cuda = colours.cuda(), alpha.cuda(), None if behind is None else behind.cuda()
        ours = refine_replayed(net, *cuda)
        assert (wanted - colours[:3].clamp(0, 1)).abs().mean() > 0.01  # it says something
        assert (ours.cpu() - wanted).abs().mean() < 2e-3 and (ours.cpu() - wanted).abs().max() < 0.05
        torch.testing.assert_close(ours, refine(net, *cuda), atol=0.02, rtol=0)


def pyramid(values: Tensor, uv: Tensor, weight: Tensor, marks: Tensor) -> list[Tensor]:
    levels = uv_splat_pyramid(values, uv, (64, 64), 3, weight=weight, extra=marks, backend="native")
    return [part for level in levels for part in level if part is not None]


def test_the_splat_replays_bit_for_bit():
    replayed, g = Replayed(pyramid), torch.Generator("cuda").manual_seed(0)
    for _ in range(5):
        sizes = [(2, 4000, 15), (2, 4000, 2), (2, 4000), (2, 4000, 2)]
        inputs = [torch.rand(size, generator=g, device="cuda") for size in sizes]
        for ours, plain in zip(replayed(*inputs), pyramid(*inputs), strict=True):
            assert torch.equal(ours, plain) and ours.stride() == plain.stride()


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Tensor
    right: Tensor
    factor: float = 1.0


def test_each_kind_of_call_is_recorded_once_and_gradients_go_plain():
    calls = []

    def scaled_sum(pair: Pair, *, twice: bool) -> dict[str, Tensor]:
        calls.append(pair.left.shape)
        return {"sum": pair.factor * (pair.left + pair.right) * (2 if twice else 1)}

    replayed = Replayed(scaled_sum)

    def check(size: int, factor: float, twice: bool) -> None:
        left, right = torch.rand(2, size, device="cuda")
        out = replayed(Pair(left, right.double(), factor), twice=twice)["sum"]
        torch.testing.assert_close(out, factor * (left + right.double()) * (1 + twice))

    for _ in range(5):
        check(10, 3.0, True)
        check(10, 3.0, False)
    assert len(calls) == 2 * 3  # plain, warming up, recording
    check(10, 4.0, True)  # the kind used longest ago is forgotten
    check(10, 3.0, True)
    assert len(calls) == 2 * 3 + 2
    leaf = torch.rand(7, device="cuda", requires_grad=True)
    for _ in range(3):
        (grad,) = torch.autograd.grad(replayed(Pair(leaf, leaf), twice=True)["sum"].sum(), leaf)
        assert (grad == 4).all()
    side = torch.cuda.Stream()
    for _ in range(3):  # one recording, two streams
        with torch.cuda.stream(side):
            check(10, 3.0, True)
        check(10, 3.0, True)


def test_a_function_that_waits_is_called_plainly_and_says_so():
    replayed = Replayed(lambda t: t * t.sum().item())
    t = torch.ones(3, device="cuda")
    assert replayed(t).tolist() == [3, 3, 3]
    with pytest.warns(UserWarning, match="cannot be recorded"):
        assert replayed(t).tolist() == [3, 3, 3]
    for _ in range(2):
        assert replayed(2 * t).tolist() == [12, 12, 12]
