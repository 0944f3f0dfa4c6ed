"""Fitting the head to landmarks: Levenberg-Marquardt over identity, expression, pose, gaze and placement.

The landmarks are linear in identity and expression, so the whole Jacobian is analytic and a step costs
milliseconds. Several pictures of one person share their betas: each picture's own unknowns are eliminated
first (Schur complement), so that N pictures cost N small solves and one of the size of betas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from omega_cli.track.basis import PointBasis

POSE, JAW, GAZE = slice(0, 6), slice(6, 7), slice(7, 11)  # local unknowns before the expression
_LOCAL = 11
GAZE_SPREAD = 0.35  # rad  # ours
JAW_SPREAD = 0.25  # rad  # ours
BETAS_SPREAD = 1.0


@dataclass(frozen=True)
class State:
    """One picture's unknowns. rotation [3, 3] and position [3] m of the root joint in the world;
    jaw rad; gaze [2, 2]: yaw and pitch of the left and right eye, rad; expression [E]."""

    rotation: np.ndarray
    position: np.ndarray
    expression: np.ndarray
    jaw: float = 0.0
    gaze: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))


@dataclass(frozen=True)
class View:
    """What one picture says. Pixels; world -> camera in OpenCV axes.

    points [L, 2]; whiten [L, 2, 2]: turns a pixel error into standard deviations (0: point unused);
    mean, spread [E]: the expression's prior; K [3, 3]; viewmat [4, 4]; depth: where the root joint is
    expected along z, as (mean, standard deviation) in m, or None.
    """

    points: np.ndarray
    whiten: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    K: np.ndarray
    viewmat: np.ndarray
    depth: tuple[float, float] | None = None


@dataclass(frozen=True)
class Freedom:
    """Which unknowns move: betas, expression (`bounded` to [0, 1]), jaw, gaze; pose always does."""

    betas: bool = True
    expression: bool = True
    bounded: bool = True
    jaw: bool = False
    gaze: bool = True


def skew(v: np.ndarray) -> np.ndarray:  # [..., 3] -> [..., 3, 3]
    zero = np.zeros_like(v[..., 0])
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return np.stack(rows, axis=-1).reshape(*v.shape, 3)


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] of an axis-angle [3]."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3) + skew(vector)
    k = skew(vector / angle)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def eye_rotation(gaze: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] of an eyeball: gaze = (yaw to the subject's left, pitch down), rad."""
    return rotation_of(np.array([0.0, gaze[0], 0.0])) @ rotation_of(np.array([gaze[1], 0.0, 0.0]))


def local_points(basis: PointBasis, betas: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray]:
    """Points [L, 3] in the root frame; their Jacobian [L, 3, 5 + E + S] to jaw, gaze, expression, betas."""
    rest = basis.points + basis.shape @ betas + basis.expression @ state.expression
    derivative = np.zeros((len(basis), 3, 5 + basis.E + basis.S))
    derivative[..., 5 : 5 + basis.E] = basis.expression
    derivative[..., 5 + basis.E :] = basis.shape
    points = rest.copy()
    if state.jaw != 0 or basis.jaw_weight.any():
        turn, axis = rotation_of(np.array([state.jaw, 0, 0])), skew(np.array([1.0, 0, 0]))
        arm = rest - (basis.jaw_point + basis.jaw_shape @ betas)
        points += basis.jaw_weight[:, None] * (arm @ (turn - np.eye(3)).T)
        derivative[..., 0] = basis.jaw_weight[:, None] * (arm @ (axis @ turn).T)
        if state.jaw != 0:
            extra = basis.jaw_weight[:, None, None] * (turn - np.eye(3))
            derivative[..., 5 : 5 + basis.E] += extra @ basis.expression
            derivative[..., 5 + basis.E :] += extra @ (basis.shape - basis.jaw_shape)
    for e in (0, 1):
        on = basis.eye == e
        if not on.any():
            continue
        turn = eye_rotation(state.gaze[e])
        centre = basis.eye_points[e] + basis.eye_shape[e] @ betas
        arm = rest[on] - centre
        points[on] = arm @ turn.T + centre
        yaw, pitch = skew(np.array([0, 1.0, 0])), turn @ skew(np.array([1.0, 0, 0])) @ turn.T
        derivative[on, :, 1 + 2 * e] = arm @ turn.T @ yaw.T
        derivative[on, :, 2 + 2 * e] = arm @ turn.T @ pitch.T
        derivative[on, :, 5 : 5 + basis.E] = turn @ basis.expression[on]
        derivative[on, :, 5 + basis.E :] = turn @ (basis.shape[on] - basis.eye_shape[e]) + basis.eye_shape[e]
    return points, derivative


def project(basis: PointBasis, betas: np.ndarray, state: State, view: View) -> np.ndarray:
    """Pixels [L, 2] of the basis' points."""
    points, _ = local_points(basis, betas, state)
    return _pixels(points @ state.rotation.T + state.position, view)[0]


def _pixels(world: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [L, 2] of world points [L, 3] and the Jacobian [L, 2, 3]."""
    R, t, K = view.viewmat[:3, :3], view.viewmat[:3, 3], view.K
    x, y, z = (world @ R.T + t).T
    z = np.maximum(z, 0.05)  # a wild step may put a point behind the camera: keep the algebra finite
    pixels = np.stack([K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]], axis=1)
    zero = np.zeros_like(z)
    to_camera = np.stack(
        [K[0, 0] / z, zero, -K[0, 0] * x / z**2, zero, K[1, 1] / z, -K[1, 1] * y / z**2], axis=1
    ).reshape(-1, 2, 3)
    return pixels, to_camera @ R


def _robust(error: np.ndarray, scale: float) -> np.ndarray:
    """IRLS weight [L] of whitened errors [L, 2] (Cauchy)."""
    return 1.0 / (1.0 + (error**2).sum(1) / scale**2)


def normal_equations(
    basis: PointBasis, betas: np.ndarray, state: State, view: View, freedom: Freedom, robust: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """H [n, n], right side g [n] and robust cost, unknowns [pose 6, jaw, gaze 4, expression E, betas S].

    Priors on the local unknowns are in; betas' own prior is not (it counts once for all pictures).
    """
    points, derivative = local_points(basis, betas, state)
    turned = points @ state.rotation.T
    pixels, d_world = _pixels(turned + state.position, view)
    error = np.einsum("lij,lj->li", view.whiten, view.points - pixels)
    weight = _robust(error, robust)
    d_white = view.whiten @ d_world * np.sqrt(weight)[:, None, None]
    jacobian = np.concatenate(
        [-d_white @ skew(turned), d_white, (d_white @ state.rotation) @ derivative], axis=2
    )
    used = np.abs(view.whiten).sum((1, 2)) > 0
    J = jacobian[used].reshape(-1, jacobian.shape[2])
    r = (error * np.sqrt(weight)[:, None])[used].reshape(-1)
    H, g = J.T @ J, J.T @ r
    values = np.concatenate([[state.jaw], state.gaze.ravel(), state.expression])
    mean = np.concatenate([np.zeros(5), view.mean])
    spread = np.concatenate([[JAW_SPREAD], np.full(4, GAZE_SPREAD), view.spread])
    slots = np.arange(6, 6 + len(values))
    H[slots, slots] += 1 / spread**2
    g[slots] += (mean - values) / spread**2
    H[POSE, POSE] += 1e-6 * np.eye(6)  # a picture without a single landmark must not make H singular
    cost = robust**2 * np.log1p((error[used] ** 2).sum(1) / robust**2).sum()
    cost += (((values - mean) / spread) ** 2).sum()
    if view.depth is not None:
        off = (view.depth[0] - state.position[2]) / view.depth[1]
        H[5, 5] += 1 / view.depth[1] ** 2
        g[5] += off / view.depth[1]
        cost += off**2
    frozen = np.zeros(len(g), bool)
    frozen[JAW], frozen[GAZE] = not freedom.jaw, not freedom.gaze
    if not freedom.expression:
        frozen[_LOCAL : _LOCAL + basis.E] = True
    _freeze(H, g, frozen)
    return H, g, float(cost)


def _freeze(H: np.ndarray, g: np.ndarray, frozen: np.ndarray) -> None:
    H[frozen] = 0
    H[:, frozen] = 0
    H[frozen, frozen] = 1
    g[frozen] = 0


def _moved(state: State, step: np.ndarray, bounded: bool) -> State:
    expression = state.expression + step[_LOCAL:]
    u, _, v = np.linalg.svd(rotation_of(step[0:3]) @ state.rotation)
    return State(
        rotation=u @ v,
        position=state.position + step[3:6],
        expression=expression.clip(0, 1) if bounded else expression,
        jaw=float(np.clip(state.jaw + step[6], -0.1, 0.7)),
        gaze=(state.gaze + step[GAZE].reshape(2, 2)).clip(-0.8, 0.8),
    )


def _solve_bounded(H: np.ndarray, g: np.ndarray, state: State, bounded: bool) -> np.ndarray:
    """Local step [11 + E] whose expression stays in [0, 1]: what would leave stops at the bound."""
    step = np.linalg.solve(H, g)
    if not bounded:
        return step
    fixed = np.zeros(len(g), bool)
    value = np.zeros(len(g))
    for _ in range(4):
        target = state.expression + step[_LOCAL:]
        out = np.flatnonzero((target < -1e-9) | (target > 1 + 1e-9)) + _LOCAL
        if not len(out):
            break
        fixed[out] = True
        value[out] = np.where(target[out - _LOCAL] < 0, 0.0, 1.0) - state.expression[out - _LOCAL]
        free = ~fixed
        step = np.where(fixed, value, 0.0)
        step[free] = np.linalg.solve(H[np.ix_(free, free)], g[free] - H[np.ix_(free, fixed)] @ value[fixed])
    return step


def solve(
    basis: PointBasis,
    betas: np.ndarray,
    states: Sequence[State],
    views: Sequence[View],
    freedom: Freedom,
    steps: int,
    robust: float = 3.0,
    tolerance: float = 1e-3,
) -> tuple[np.ndarray, list[State], float]:
    """Best betas [S] and state per view; also the final cost. One identity over all views.

    robust: whitened error at which a landmark's pull begins to fade. Stops when a step gains less than
    `tolerance` of the cost.
    """
    states, damping, bounded = list(states), 1e-3, freedom.bounded
    n = _LOCAL + basis.E

    def linearised(betas: np.ndarray, states: Sequence[State]) -> list:
        pairs = zip(states, views, strict=True)
        return [normal_equations(basis, betas, state, view, freedom, robust) for state, view in pairs]

    systems = linearised(betas, states)
    cost = sum(c for *_, c in systems) + float(betas @ betas) / BETAS_SPREAD**2
    for _ in range(steps):
        A = np.eye(basis.S) / BETAS_SPREAD**2
        b = -betas / BETAS_SPREAD**2
        eliminated = []
        for H, g, _ in systems:
            local = H[:n, :n] + damping * np.diag(np.diag(H[:n, :n]))
            if basis.S and freedom.betas:
                cross = np.linalg.solve(local, np.column_stack([H[:n, n:], g[:n]]))
                A += H[n:, n:] - H[n:, :n] @ cross[:, :-1]
                b += g[n:] - H[n:, :n] @ cross[:, -1]
            eliminated.append(local)
        d_betas = np.zeros(basis.S)
        if basis.S and freedom.betas:
            d_betas = np.linalg.solve(A + damping * np.diag(np.diag(A)), b)
        trial = [
            _moved(s, _solve_bounded(local, g[:n] - H[:n, n:] @ d_betas, s, bounded), bounded)
            for (H, g, _), local, s in zip(systems, eliminated, states, strict=True)
        ]
        new_betas = betas + d_betas
        new_systems = linearised(new_betas, trial)
        new_cost = sum(c for *_, c in new_systems) + float(new_betas @ new_betas) / BETAS_SPREAD**2
        if new_cost > cost * (1 + 1e-9):
            damping *= 10
            if damping > 1e4:
                break
            continue
        gain = cost - new_cost
        betas, states, systems, cost = new_betas, trial, new_systems, new_cost
        damping = max(damping / 5, 1e-6)
        if gain < tolerance * max(cost, 1e-9):
            break
    return betas, states, cost


def start(basis: PointBasis, view: View, rotation: np.ndarray, used: np.ndarray) -> State:
    """A first state: MediaPipe's head rotation, placed so that size and centre of the landmarks agree."""
    expression = view.mean.clip(0, 1) if len(view.mean) else view.mean
    state = State(rotation=rotation, position=np.zeros(3), expression=expression)
    turned = (local_points(basis, np.zeros(basis.S), state)[0] @ rotation.T)[used]
    seen = view.points[used]
    focal = view.K[0, 0]
    spread = np.sqrt(((turned[:, :2] - turned[:, :2].mean(0)) ** 2).sum(1).mean())
    depth = focal * spread / max(np.sqrt(((seen - seen.mean(0)) ** 2).sum(1).mean()), 1e-6)
    centre = np.array([*((seen.mean(0) - view.K[:2, 2]) / focal * depth), depth])
    world = view.viewmat[:3, :3].T @ (centre - view.viewmat[:3, 3])
    return replace(state, position=world - turned.mean(0))
