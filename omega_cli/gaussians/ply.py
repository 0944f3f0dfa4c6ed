"""Gaussians to and from the 3DGS PLY layout that every splat viewer opens (binary, little endian)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omega_cli.gaussians.model import Gaussians

SH_C0 = 0.28209479177387814  # the constant spherical harmonic: colour = 0.5 + SH_C0 * f_dc
_EDGE = 1e-6  # opacities are kept this far from 0 and 1, whose logits are infinite
_SMALLEST = 1e-12  # m, likewise for the logarithm of a scale

_PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def to_ply(gaussians: Gaussians) -> bytes:
    """The bytes of a PLY file: one vertex a Gaussian, float32, in the reference 3DGS order.

    Positions in metres; f_dc = (rgb - 0.5) / SH_C0 of the first three channels (the others have no place
    in this layout); opacity as a logit, scales as natural logs, rot as a unit quaternion wxyz; normals
    are 0.
    """
    if gaussians.colors.shape[1] < 3:
        raise ValueError(f"a PLY needs RGB, got {gaussians.colors.shape[1]} channels")
    columns = [
        gaussians.means,
        torch.zeros_like(gaussians.means),
        (gaussians.colors[:, :3] - 0.5) / SH_C0,
        torch.logit(gaussians.opacities, eps=_EDGE)[:, None],
        gaussians.scales.clamp_min(_SMALLEST).log(),
        F.normalize(gaussians.quats, dim=-1),
    ]
    table = torch.cat([c.detach().cpu().to(torch.float32) for c in columns], dim=1)
    names = "".join(f"property float {name}\n" for name in _PROPERTIES)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(table)}\n{names}end_header\n"
    return header.encode("ascii") + np.ascontiguousarray(table.numpy(), dtype="<f4").tobytes()


def from_ply(data: bytes) -> Gaussians:
    """Read a 3DGS PLY (any order of float properties; higher harmonics are left out).

    Raises ValueError where it is not such a file.
    """
    header, body = _split(data)
    count, names = _describe(header)
    missing = [name for name in _PROPERTIES if name not in names and not name.startswith("n")]
    if missing:
        raise ValueError(f"not a Gaussian PLY: properties {', '.join(missing)} are missing")
    wanted = 4 * count * len(names)
    if len(body) < wanted:
        raise ValueError(f"the PLY ends early: {len(body)} of {wanted} bytes of data")
    values = np.frombuffer(body[:wanted], "<f4").astype(np.float32)
    table = torch.from_numpy(values.reshape(count, len(names)))

    def columns(*wanted_names: str) -> Tensor:
        return table[:, [names.index(name) for name in wanted_names]]

    return Gaussians(
        means=columns("x", "y", "z"),
        quats=F.normalize(columns("rot_0", "rot_1", "rot_2", "rot_3"), dim=-1),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        opacities=columns("opacity")[:, 0].sigmoid(),
        colors=columns("f_dc_0", "f_dc_1", "f_dc_2") * SH_C0 + 0.5,
    )


def _split(data: bytes) -> tuple[list[str], bytes]:
    end = data.find(b"end_header\n")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("not a PLY file: no header")
    return data[:end].decode("ascii", errors="replace").splitlines(), data[end + len(b"end_header\n") :]


def _describe(header: list[str]) -> tuple[int, list[str]]:
    """Number of vertices and the names of their properties, all float."""
    if "format binary_little_endian 1.0" not in header:
        raise ValueError("only binary little-endian PLY files are read")
    count, names = -1, []
    for line in header:
        words = line.split()
        if words[:2] == ["element", "vertex"] and count < 0:
            count = int(words[2])
        elif words[:1] == ["element"]:
            raise ValueError(f"unexpected PLY element: {line}")
        elif words[:1] == ["property"]:
            if words[1] not in ("float", "float32"):
                raise ValueError(f"unexpected PLY property: {line}")
            names.append(words[2])
    if count < 0:
        raise ValueError("the PLY has no vertices")
    return count, names
