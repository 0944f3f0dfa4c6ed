"""The head model fitted to faces: one identity over one or several pictures, and what each picture does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from omega_cli.errors import OmegaError
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.track import fit as solver
from omega_cli.track.basis import PointBasis, joined, landmark_basis, vertex_basis
from omega_cli.track.fit import Freedom, State, View
from omega_cli.track.landmarks import Face, ibug_points
from omega_cli.track.observe import FOCAL, face_view, ibug_view
from omega_cli.track.perspective import Chooser, moved_back, seen_with
from omega_cli.track.silhouette import Outline

_OUTLINE_ROUNDS = 2
Parts = tuple[np.ndarray, np.ndarray]  # label map and alpha of a crop


@dataclass(frozen=True)
class Fit:
    """betas [S], one State per picture, projected landmarks [L, 2] px per picture, mean error in px; focal:
    the camera's, px."""

    betas: np.ndarray
    states: list[State]
    projected: list[np.ndarray]
    error_px: float
    focal: float = FOCAL

    @property
    def yaw_deg(self) -> float:
        return yaw_deg(self.states[0].rotation)


def yaw_deg(rotation: np.ndarray) -> float:
    """Turn of a head rotation [3, 3] about the vertical; positive towards the subject's left."""
    return math.degrees(math.atan2(rotation[0, 2], rotation[2, 2]))


class HeadFitter:
    """One head model prepared for fitting. Uses its 478 landmarks where it has them, else the 68."""

    def __init__(self, model: HeadModel) -> None:
        self.model = model
        self.names = tuple(model.expression_names)
        self.dense = "mediapipe478" in model.landmarks
        if not self.dense and "ibug68" not in model.landmarks:
            raise OmegaError(
                f"The head model {model.name or ''} has no landmarks to fit to.",
                "Use the open head, or add an ibug68 or mediapipe478 landmark embedding.",
            )
        self.basis, self.valid = landmark_basis(model, "mediapipe478" if self.dense else "ibug68")
        named = bool(self.names)
        self.freedom = Freedom(bounded=named, jaw="jawOpen" not in self.names)
        self.outline = Outline(model)

    def view(self, face: Face, open_eyes: np.ndarray | None = None) -> View:
        """What the solver is told of a face in crop px; open_eyes [2]: the person's usual eye opening."""
        if self.dense:
            return face_view(face, self.valid, self.names, self.model.E, open_eyes)
        points, scores = ibug_points(face.points)
        return ibug_view(points, scores, self.valid, face, self.names, self.model.E, open_eyes)

    def fit(
        self, faces: Sequence[Face], parts: Sequence[Parts | None], open_eyes: np.ndarray | None = None,
        choose: Chooser | None = None,
    ) -> Fit:  # fmt: skip
        """One identity for all faces (crop px); `parts` adds what an outline says, where there is one.
        choose: of one picture, the focal length of its camera (`perspective`); None: the usual one."""
        return self._fit(self.basis, [self.view(face, open_eyes) for face in faces], faces, parts, choose)

    def fit_points68(
        self, points: np.ndarray, scores: np.ndarray, face: Face, part: Parts | None,
        choose: Chooser | None = None,
    ) -> Fit:  # fmt: skip
        """The same from 68 points of another landmark network; scores and first pose are the face's."""
        basis, valid = landmark_basis(self.model, "ibug68")
        view = ibug_view(points, scores, valid, face, self.names, self.model.E)
        return self._fit(basis, [view], [face], [part], choose)

    def _fit(
        self, basis: PointBasis, views: list[View], faces: Sequence[Face], parts: Sequence[Parts | None],
        choose: Chooser | None = None,
    ) -> Fit:  # fmt: skip
        """choose: of one view's focal length; None: the usual one."""
        used = [np.abs(view.whiten).sum((1, 2)) > 0 for view in views]
        states = [
            solver.start(basis, view, face.rotation, on)
            for view, face, on in zip(views, faces, used, strict=True)
        ]
        betas = np.zeros(basis.S)
        pose_only = Freedom(False, False, self.freedom.bounded, False, False)
        _, states, _ = solver.solve(basis, betas, states, views, pose_only, steps=8, robust=6.0)
        betas, states, _ = solver.solve(basis, betas, states, views, self.freedom, steps=12)
        focal = FOCAL
        if choose is not None:
            focal, betas, states = self._with_focal(basis, betas, states[0], views[0], choose)
            views = [seen_with(views[0], focal)]
        if any(part is not None for part in parts):
            betas, states = self._fit_outline(basis, betas, states, views, faces, parts)
        projected = [
            solver.project(basis, betas, state, view) for state, view in zip(states, views, strict=True)
        ]
        errors = [
            np.linalg.norm(p - v.points, axis=1)[on].mean()
            for p, v, on in zip(projected, views, used, strict=True)
        ]
        return Fit(betas, states, projected, float(np.mean(errors)), focal)

    def _with_focal(
        self, basis: PointBasis, betas: np.ndarray, state: State, view: View, choose: Chooser
    ) -> tuple[float, np.ndarray, list[State]]:
        """The chosen focal length, and the fit through such a camera."""
        solved = {FOCAL: (betas, state)}

        def cost(focal: float) -> float:
            nearest = min(solved, key=lambda known: abs(math.log(known / focal)))
            betas, state = solved[nearest]
            begin = [moved_back(state, focal / nearest)]
            betas, states, found = solver.solve(
                basis, betas, begin, [seen_with(view, focal)], self.freedom, steps=8
            )
            solved[focal] = betas, states[0]
            return found

        focal = choose(cost)
        cost(focal)
        betas, state = solved[focal]
        return focal, betas, [state]

    def _fit_outline(
        self, basis: PointBasis, betas: np.ndarray, states: list[State], views: list[View],
        faces: Sequence[Face], parts: Sequence[Parts | None],
    ) -> tuple[np.ndarray, list[State]]:  # fmt: skip
        whole = vertex_basis(self.model, self.outline.vertices)
        for _ in range(_OUTLINE_ROUNDS):  # targets depend on where the outline is now
            goals, whitenings = [], []
            for view, state, face, part in zip(views, states, faces, parts, strict=True):
                goal = pixels = solver.project(whole, betas, state, view)
                whiten = np.zeros((len(pixels), 2, 2))
                if part is not None:
                    goal, whiten = self.outline.targets(pixels, *part, face.box, yaw_deg(state.rotation))
                goals.append(goal)
                whitenings.append(whiten)
            active = np.any([w.any((1, 2)) for w in whitenings], axis=0)
            both = joined(basis, whole.take(active))
            wider = [
                replace(
                    view,
                    points=np.concatenate([view.points, goal[active]]),
                    whiten=np.concatenate([view.whiten, whiten[active]]),
                )
                for view, goal, whiten in zip(views, goals, whitenings, strict=True)
            ]
            betas, states, _ = solver.solve(both, betas, states, wider, self.freedom, steps=3)
        return betas, states

    def person(self, betas: np.ndarray) -> PointBasis:
        """The landmark basis with the identity folded in, for following a film."""
        return self.basis.with_betas(betas)

    def begin(self, person: PointBasis, view: View, face: Face) -> State:
        """The first state of a known person: pose alone, expression as the scores have it."""
        used = np.abs(view.whiten).sum((1, 2)) > 0
        state = solver.start(person, view, face.rotation, used)
        pose_only = Freedom(False, False, self.freedom.bounded, False, False)
        _, states, _ = solver.solve(person, np.zeros(0), [state], [view], pose_only, steps=8, robust=6.0)
        return states[0]

    def follow(self, person: PointBasis, view: View, state: State, steps: int = 3) -> State:
        """One more frame of a known person, from the last frame's state."""
        _, states, _ = solver.solve(person, np.zeros(0), [state], [view], self.freedom, steps, tolerance=3e-3)
        return states[0]

    def error_px(self, person: PointBasis, view: View, state: State) -> float:
        """Mean distance of the counted landmarks in px."""
        used = np.abs(view.whiten).sum((1, 2)) > 0
        moved = solver.project(person, np.zeros(0), state, view)
        return float(np.linalg.norm(moved - view.points, axis=1)[used].mean())

    def params(self, betas: np.ndarray, states: Sequence[State]) -> HeadParams:
        """The solver's states as parameters of the head model."""
        root = self.basis.root + self.basis.root_shape @ betas
        T = len(states)

        def tensor(rows: Sequence[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(np.asarray(rows, dtype=np.float32).reshape(T, -1))

        def axis_angle(matrices: Sequence[np.ndarray]) -> torch.Tensor:
            return tensor(Rotation.from_matrix(np.stack(matrices)).as_rotvec())

        return HeadParams(
            betas=torch.from_numpy(betas.astype(np.float32)),
            expression=tensor([s.expression for s in states]),
            global_orient=axis_angle([s.rotation for s in states]),
            neck_pose=torch.zeros(T, 3),
            jaw_pose=tensor([np.array([s.jaw, 0.0, 0.0]) for s in states]),
            leye_pose=axis_angle([solver.eye_rotation(s.gaze[0]) for s in states]),
            reye_pose=axis_angle([solver.eye_rotation(s.gaze[1]) for s in states]),
            transl=tensor([s.position - root for s in states]),
            scale=torch.ones(()),
        )
