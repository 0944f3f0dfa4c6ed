"""PLY in the layout that splat viewers read."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
import trimesh

from omega_cli.gaussians.model import Gaussians
from omega_cli.gaussians.ply import SH_C0, from_ply, to_ply

HEADER = """ply
format binary_little_endian 1.0
element vertex 2
property float x
property float y
property float z
property float nx
property float ny
property float nz
property float f_dc_0
property float f_dc_1
property float f_dc_2
property float opacity
property float scale_0
property float scale_1
property float scale_2
property float rot_0
property float rot_1
property float rot_2
property float rot_3
end_header
"""


def some(n: int, channels: int = 3) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(n, 3, generator=g),
        torch.nn.functional.normalize(torch.randn(n, 4, generator=g), dim=-1),
        torch.rand(n, 3, generator=g) * 0.01 + 1e-4,
        torch.rand(n, generator=g),
        torch.rand(n, channels, generator=g),
    )


def test_layout_and_values() -> None:
    g = some(2)
    data = to_ply(g)
    assert data.startswith(HEADER.encode())
    row = np.frombuffer(data[len(HEADER) :], "<f4").reshape(2, 17)[1]
    np.testing.assert_allclose(row[:3], g.means[1], rtol=1e-6)
    assert not row[3:6].any()
    np.testing.assert_allclose(row[6:9], (g.colors[1] - 0.5) / 0.28209479, rtol=1e-5)
    opacity = float(g.opacities[1])
    np.testing.assert_allclose(row[9], math.log(opacity / (1 - opacity)), rtol=1e-4)
    np.testing.assert_allclose(row[10:13], g.scales[1].log(), rtol=1e-5)
    np.testing.assert_allclose(row[13:], g.quats[1], rtol=1e-6)


def test_there_and_back() -> None:
    for n in (0, 1, 100):
        g = some(n)
        back = from_ply(to_ply(g))
        for name in ("means", "quats", "scales", "opacities", "colors"):
            torch.testing.assert_close(getattr(back, name), getattr(g, name), atol=2e-6, rtol=1e-5)


def test_extremes_stay_finite_and_further_channels_stay_away() -> None:
    g = some(3, channels=32)
    g.opacities[:] = torch.tensor([0.0, 1.0, 0.5])
    g.scales[0] = 0.0
    back = from_ply(to_ply(g))
    torch.testing.assert_close(back.opacities, g.opacities, atol=2e-6, rtol=0)
    assert back.colors.shape == (3, 3) and back.scales.isfinite().all() and back.scales[0].max() < 1e-11
    with pytest.raises(ValueError, match="needs RGB, got 2 channels"):
        to_ply(some(3, channels=2))


def test_a_common_reader_opens_it() -> None:
    g = some(20)
    cloud = trimesh.load(io.BytesIO(to_ply(g)), file_type="ply")
    np.testing.assert_allclose(cloud.vertices, g.means, rtol=1e-6)


def test_files_of_others_with_harmonics_in_another_order() -> None:
    g = some(5)
    names = [line.split()[-1] for line in HEADER.splitlines() if line.startswith("property")]
    table = np.frombuffer(to_ply(g)[len(HEADER) :], "<f4").reshape(5, 17)
    order = np.random.default_rng(0).permutation(17)
    extra = np.full((5, 2), 9.0, "<f4")
    properties = [names[k] for k in order] + ["f_rest_0", "f_rest_1"]
    header = "ply\nformat binary_little_endian 1.0\ncomment other\nelement vertex 5\n"
    header += "".join(f"property float {name}\n" for name in properties) + "end_header\n"
    body = np.concatenate([table[:, order], extra], 1).astype("<f4").tobytes()
    torch.testing.assert_close(from_ply(header.encode() + body).means, g.means)


def test_what_is_not_such_a_file_is_refused() -> None:
    data = to_ply(some(4))
    for broken, message in (
        (b"", "no header"),
        (b"PNG" + data, "no header"),
        (data[:-5], "ends early"),
        (data.replace(b"rot_3", b"rot_9"), "rot_3 are missing"),
        (data.replace(b"float x", b"uchar x"), "unexpected PLY property"),
        (data.replace(b"binary_little_endian", b"ascii"), "only binary little-endian"),
    ):
        with pytest.raises(ValueError, match=message):
            from_ply(broken)


def test_the_constant_harmonic() -> None:
    assert math.isclose(SH_C0, 0.5 / math.sqrt(math.pi), rel_tol=1e-15)
