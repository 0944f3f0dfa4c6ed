"""OmegaModel: the stages' own maths, the analytic avatar until it learns, gradients to all that learns."""

from __future__ import annotations

import functools

import pytest
import torch

from omega_cli.decode.fit import fit_pictures
from omega_cli.decode.learned import refine_decoded
from omega_cli.decode.pictures import Picture, view_picture
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import perspective
from omega_cli.head.assets import load_head
from omega_cli.model import Avatar, Base, Drawn, OmegaConfig, OmegaModel, Stand
from omega_cli.mv_diffuse.views import canonical_cameras
from omega_cli.render.refiner import RefinerConfig
from omega_cli.render.rig import soften_hem
from omega_cli.splat_uv.config import SplatUVConfig
from omega_cli.splat_uv.encoder import EncoderConfig
from omega_cli.splat_uv.stage import Views

SIZE = 64
CAMERA = perspective(10.0, 64, 0.2, centre=torch.tensor([0.0, 0.02, 0.0]))
head = functools.cache(load_head)
CONFIG = OmegaConfig(EncoderConfig((8, 8, 16), 4), (16, 24, 32), RefinerConfig((16, 16), 1))
STEPS = 2


def model() -> OmegaModel:
    torch.manual_seed(0)
    return OmegaModel(head(), SplatUVConfig(uv_size=64, levels=3), CONFIG)


def views() -> Views:
    generator = torch.Generator().manual_seed(1)
    cameras = canonical_cameras(SIZE, 0.21)
    rgb = [torch.rand(3, SIZE, SIZE, generator=generator) for _ in cameras]
    return Views(cameras, rgb, [torch.ones(1, SIZE, SIZE) for _ in cameras], torch.ones(len(cameras)))


def pictures(stand: Stand) -> list[Picture]:
    """The front view as the photo, and the six views."""
    seen = views()
    made_of = zip(seen.rgb, seen.mask, seen.cameras, strict=True)
    in_views = [view_picture(*of, stand.shaped) for of in made_of]
    return [in_views[0], *in_views]


def made(net: OmegaModel, fitted: bool = False, steps: int = STEPS) -> tuple[Avatar, Stand, Base]:
    """An avatar, and how it stands with its mouth open."""
    params, offsets = head().zeros(), torch.zeros_like(head().v_template)
    frame = params.replace(jaw_pose=torch.tensor([[0.2, 0.0, 0.0]]))
    stand = Stand.of(head(), params, offsets, frame)
    uv_map, identity = net.canonical_map(stand.mesh, views(), None)
    base = Base.of(head(), stand.shaped, uv_map, pictures(stand) if fitted else (), steps)
    return net.avatar(stand.shaped, uv_map, identity, base), stand, base


def drawn_by(net: OmegaModel, avatar: Avatar, stand: Stand) -> Drawn:
    return net.draw(net.posed(avatar, stand.tables), [CAMERA], torch.ones(1, 3))


def test_untrained_it_draws_the_raw_image_and_the_analytic_one() -> None:
    with torch.no_grad():
        avatar, stand, _ = made(model())
        drawn = drawn_by(model(), avatar, stand)
    assert torch.equal(drawn.raw, drawn.refined)
    assert 0.2 < float(drawn.alpha.mean()) < 0.9
    assert not avatar.canonical.colors[:, 3:].any()


def test_its_base_is_fitted_as_decode_fits_and_the_untrained_network_draws_it() -> None:
    """With decode's first seed; without pictures or steps nothing is fitted."""
    with torch.no_grad():
        net = model()
        avatar, stand, base = made(net, fitted=True)
        photo, *others = pictures(stand)
        seed = torch.Generator().manual_seed(0)
        fit = fit_pictures(head(), stand.shaped, base.decoded, photo, others, STEPS, seed)
        analytic, _, unfitted = made(net)
        assert unfitted.fitted is None and made(net, fitted=True, steps=0)[2].fitted is None
        raw = refine_decoded(base.decoded, fit.changes, stand.shaped, head().faces)
    assert base.fitted is not None
    for ours, theirs in zip(base.fitted, fit.changes, strict=True):
        assert torch.equal(ours.colors, theirs.colors) and torch.equal(ours.shape(), theirs.shape())
    assert torch.equal(avatar.canonical.colors[:, :3], torch.cat([raw.uv.colors, raw.vertex.colors]))
    assert torch.equal(avatar.canonical.means, torch.cat([raw.uv.means, raw.vertex.means]))
    assert not torch.equal(avatar.canonical.colors, analytic.canonical.colors)
    assert not any(change.shape().any() for change in avatar.changes)  # of the network alone


@pytest.mark.parametrize("fitted", [False, True])
def test_it_draws_what_the_stages_draw_of_their_files(fitted: bool) -> None:
    """decode binds the Gaussians and files them, render binds them to the head again."""
    net = model()
    torch.nn.init.normal_(net.decoder.uv.last.weight, std=0.02)
    with torch.no_grad():
        avatar, stand, base = made(net, fitted)
        made_of = refine_decoded(base.decoded, avatar.changes, stand.shaped, head().faces, base.fitted)
        sits = made_of.face_index, made_of.barycentric
        bound = BoundGaussians.bind(made_of.uv, *sits, made_of.vertex, stand.shaped, head().faces)
        posed = soften_hem(bound, head()).pose(stand.vertices[0])
        seen = render(posed, CAMERA)
        drawn = drawn_by(net, avatar, stand)
    raw = seen.image[:3] + 1 - seen.alpha
    off = (drawn.raw[0] - raw).abs()  # rounding, and a hem that does not ask where the network moved to
    assert float(off.mean()) < 5e-5 and float(off.max()) < 0.02
    assert float(avatar.shift.abs().max()) > 1e-5


def test_a_picture_teaches_every_network() -> None:
    net = model()
    for layer in (net.decoder.uv.last, net.decoder.vertex.last, net.refiner.last):
        torch.nn.init.normal_(layer.weight, std=0.02)
    avatar, stand, _ = made(net)
    drawn = drawn_by(net, avatar, stand)
    (drawn.refined - 0.5).square().mean().backward()
    for part in (net.encoder.last, net.decoder.uv.enter, net.decoder.vertex.enter, net.refiner.enter):
        assert part.weight.grad is not None and float(part.weight.grad.abs().max()) > 0
    code = net.decoder.vertex.code.grad
    assert code is not None and float(code.abs().max()) > 0
