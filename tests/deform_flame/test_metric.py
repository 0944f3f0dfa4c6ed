"""The linear algebra under the fit: constant maps, posing as one affine map, dense and sparse factors."""

from __future__ import annotations

import pytest
import torch
from deform_flame.scene import hair, head, person, photograph

from omega_cli.deform_flame.config import DeformFlameConfig
from omega_cli.deform_flame.factor import DenseFactoriser, Pattern, SparseFactoriser
from omega_cli.deform_flame.linear import SparseMap, Surface
from omega_cli.deform_flame.metric import Metric
from omega_cli.deform_flame.objective import Lambdas, Problem
from omega_cli.deform_flame.observe import observe
from omega_cli.deform_flame.posing import posing
from omega_cli.deform_flame.problem import build_problem
from omega_cli.deform_flame.solve import fit
from omega_cli.deform_flame.views import Views, prepare_view, stack_views
from omega_cli.geometry.camera import Camera
from omega_cli.geometry.mesh import uniform_laplacian

LAMBDAS = Lambdas(nml=3, sil=200, lmk=1000, sym=10, lap=10, par=100)


@pytest.fixture(scope="module")
def scene() -> tuple[Problem, Views]:
    params = person().replace(transl=torch.tensor([[0.0, 0.0, -1.0]]))
    canonical = head().identity(params.betas)
    truth = canonical + hair(canonical)
    camera = Camera(
        torch.tensor([[1280.0, 0, 256], [0, 1280, 256], [0, 0, 1]]),
        torch.diag(torch.tensor([1.0, -1, -1, 1])),
        512,
        512,
    )
    posed = head().animate(truth, params).vertices[0]
    points = camera.project(head().landmark_points(posed, "ibug68"))[0]
    problem = build_problem(head(), params, DeformFlameConfig(), points=points, photo=camera)
    return problem, stack_views([prepare_view(*view, 128) for view in photograph(truth, 128)])


def test_posing_is_animate_and_has_its_gradient() -> None:
    model, generator = head(), torch.Generator().manual_seed(0)
    params = person().replace(
        expression=0.5 * torch.rand(1, model.E, generator=generator),
        global_orient=torch.tensor([[0.1, 0.4, -0.2]]),
        neck_pose=torch.tensor([[0.2, -0.1, 0.1]]),
        jaw_pose=torch.tensor([[0.3, 0.0, 0.05]]),
        leye_pose=torch.tensor([[0.1, 0.2, 0.0]]),
        transl=torch.tensor([[0.02, -0.1, -1.0]]),
        scale=torch.tensor(1.1),
    )
    surfaces = model.identity(params.betas) + 0.02 * torch.randn(
        2, *model.v_template.shape, generator=generator
    )
    probe = torch.randn(surfaces.shape, generator=generator)
    pose, results = posing(model, params), []
    for call in (pose, lambda pair: torch.stack([model.animate(v, params).vertices[0] for v in pair])):
        variable = surfaces.clone().requires_grad_(True)
        posed = call(variable)
        results.append((posed.detach(), torch.autograd.grad((posed * probe).sum(), variable)[0]))
    (mine, slope), (theirs, their_slope) = results
    assert torch.allclose(mine, theirs, atol=1e-6)
    assert torch.allclose(slope, their_slope, atol=2e-4, rtol=1e-4)  # sums over 8,000 vertices at each joint


def test_points_and_sparse_maps_are_the_dense_products_with_their_transposes() -> None:
    generator = torch.Generator().manual_seed(0)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [5, 6, 7]])  # 4 is alone: a row of zeros
    L = uniform_laplacian(faces, 8)
    face_index = torch.tensor([3, 0, 0, 2])
    barycentric = torch.rand(4, 3, generator=generator)
    B = torch.zeros(4, 8).scatter_add_(1, faces[face_index], barycentric)
    for call, dense in (
        (SparseMap(L), L.to_dense()),
        (Surface(faces[face_index], barycentric, face_index), B),
    ):
        x = torch.randn(8, 5, generator=generator).requires_grad_(True)
        y = call(x)
        g = torch.randn(y.shape, generator=generator)
        assert torch.allclose(y, dense @ x, atol=1e-6)
        assert torch.allclose(torch.autograd.grad((y * g).sum(), x)[0], dense.T @ g, atol=1e-6)
    first, second = (SparseMap(L).column[k] for k in SparseMap(L).pairs())
    value = torch.stack([SparseMap(L).value[k] for k in SparseMap(L).pairs()]).prod(0)
    square = torch.zeros(8, 8).index_put_((first, second), value, accumulate=True)
    assert torch.allclose(square, L.to_dense().T @ L.to_dense(), atol=1e-6)


def test_the_dense_factor_solves_what_the_sparse_one_solves(scene: tuple[Problem, Views]) -> None:
    problem, views = scene
    zero = torch.zeros_like(problem.canonical)
    seen = observe(
        problem.canonical, zero, problem.to_views(problem.canonical), problem.faces, views, problem.semantics
    )
    g = torch.randn(problem.canonical.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for factorise in (SparseFactoriser, DenseFactoriser):
        metric = Metric(problem, LAMBDAS, factorise)
        solve, failed = metric.solver(zero, problem.to_views(problem.canonical), seen, 1.0)
        assert int(failed) == 0
        found.append(solve(g))
    sparse, dense = found
    # measured 8e-9: both float64, rounded to float32
    assert float((sparse - dense).norm() / sparse.norm()) < 1e-7
    active = problem.semantics.free | problem.semantics.held
    assert not dense[~active].any() and dense[active].any(1).all()


def test_a_matrix_that_is_not_positive_definite_is_reported() -> None:
    at = torch.arange(3)
    factorise = DenseFactoriser(Pattern(at, at, (2, 1)))
    assert int(factorise(torch.tensor([1.0, 2.0, 4.0]).double()).failed) == 0
    assert int(factorise(torch.tensor([1.0, -2.0, 4.0]).double()).failed) > 0
    solved = factorise(torch.tensor([1.0, 2.0, 4.0]).double()).solve(torch.ones(3, 1).double())
    assert torch.allclose(solved[:, 0], torch.tensor([1.0, 0.5, 0.25]).double())


def test_a_fit_with_dense_factors_is_the_fit_with_sparse_ones(scene: tuple[Problem, Views]) -> None:
    problem, views = scene
    fits = [
        fit(problem, views, LAMBDAS, iterations=4, max_offset=0.09, factorise=factorise)
        for factorise in (SparseFactoriser, DenseFactoriser)
    ]
    sparse, dense = fits
    gap = (sparse.offsets - dense.offsets).norm(dim=1)
    assert float(sparse.offsets.norm(dim=1).max()) > 0.01
    assert float(gap.max()) < 2e-7  # m; measured 2.4e-8
    for a, b in zip(sparse.history, dense.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-4, abs=1e-9
        )
