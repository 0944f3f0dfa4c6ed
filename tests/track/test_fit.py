"""The solver: its derivatives, what it recovers from exact landmarks, one identity over several pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omega_cli.head.assets import load_head
from omega_cli.head.params import HeadParams
from omega_cli.track import fit as solver
from omega_cli.track.basis import landmark_basis, point_basis
from omega_cli.track.fit import Freedom, State, View
from omega_cli.track.identity import HeadFitter
from omega_cli.track.observe import source_camera


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def basis(head):
    """150 skin points and 6 points on each eyeball: the solver does not care what a landmark is called."""
    generator = np.random.default_rng(0)
    faces = head.faces.numpy()
    skin = np.flatnonzero(head.regions["face"].numpy()[faces].all(1))
    eyes = [np.flatnonzero(head.regions[name].numpy()[faces].all(1)) for name in ("left_eye", "right_eye")]
    chosen = np.concatenate([generator.choice(skin, 150), *(generator.choice(e, 6) for e in eyes)])
    return point_basis(head, faces[chosen], generator.dirichlet(np.ones(3), len(chosen)))


def a_state(basis, seed=0, size=1.0) -> tuple[np.ndarray, State]:
    generator = np.random.default_rng(seed)
    betas = size * generator.normal(size=basis.S)
    expression = generator.uniform(0, 0.6, basis.E) * (generator.random(basis.E) < 0.3)
    rotation = solver.rotation_of(generator.normal(size=3) * 0.2)
    gaze = generator.normal(size=(2, 2)) * 0.1
    return betas, State(rotation, np.array([0.01, -0.1, -0.05]), expression, 0.0, gaze)


def a_view(basis, betas, state, spread=1.0) -> View:
    K, viewmat = source_camera()
    E = basis.E
    whiten = np.tile(np.eye(2), (len(basis), 1, 1))
    view = View(np.zeros((len(basis), 2)), whiten, np.zeros(E), np.full(E, spread), K, viewmat)
    return replace(view, points=solver.project(basis, betas, state, view))


def test_points_agree_with_the_head_model(head, basis):
    """The small basis and the whole model put a landmark in the same place."""
    betas, state = a_state(basis)
    fitter = HeadFitter.__new__(HeadFitter)
    fitter.basis = basis
    params = fitter.params(betas, [state])
    generator = np.random.default_rng(0)
    faces = head.faces.numpy()
    skin = np.flatnonzero(head.regions["face"].numpy()[faces].all(1))
    eyes = [np.flatnonzero(head.regions[name].numpy()[faces].all(1)) for name in ("left_eye", "right_eye")]
    chosen = np.concatenate([generator.choice(skin, 150), *(generator.choice(e, 6) for e in eyes)])
    barycentric = generator.dirichlet(np.ones(3), len(chosen))
    vertices = head(params).vertices[0].numpy()
    expected = np.einsum("lkc,lk->lc", vertices[faces[chosen]], barycentric)
    points, _ = solver.local_points(basis, betas, state)
    world = points @ state.rotation.T + state.position
    assert np.abs(world - expected).max() < 2e-6


def test_jacobian_is_the_derivative(basis):
    betas, state = a_state(basis)
    state = replace(state, jaw=0.1)
    points, derivative = solver.local_points(basis, betas, state)
    step = 1e-6
    for i in range(derivative.shape[2]):
        moved, moved_betas = state, betas
        if i == 0:
            moved = replace(state, jaw=state.jaw + step)
        elif i < 5:
            gaze = state.gaze.copy()
            gaze.flat[i - 1] += step
            moved = replace(state, gaze=gaze)
        elif i < 5 + basis.E:
            moved = replace(state, expression=state.expression + step * (np.arange(basis.E) == i - 5))
        else:
            moved_betas = betas + step * (np.arange(basis.S) == i - 5 - basis.E)
        numeric = (solver.local_points(basis, moved_betas, moved)[0] - points) / step
        assert np.abs(numeric - derivative[..., i]).max() < 1e-5, i


def test_gradient_is_the_costs(basis):
    """g is minus half the slope of the cost where landmarks fit (the robust weight is then constant)."""
    betas, state = a_state(basis)
    view = a_view(basis, betas, state)
    nearby = replace(state, position=state.position + 1e-4)
    _, g, cost = solver.normal_equations(basis, betas, nearby, view, Freedom(jaw=True), robust=1e6)
    for i in range(6):
        step = np.zeros(len(g))
        step[i] = 1e-6
        moved = solver._moved(nearby, step[: 11 + basis.E], bounded=False)
        _, _, after = solver.normal_equations(basis, betas, moved, view, Freedom(jaw=True), robust=1e6)
        assert (after - cost) / 1e-6 == pytest.approx(-2 * g[i], rel=2e-2, abs=2.0)


def test_exact_landmarks_are_met_from_a_poor_start(basis):
    betas, state = a_state(basis, size=0.7)
    view = replace(a_view(basis, betas, state), whiten=np.tile(np.eye(2) / 0.05, (len(basis), 1, 1)))
    used = np.ones(len(basis), bool)
    turned = solver.rotation_of(np.array([0.15, -0.2, 0.1])) @ state.rotation
    first = solver.start(basis, view, turned, used)
    zero = np.zeros(basis.S)
    _, states, _ = solver.solve(basis, zero, [first], [view], Freedom(betas=False, expression=False), 10)
    found, states, _ = solver.solve(basis, zero, states, [view], Freedom(), 20, tolerance=1e-4)
    error = np.linalg.norm(solver.project(basis, found, states[0], view) - view.points, axis=1)
    assert error.mean() < 0.1  # px
    angle = np.degrees(
        np.linalg.norm(solver.rotation_of(np.zeros(3)) - states[0].rotation.T @ state.rotation) / 2**0.5
    )
    assert angle < 4  # identity and expression can imitate a little rotation, not much


def test_expression_stays_between_0_and_1(basis):
    betas, state = a_state(basis)
    state = replace(state, expression=np.linspace(-0.8, 1.8, basis.E))
    view = a_view(basis, betas, state)
    begin = replace(state, expression=np.full(basis.E, 0.5))
    _, states, _ = solver.solve(basis, betas, [begin], [view], Freedom(betas=False), 10)
    expression = states[0].expression
    assert expression.min() >= 0 and expression.max() <= 1
    assert (expression == 0).sum() > 3 and (expression == 1).sum() > 3  # bounds are reached, not shied from


def test_priors_decide_where_landmarks_are_silent(basis):
    betas, state = a_state(basis)
    view = a_view(basis, betas, state)
    mean = np.linspace(0, 1, basis.E)
    silent = replace(view, whiten=np.zeros_like(view.whiten), mean=mean)
    found, states, _ = solver.solve(basis, betas, [state], [silent], Freedom(), 5)
    assert np.abs(states[0].expression - mean).max() < 1e-2
    assert np.abs(found).max() < 1e-2 and np.abs(states[0].gaze).max() < 1e-3


def test_two_pictures_share_one_identity(basis):
    """Landmarks of one person in two poses: joint betas predict a third pose better than one picture's."""
    betas, front = a_state(basis, seed=1)
    turned = replace(front, rotation=solver.rotation_of(np.array([0, 0.6, 0])) @ front.rotation)
    other = replace(front, rotation=solver.rotation_of(np.array([0, -0.6, 0])) @ front.rotation)
    views = [replace(a_view(basis, betas, s), whiten=np.tile(np.eye(2) / 0.3, (len(basis), 1, 1)))
             for s in (front, turned, other)]  # fmt: skip

    def error(count: int) -> float:
        found, states, _ = solver.solve(
            basis, np.zeros(basis.S), [front, turned][:count], views[:count], Freedom(), 12, tolerance=1e-4
        )
        assert len(states) == count
        points, _ = solver.local_points(basis, found, states[0])
        truth, _ = solver.local_points(basis, betas, front)
        depth = points[:, 2] - truth[:, 2]
        return float(np.abs(depth - depth.mean()).mean())

    assert error(2) < 0.7 * error(1)


def test_folding_betas_in_changes_nothing(basis):
    betas, state = a_state(basis)
    person = basis.with_betas(betas)
    assert person.S == 0
    a, _ = solver.local_points(basis, betas, state)
    b, _ = solver.local_points(person, np.zeros(0), state)
    assert np.abs(a - b).max() < 1e-12


def test_params_place_the_root(head, basis):
    """The solver's root position is the model's root joint."""
    betas, state = a_state(basis)
    fitter = HeadFitter.__new__(HeadFitter)
    fitter.basis = basis
    params = fitter.params(betas, [state, replace(state, position=state.position + 0.1)])
    assert isinstance(params, HeadParams) and len(params) == 2
    joints = head(params).joints[:, 0].numpy()
    assert np.abs(joints - np.stack([state.position, state.position + 0.1])).max() < 1e-6
    assert torch.equal(params.neck_pose, torch.zeros(2, 3))


def test_landmark_embeddings_make_a_basis(head):
    for name in ("mediapipe478", "ibug68"):
        found, valid = landmark_basis(head, name)
        assert len(found) == len(valid) == len(head.landmarks[name])
    iris, _ = landmark_basis(head, "mediapipe478")
    assert (iris.eye[468:473] == 1).all() and (iris.eye[473:478] == 0).all()  # right, then left eyeball
