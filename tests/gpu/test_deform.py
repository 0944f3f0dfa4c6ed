"""CUDA against the CPU: the fit of deform-flame ends at the same head. Runs where there is a GPU."""

from __future__ import annotations

import warnings

import pytest
import torch
from deform_flame.scene import hair, head, person, photograph
from torch import Tensor

from omega_cli.deform_flame import solve as room
from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.metric import Metric
from omega_cli.deform_flame.objective import Lambdas, area_ratio, deformation_loss, rest_planes
from omega_cli.deform_flame.observe import observe
from omega_cli.deform_flame.problem import build_problem, deform
from omega_cli.deform_flame.solve import LEAST_AREA, Fit
from omega_cli.deform_flame.views import prepare_view, stack_views
from omega_cli.geometry.camera import Camera

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

K = torch.tensor([[1280.0, 0, 256], [0, 1280, 256], [0, 0, 1]])
CAMERA = Camera(K, torch.diag(torch.tensor([1.0, -1, -1, 1])), 512, 512)
PARAMS = person().replace(
    global_orient=torch.tensor([[0.05, 0.3, 0.0]]), transl=torch.tensor([[0.0, -0.02, -1.0]])
)


@pytest.fixture(scope="module")
def truth() -> Tensor:
    """Canonical vertices [V, 3] m with hair."""
    canonical = head().identity(PARAMS.betas)
    return canonical + hair(canonical)


@pytest.fixture(scope="module")
def points(truth: Tensor) -> Tensor:
    posed = head().animate(truth, PARAMS).vertices[0]
    return CAMERA.project(head().landmark_points(posed, "ibug68"))[0]


def solve(device: str, truth: Tensor, points: Tensor) -> Fit:
    return deform(
        head().to(device), PARAMS, photograph(truth), DeformFlameConfig(), points=points, photo=CAMERA
    )


def test_the_fit_ends_where_the_cpu_ends(truth: Tensor, points: Tensor) -> None:
    cpu, gpu = (solve(device, truth, points) for device in ("cpu", "cuda"))
    assert gpu.offsets.device.type == "cuda"
    found = gpu.offsets.cpu()
    gap = (found - cpu.offsets).norm(dim=1)
    # on the CPU, noise of 1e-7 m (a rounding) at each step ends 0.001 mm away (RMS), of 1e-6 m 0.05 mm
    assert float(gap.square().mean().sqrt()) < 2e-5
    assert float(cpu.offsets.norm(dim=1).square().mean().sqrt()) > 5e-3
    assert len(gpu.history) == len(cpu.history)
    assert gpu.history[-1]["total"] == pytest.approx(cpu.history[-1]["total"], rel=1e-3)
    planes = rest_planes(head().identity(PARAMS.betas), head().faces)
    canonical = head().identity(PARAMS.betas)
    assert float(area_ratio(canonical + found, planes, head().faces).min()) >= LEAST_AREA


def test_one_step_agrees_term_by_term(truth: Tensor, points: Tensor) -> None:
    """The loss terms, their gradient and the step of the metric at one state."""
    lambdas = Lambdas(nml=3, sil=200, lmk=1000, sym=10, lap=10, par=100)
    pictures = photograph(truth, 256)
    results = []
    for device in ("cpu", "cuda"):
        problem = build_problem(head().to(device), PARAMS, DeformFlameConfig(), points=points, photo=CAMERA)
        views = stack_views([prepare_view(c, n.to(device), m.to(device), 128) for c, n, m in pictures])
        offsets = 2e-4 * torch.sin(60 * problem.canonical.roll(1, 1))
        posed = problem.to_views(problem.canonical + offsets)
        seen = observe(problem.canonical, offsets, posed, problem.faces, views, problem.semantics)
        variable = offsets.clone().requires_grad_(True)
        terms = deformation_loss(variable, problem, seen)
        (gradient,) = torch.autograd.grad(lambdas.total(terms), variable)
        step, failed = Metric(problem, lambdas).solver(offsets, posed, seen, 1.0)
        assert int(failed) == 0
        moved = step(gradient).cpu()
        results.append(({k: float(v.detach()) for k, v in terms.items()}, gradient.cpu(), moved))
    (cpu, cpu_gradient, cpu_step), (gpu, gpu_gradient, gpu_step) = results
    # a pixel centre on an edge of the mesh may fall to either face, hence not closer
    assert gpu == pytest.approx(cpu, rel=1e-3, abs=1e-7)
    assert float((gpu_gradient - cpu_gradient).norm() / cpu_gradient.norm()) < 1e-2
    assert float((gpu_step - cpu_step).norm() / cpu_step.norm()) < 1e-2


def test_a_step_waits_for_the_gpu_a_few_times_at_most(
    truth: Tensor, points: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two counts (visible pixels, contour faces) and one transfer a step; more would mean a hidden one."""
    solve("cuda", truth, points)  # libraries load once
    inner = room.observe

    def counting(*args):
        torch.cuda.set_sync_debug_mode("warn")
        return inner(*args)

    monkeypatch.setattr(room, "observe", counting)
    monkeypatch.setattr(room, "unfold", lambda offsets, problem: (offsets, 0))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = solve("cuda", truth, points)
            torch.cuda.set_sync_debug_mode("default")
        waits = [w for w in caught if "called a synchronizing" in str(w.message)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert 0 < len(waits) <= 4 * len(fit.history), {str(w.filename) + f":{w.lineno}" for w in waits}
