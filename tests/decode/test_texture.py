"""Completing what no view saw: neighbours, the other side, never another part."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omega_cli.decode.texture import (
    SPLAT_VARIANCE,
    close_gaps,
    complete_skin,
    fill_unseen,
    mirrored_uvs,
    sample_uv,
    seen_share,
    sharpen,
    smoothed,
)
from omega_cli.geometry.uvmap import rasterize_uv


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 33), st.integers(0, 2**31 - 1))
def test_fill_keeps_trusted_texels_and_stays_within_their_range(size: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(2, size, size, generator=g)
    trust = (torch.rand(1, size, size, generator=g) > 0.8).float()
    trust[0, seed % size, (seed // 7) % size] = 1
    filled = fill_unseen(image, trust)
    kept = trust[0] > 0
    assert torch.equal(filled[:, kept], image[:, kept])
    for channel in range(2):
        low, high = image[channel][kept].aminmax()
        assert filled[channel].min() >= low - 1e-5 and filled[channel].max() <= high + 1e-5


def test_fill_gives_a_constant_exactly_and_nothing_from_nothing() -> None:
    trust = torch.zeros(1, 16, 16)
    assert fill_unseen(torch.rand(3, 16, 16), trust).abs().max() == 0
    trust[0, 3, 5] = 0.3
    assert torch.allclose(fill_unseen(torch.full((3, 16, 16), 0.37), trust), torch.tensor(0.37), atol=1e-6)


def test_weights_become_shares_smoothly_from_zero_to_one() -> None:
    share = seen_share(torch.linspace(0, 1, 200))
    assert share[0] == 0 and share[-1] == 1 and (share.diff() >= 0).all()


def mirror_of(vertices: torch.Tensor) -> torch.Tensor:
    flipped = vertices * torch.tensor([-1.0, 1.0, 1.0])
    return torch.cdist(flipped, vertices).argmin(1)


def test_the_mirrored_texel_of_a_symmetric_head_is_across_the_map(ball) -> None:
    faces, uvs, uv_faces, mirror_index = symmetric(ball)
    face_index, barycentric = rasterize_uv(uvs, uv_faces, 64)
    uv = mirrored_uvs(faces, uvs, uv_faces, mirror_index, face_index, barycentric)
    i = (torch.arange(64) + 0.5) / 64
    want = torch.stack([1 - i.expand(64, 64), i[:, None].expand(64, 64)], -1)
    known = ~uv.isnan().any(-1)
    assert known.float().mean() > 0.9  # all but the poles, where quads have no area
    assert (uv - want)[known].abs().max() < 1e-3


def symmetric(ball):
    """faces, uvs, uv_faces, mirror_index of the ball, one half's faces the mirror image of the other's.

    As built, all quads are split along one diagonal, so a face's mirror image is not a face.
    """
    left = ball.uvs[ball.uv_faces][..., 0].mean(1) > 0.5
    uvs = ball.uvs
    across = torch.cdist(torch.stack([1 - uvs[:, 0], uvs[:, 1]], 1), uvs).argmin(1)
    uv_faces = torch.cat([ball.uv_faces[left], across[ball.uv_faces[left]].flip(1)])
    weld = torch.zeros(len(uvs), dtype=torch.long)
    weld[ball.uv_faces.flatten()] = ball.faces.flatten()
    return weld[uv_faces], uvs, uv_faces, mirror_of(ball.vertices)


def test_unseen_skin_takes_the_other_side_before_far_neighbours(ball) -> None:
    faces, uvs, uv_faces, mirror_index = symmetric(ball)
    face_index, barycentric = rasterize_uv(uvs, uv_faces, 64)
    uv = mirrored_uvs(faces, uvs, uv_faces, mirror_index, face_index, barycentric)
    rgb = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    rgb = torch.nn.functional.avg_pool2d(rgb[None], 5, 1, 2)[0]
    share = torch.ones(1, 64, 64)
    share[:, :, :32] = 0
    out = complete_skin(rgb, share, face_index >= 0, uv)
    middle = slice(8, 56)
    assert torch.allclose(out[:, middle, 33:], rgb[:, middle, 33:])
    assert (out[:, middle, 2:30] - rgb.flip(-1)[:, middle, 2:30]).abs().max() < 0.05


def test_another_parts_colours_never_reach_the_skin() -> None:
    rgb, share = torch.full((3, 32, 32), 0.6), torch.ones(1, 32, 32)
    skin = torch.ones(32, 32, dtype=torch.bool)
    skin[10:20, 10:20] = False
    rgb[:, 10:20, 10:20] = 1.0  # eye white, seen well
    share[:, 8:22, 8:22] = 0  # the lids around it, not seen
    share[:, 10:20, 10:20] = 1
    assert (complete_skin(rgb, share, skin, None) - 0.6).abs().max() < 1e-5


def test_samples_at_texel_centres_are_the_texels() -> None:
    image = torch.rand(3, 8, 8)
    i = (torch.arange(8) + 0.5) / 8
    uv = torch.stack(torch.meshgrid(i, i, indexing="xy"), -1)
    assert torch.allclose(sample_uv(image, uv).permute(2, 0, 1), image, atol=1e-6)
    uv[0, 0] = float("nan")
    assert sample_uv(image, uv)[0, 0].abs().max() == 0


@pytest.mark.parametrize("wavelength", [6.0, 10.0, 24.0])
def test_sharpening_undoes_most_of_the_blur_of_drawing(wavelength: float) -> None:
    sigma, x = 0.6, torch.arange(96.0)
    wave = 0.5 + 0.2 * torch.sin(2 * math.pi * x / wavelength).expand(1, 96, 96)
    transfer = math.exp(-0.5 * (sigma**2 + SPLAT_VARIANCE) * (2 * math.pi / wavelength) ** 2)

    def drawn(image: torch.Tensor) -> torch.Tensor:  # a Gaussian only dims a sine
        return 0.5 + (image - 0.5) * transfer

    inner = slice(8, 88)
    before = (drawn(wave) - wave)[..., inner].abs().max()
    after = (drawn(sharpen(wave, torch.ones(1, 96, 96), sigma)) - wave)[..., inner].abs().max()
    assert after < 0.45 * before


def test_sharpening_leaves_flat_colour_alone_up_to_the_rim() -> None:
    covered = torch.zeros(1, 32, 32)
    covered[:, 8:20, 5:25] = 1
    image = torch.where(covered > 0, 0.6, torch.rand(3, 32, 32))
    assert torch.allclose(sharpen(image, covered, 0.6), image, atol=1e-6)


def test_gaps_between_strewn_texels_take_their_rims_colour_and_large_holes_stay_open() -> None:
    share = torch.zeros(1, 64, 64)
    share[:, 16:48:2, 16:48] = 1  # every other row of a foreshortened lid
    share[:, :, 40:] = 0
    rgb = torch.where(share > 0, 0.2, torch.tensor(0.9)).expand(3, 64, 64)
    out, closed = close_gaps(rgb, share, 1)
    assert closed[0, 16:47, 16:40].min() == 1 and (out[:, 16:47, 16:40] - 0.2).abs().max() < 1e-5
    assert closed[0, :14].max() == 0 and closed[0, :, 42:].max() == 0
    assert torch.equal(out[:, closed[0] == 0], rgb[:, closed[0] == 0])


def test_smoothing_knows_only_its_own_texels() -> None:
    generator = torch.Generator().manual_seed(0)
    where = torch.rand(16, 16, generator=generator) > 0.3
    values = torch.rand(16, 16, generator=generator)
    out = smoothed(values, where, 3)
    assert torch.equal(out[~where], values[~where])
    loud = torch.where(where, values, 100.0)  # what lies beyond is not heard
    assert torch.allclose(smoothed(loud, where, 3)[where], out[where])
    assert torch.allclose(smoothed(torch.full((16, 16), 0.3), where, 3), torch.full((16, 16), 0.3))
    assert float(out[where].std()) < 0.6 * float(values[where].std())
    ragged = torch.zeros(16, 16)
    ragged[:8], ragged[8, ::2] = 1, 1  # an edge with teeth
    everywhere = torch.ones_like(where)
    straight = smoothed(ragged, everywhere, 3)
    assert float((straight[8, 4:12:2] - straight[8, 5:13:2]).abs().max()) < 0.05
