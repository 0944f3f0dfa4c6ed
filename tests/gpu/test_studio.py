"""CUDA against the CPU: people drawn by the studio. Runs where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from omega_cli.data.studio.light import sample_light
from omega_cli.data.studio.people import load_sources, sample_person
from omega_cli.data.studio.scene import render_people
from omega_cli.geometry.camera import orthographic, perspective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZE = 96


def test_the_gpu_draws_the_cpus_people() -> None:
    """Only samples on the very edge of a triangle may fall otherwise."""
    sources = load_sources(256)
    people = [sample_person(seed, sources) for seed in (0, 3, 7)]
    rng = torch.Generator().manual_seed(1)
    params = sources.model.zeros(3).replace(
        expression=0.3 * torch.rand(3, sources.model.E, generator=rng),
        neck_pose=0.2 * torch.randn(3, 3, generator=rng),
    )
    cameras = [[orthographic(40.0 * p, SIZE, 0.21), perspective(180.0, SIZE, 0.2)] for p in range(3)]
    lights = [sample_light(torch.Generator().manual_seed(p)) for p in range(3)]
    cpu = render_people(people, params, cameras, lights, SIZE)
    gpu = render_people([p.to("cuda") for p in people], params.to("cuda"), cameras, lights, SIZE)
    assert gpu.rgb.device.type == "cuda"
    assert torch.allclose(gpu.landmarks.cpu(), cpu.landmarks, atol=1e-3)
    assert torch.allclose(gpu.landmarks_3d.cpu(), cpu.landmarks_3d, atol=1e-5)
    for name, bound in (("rgb", 4e-3), ("alpha", 1e-3), ("normal", 4e-3)):
        apart = (getattr(gpu, name).cpu() - getattr(cpu, name)).abs()
        assert (apart > bound).float().mean() < 5e-3, name
        assert apart.mean() < 5e-4, name
    assert (gpu.labels.cpu() != cpu.labels).float().mean() < 2e-3
    both = torch.isfinite(gpu.depth.cpu()) & torch.isfinite(cpu.depth)
    assert (torch.isfinite(gpu.depth.cpu()) != torch.isfinite(cpu.depth)).float().mean() < 1e-3
    assert (gpu.depth.cpu() - cpu.depth)[both].abs().median() < 1e-6
