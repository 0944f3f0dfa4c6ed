"""An avatar measured against pictures of itself, standing somewhere else at another size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from omega_cli.evaluate import measure
from omega_cli.evaluate.frames import View
from omega_cli.evaluate.protocol import Protocol, Sample
from omega_cli.gaussians.binding import BoundGaussians
from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.splat import render
from omega_cli.geometry.camera import perspective
from omega_cli.geometry.rotation import axis_angle_to_matrix
from omega_cli.geometry.similarity import Similarity
from omega_cli.head.assets import load_head
from omega_cli.head.landmarks import embed
from omega_cli.render.rig import Rig

PLACE = Similarity(
    torch.tensor(1.2), axis_angle_to_matrix(torch.tensor([0.1, 0.4, -0.1])), torch.tensor([0.05, 0.02, -0.03])
)
CAMERAS = [perspective(azimuth, 128, 0.25, distance=2.0, id=str(azimuth)) for azimuth in (0, 30, 60, 190)]
PROTOCOL = Protocol("test", "valid", (Sample("a", "s", frames=(0,)),), "0", ssim_window=11)


@pytest.fixture(scope="module")
def rig() -> Rig:
    """The open head with a Gaussian on every vertex, coloured by its place."""
    head = load_head()
    params = head.zeros()
    vertices, n = head.identity(params.betas), len(head.v_template)
    colors = 0.5 + 0.4 * torch.sin(40 * vertices)
    identity = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    world = Gaussians(vertices, identity, torch.full((n, 3), 0.004), torch.full((n,), 0.95), colors)
    none = Gaussians(
        *(t[:0] for t in (world.means, world.quats, world.scales, world.opacities, world.colors))
    )
    empty = torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)
    bound = BoundGaussians.bind(none, *empty, world, vertices, head.faces)
    return Rig(head, params, vertices, bound)


def views_of(rig: Rig) -> list[View]:
    made = []
    for camera in CAMERAS:
        drawn = render(rig.pose(rig.shaped), PLACE.seen_by(camera))
        alpha = drawn.alpha[None].clamp(0, 1)
        image = (drawn.image / alpha.clamp_min(1 / 255)).clamp(0, 1)  # a photo's colours, before the mask
        made.append(View(camera, lambda image=image: image, lambda alpha=alpha: alpha))
    return made


def nobody(rgb: np.ndarray) -> None:
    """A landmarker that finds no face."""


def sighted(rig: Rig, count: int) -> list[measure.Truth]:
    """Truths of the first cameras, the face found where it is in `count` of them."""
    points = PLACE(embed(rig.shaped, rig.head.faces, rig.head.landmarks[measure.LANDMARKS]))
    truths = [measure.Truth.of(view, "black", nobody) for view in views_of(rig)]
    return [
        replace(truth, points=truth.camera.project(points)[0] if i < count else None)
        for i, truth in enumerate(truths)
    ]


def test_the_place_is_found_and_the_pictures_are_the_same(rig: Rig) -> None:
    truths = sighted(rig, 3)
    where, gap = measure.place(rig, truths)
    assert gap < 1e-5
    torch.testing.assert_close(where.R, PLACE.R, atol=1e-4, rtol=0)
    networks = measure.Networks(whole={"l1": lambda a, b: (a - b).abs().mean((1, 2, 3))})
    for truth, azimuth in zip(truths, (0, 30, 60, 190), strict=True):
        masks = measure.regions_of(truth, rig, where, PROTOCOL)
        found = measure.compare(rig, rig.pose(rig.shaped), where, truth, masks, PROTOCOL, networks)
        assert found.row["head.psnr"] > 40 and found.row["head.silhouette_iou"] > 0.99  # type: ignore[operator]
        assert found.row["psnr"] > 45 and found.row["ssim"] > 0.999 and found.row["l1"] < 1e-3  # type: ignore[operator]
        assert found.row["silhouette_iou"] > 0.99 and found.row["holes"] == 0  # type: ignore[operator]
        turned = (float(found.row["azimuth"]) - (azimuth - 23)) % 360  # type: ignore[arg-type]
        assert min(turned, 360 - turned) < 6  # the head itself is turned by about 23 degrees
    with pytest.raises(measure.NotPlaced, match="found in 1 pictures"):
        measure.place(rig, sighted(rig, 1))


def test_guesses_from_the_side_do_not_move_the_head(rig: Rig) -> None:
    """A camera at 83 degrees to the face whose landmarks lie 2 cm too far back is left out."""
    truths = sighted(rig, 3)  # 0, 30 and 60 degrees: the head is turned by 23 degrees
    side = perspective(-60, 128, 0.25, distance=2.0, id="-60")
    behind = rig.shaped - torch.tensor([0.0, 0.0, 0.02])
    points = PLACE(embed(behind, rig.head.faces, rig.head.landmarks[measure.LANDMARKS]))
    guess = replace(truths[0], camera=side, points=side.project(points)[0])
    alone, _ = measure.place(rig, truths)
    where, gap = measure.place(rig, [*truths, guess])
    torch.testing.assert_close(where.R, alone.R, atol=1e-6, rtol=0)
    torch.testing.assert_close(where.t, alone.t, atol=1e-6, rtol=0)
    assert gap < 1e-5
    moved, _ = measure.place(rig, [truths[0], guess])  # of two cameras both are needed
    assert float((moved.t - alone.t).norm()) > 1e-3


def test_a_wrong_place_costs(rig: Rig) -> None:
    truths = sighted(rig, 3)
    where, _ = measure.place(rig, truths)
    off = Similarity(where.scale, where.R, where.t + torch.tensor([0.02, 0.0, 0.0]))
    masks = measure.regions_of(truths[0], rig, where, PROTOCOL)
    right, wrong = (
        measure.compare(rig, rig.pose(rig.shaped), w, truths[0], masks, PROTOCOL, measure.Networks()).row
        for w in (where, off)
    )
    assert wrong["head.psnr"] < right["head.psnr"] - 15  # type: ignore[operator]
    assert wrong["psnr"] < right["psnr"] - 15  # type: ignore[operator]
    assert wrong["silhouette_iou"] < right["silhouette_iou"]  # type: ignore[operator]


def test_holes_are_counted_inside_and_above_the_lower_end_only() -> None:
    mask, alpha = torch.zeros(100, 60), torch.zeros(100, 60)
    mask[10:, 10:50] = 1
    alpha[10:60, 10:50] = 1
    assert measure.completeness(alpha, mask)["holes"] == 0  # the body below is nobody's fault
    alpha[30:40, 25:35] = 0
    found = measure.completeness(alpha, mask)
    inside = (60 - 15) * (40 - 10)  # the rim of SOLID pixels left out, above the lower end
    assert found["holes"] == pytest.approx(100 / inside, rel=1e-5)
    assert found["silhouette_iou"] == pytest.approx((50 * 40 - 100) / (90 * 40), rel=1e-5)


def test_faces_are_asked_for_in_bytes() -> None:
    picture = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0))
    shown: list[np.ndarray] = []

    def find(rgb: np.ndarray) -> np.ndarray:
        shown.append(rgb)
        return np.ones((478, 2))

    truth = measure.Truth.of(View(CAMERAS[0].resized(6, 8), lambda: picture), "black", find)
    assert truth.points is not None and truth.mask is None and truth.seen is None
    assert shown[0].dtype == np.uint8 and shown[0].shape == (8, 6, 3)
    assert abs(shown[0] / 255 - picture.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(truth.over.float(), picture, atol=3e-4, rtol=0)  # half precision


def test_a_picture_without_a_mask_gets_one_once() -> None:
    picture = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0))
    calls: list[int] = []

    def cut_out(rgb: np.ndarray) -> np.ndarray:
        calls.append(1)
        return rgb[..., 0] / 255.0

    seen = torch.ones(1, 8, 6)
    seen[:, :4] = 0
    camera = CAMERAS[0].resized(6, 8)
    plain = View(camera, lambda: picture, seen=lambda: seen)
    found = measure.matted(plain.read("black"), "black", cut_out)
    assert calls == [1] and found.mask is not None
    torch.testing.assert_close(found.mask, picture[:1] * seen, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.over, picture * found.mask)
    own = torch.ones(1, 8, 6)
    kept = measure.matted(View(camera, lambda: picture, lambda: own).read("black"), "black", cut_out)
    assert kept.mask is own and calls == [1]
