"""Each term means what it says, and reaches the vertices it may reach."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from deform_flame.scene import head, person, photograph

from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.metric import Metric
from omega_cli.deform_flame.objective import (
    Lambdas,
    Problem,
    area_ratio,
    deformation_loss,
    fold_barrier,
    mirror_landmarks,
    rest_planes,
    robust,
    term_names,
)
from omega_cli.deform_flame.observe import Observation, observe
from omega_cli.deform_flame.problem import build_problem
from omega_cli.deform_flame.solve import LEAST_AREA, unfold
from omega_cli.deform_flame.views import prepare_view, stack_views
from omega_cli.geometry.camera import Camera


@pytest.fixture(scope="module")
def problem() -> Problem:
    params = person().replace(transl=torch.tensor([[0.0, 0.0, -1.0]]))
    K = torch.tensor([[1280.0, 0, 256], [0, 1280, 256], [0, 0, 1]])
    camera = Camera(K, torch.diag(torch.tensor([1.0, -1, -1, 1])), 512, 512)
    points = camera.project(head().landmark_points(head().forward(params).vertices[0], "ibug68"))[0]
    return build_problem(head(), params, DeformFlameConfig(), points=points, photo=camera)


def look(problem: Problem, offsets: torch.Tensor, truth: torch.Tensor) -> Observation:
    views = [
        prepare_view(*view, 128) for view in photograph(problem.to_views(problem.canonical + truth), 256)
    ]
    posed = problem.to_views(problem.canonical + offsets)
    return observe(problem.canonical, offsets, posed, problem.faces, stack_views(views), problem.semantics)


def ripple(problem: Problem, height: float) -> torch.Tensor:
    return height * torch.sin(60 * problem.canonical.roll(1, 1))


def test_the_right_answer_costs_nothing(problem: Problem) -> None:
    zero = torch.zeros_like(problem.canonical)
    terms = {k: float(v) for k, v in deformation_loss(zero, problem, look(problem, zero, zero)).items()}
    assert set(terms) == {"nml", "sil", "lmk", "sym", "lap", "par", "fold"} == set(term_names(problem))
    # 8 bits and maps averaged over 2 x 2 pixels are all that is left of the normals and outlines
    assert terms["nml"] < 5e-3 and terms["sil"] < 2e-5
    assert max(terms[name] for name in ("lmk", "sym", "lap", "par", "fold")) < 1e-9


def test_the_laplacian_is_equation_3_to_the_letter(problem: Problem) -> None:
    literal = dataclasses.replace(problem, rest_delta=torch.zeros_like(problem.canonical))
    offsets = ripple(problem, 0.003)
    term = deformation_loss(offsets, literal, look(problem, offsets, offsets))["lap"]
    vertices = (problem.canonical + offsets).double()
    neighbours: list[set[int]] = [set() for _ in vertices]
    for a, b, c in problem.faces.tolist():
        neighbours[a] |= {b, c}
        neighbours[b] |= {a, c}
        neighbours[c] |= {a, b}
    total = 0.0
    for i, near in enumerate(neighbours):
        delta = (vertices[i] - vertices[list(near)].mean(0)) / 0.2
        total += float(problem.semantics.laplacian[i]) * float(delta @ delta)
    assert float(term) == pytest.approx(total, rel=1e-4)


def test_terms_reach_only_the_vertices_they_may(problem: Problem) -> None:
    zero = torch.zeros_like(problem.canonical)
    seen = look(problem, zero, ripple(problem, 0.004))
    variable = ripple(problem, 1e-3).requires_grad_(True)
    terms = deformation_loss(variable, problem, seen)
    moved = {
        name: torch.autograd.grad(value, variable, retain_graph=True)[0].norm(dim=1) > 0
        for name, value in terms.items()
        if name != "fold"
    }
    regions, semantics = head().regions, problem.semantics
    assert not (moved["nml"] & regions["face"]).any(), "normals guide non-facial regions only"
    assert not (moved["lap"] & ~semantics.free).any() and not (moved["sil"] & ~semantics.free).any()
    assert moved["lap"][semantics.free].all() and moved["nml"][regions["scalp"]].float().mean() > 0.9
    assert not (moved["par"] & semantics.free & ~regions["boundary"]).any()
    assert (moved["lmk"] & regions["face"]).any() and (moved["sym"] & regions["face"]).any()


def test_a_mirrored_offset_costs_no_symmetry_and_a_shifted_one_does(problem: Problem) -> None:
    zero = torch.zeros_like(problem.canonical)
    seen = look(problem, zero, zero)
    upward = zero + torch.tensor([0.0, 0.002, 0.001])
    sideways = zero + torch.tensor([0.002, 0.0, 0.0])
    assert float(deformation_loss(upward, problem, seen)["sym"]) < 1e-9
    assert float(deformation_loss(sideways, problem, seen)["sym"]) == pytest.approx(
        (0.004 / 0.2) ** 2, rel=1e-3
    )


def test_mirror_landmarks_pairs_what_lies_across_the_face() -> None:
    partner = mirror_landmarks()
    assert all(partner[partner[k]] == k for k in range(68))
    assert sorted(k for k in range(68) if partner[k] == k) == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    points = head().landmark_points(head().v_template, "ibug68")
    across = points[partner] * torch.tensor([-1.0, 1.0, 1.0])
    assert (points - across).norm(dim=1).median() < 0.002


def test_robust_is_square_near_zero_and_linear_far_away() -> None:
    r = torch.tensor([1e-3, 0.0, 100.0])
    assert torch.allclose(robust(r**2, 0.5), torch.tensor([1e-6, 0.0, 99.5025]), rtol=1e-2)


def test_area_ratio_and_the_fold_barrier_see_a_flip() -> None:
    rest = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2]])
    planes = rest_planes(rest, faces)
    tilted = rest @ torch.tensor([[1.0, 0, 0], [0, 0.5, 3**0.5 / 2], [0, 0, 1]])
    assert float(area_ratio(rest + 5, planes, faces)) == pytest.approx(1)
    assert float(area_ratio(tilted, planes, faces)) == pytest.approx(0.5)  # 60 degrees
    assert float(area_ratio(rest * torch.tensor([-1.0, 1, 1]), planes, faces)) == pytest.approx(-1)
    assert float(fold_barrier(tilted, planes, faces)) == 0
    assert float(fold_barrier(-rest[:, [1, 0, 2]], planes, faces)) > 1


def test_two_steps_solve_what_is_quadratic(problem: Problem) -> None:
    """Without maps and landmarks the objective is quadratic and the metric is its Hessian.

    The first step places the held vertices, the second the free ones, which look at them.
    """
    alone = dataclasses.replace(problem, landmarks=None)
    lambdas = Lambdas(nml=0, sil=0, lmk=0, sym=0, lap=10, par=100, fold=0)
    offsets = ripple(problem, 0.002)
    seen = look(problem, offsets, offsets)
    posed = problem.to_views(problem.canonical + offsets)
    solver, _ = Metric(alone, lambdas).solver(offsets, posed, seen, 1.0)
    followers = ~(problem.semantics.free | problem.semantics.held)

    def slope(at: torch.Tensor) -> torch.Tensor:
        variable = at.clone().requires_grad_(True)
        loss = lambdas.total(deformation_loss(variable, alone, seen))
        return torch.autograd.grad(loss, variable)[0]

    start = slope(offsets)
    for _ in range(2):
        step = solver(slope(offsets))
        assert not step[followers].any()
        offsets = offsets - step
    assert float(slope(offsets).norm() / start.norm()) < 1e-3


def test_unfold_mends_a_flip_and_leaves_the_rest_alone(problem: Problem) -> None:
    offsets = ripple(problem, 5e-4)
    chosen = int(torch.nonzero(problem.semantics.free)[500])
    neighbour = int(problem.faces[(problem.faces == chosen).any(1)][0].roll(1)[0])
    offsets[chosen] = 3 * (problem.canonical[neighbour] - problem.canonical[chosen])
    ratio = area_ratio(problem.canonical + offsets, problem.planes, problem.faces)
    assert int((ratio < LEAST_AREA).sum()) > 0
    mended, count = unfold(offsets, problem)
    after = area_ratio(problem.canonical + mended, problem.planes, problem.faces)
    assert count == int((ratio < LEAST_AREA).sum()) and float(after.min()) >= LEAST_AREA
    assert ((mended - offsets).norm(dim=1) > 0).float().mean() < 0.05
