"""A film tracked: one identity, per-frame expression, pose and gaze on an even time grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
import torch

from omega_cli.errors import OmegaError
from omega_cli.head.model import HeadModel
from omega_cli.head.params import HeadParams
from omega_cli.track import smooth
from omega_cli.track.crop import SPAN, face_height
from omega_cli.track.fit import State
from omega_cli.track.identity import Fit, HeadFitter
from omega_cli.track.landmarks import Face, Landmarker, find_faces
from omega_cli.track.observe import SIZE
from omega_cli.track.priors import closed_eyes, usual_opening

MAX_MISSING = 0.5  # share of frames without a face beyond which there is no motion to speak of
MIN_FACE = 64  # px, as for photos
IDENTITY_FRAMES = 10  # pictures the identity is solved from  # ours
_SMALL = 0.22  # a face under this share of the frame is followed in a window around it
_PROBES = 6  # frames looked at before the start
_DEPTH_SECONDS, _DEPTH_SPREAD = 0.35, 0.001  # s, m: how slowly a head comes nearer, how firmly that holds
_LOST_STEP = 0.35  # face sizes the centre may jump between frames and still be the same person


@dataclass(frozen=True, eq=False)
class TrackedVideo:
    """A film's motion on an even grid of T times.

    params (T frames, betas fixed); neutral: the person's resting face and usual pose (1 frame);
    times [T] s from the film's first frame, fps = 1 / spacing; valid [T]: False where the face was not
    seen and motion is filled in; points478 [T, 478, 2] px of the film's pictures (filled alike);
    scores [T, 52] as measured; size (width, height) of the pictures; crop: scale, shift to the 512 px camera.
    """

    params: HeadParams
    neutral: HeadParams
    fps: float
    times: np.ndarray
    valid: np.ndarray
    points478: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]
    crop: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Film:
    """Decoded pictures: an iterator of (time s, rgb [H, W, 3] uint8); `damage` is set when it ends early."""

    frames: int  # as announced by the container; 0 unknown
    rate: float  # average frames/s as announced; 0 unknown
    damage: list[str]

    def read(self, stream: BinaryIO, name: str, stop: int = 0) -> Iterator[tuple[float, np.ndarray]]:
        """Pictures in order of presentation; a broken tail ends the film and is noted in `damage`."""
        import av

        stream.seek(0)
        count, last = 0, -1.0
        with av.open(stream, "r", metadata_errors="ignore") as container:
            video = container.streams.video[0]
            video.thread_type = "AUTO"
            rate = self.rate or 25.0
            decoder = container.decode(video)
            while True:
                try:
                    frame = next(decoder, None)
                except av.FFmpegError as error:
                    self.damage.append(f"{name} is damaged after frame {count} ({error.strerror or error}).")
                    return
                if frame is None or (stop and count >= stop):
                    return
                time = frame.time if frame.time is not None else count / rate
                if time <= last:
                    time = last + 1 / rate  # a broken clock: presentation order is what is left
                last = time
                yield float(time), frame.to_ndarray(format="rgb24")
                count += 1


def open_film(stream: BinaryIO, name: str) -> Film:
    """Look at a film's header. Raises OmegaError when it is no film or holds no pictures."""
    import av

    hint = "Give an MP4, MOV, WebM, MKV or GIF of one face."
    try:
        with av.open(stream, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise OmegaError(f"{name} has no pictures in it (sound only).", hint)
            video = container.streams.video[0]
            rate = float(video.average_rate or video.guessed_rate or 0)
            return Film(video.frames, rate if 0 < rate < 1000 else 0.0, [])
    except av.FFmpegError as error:
        raise OmegaError(f"{name} is not a film that can be read.", hint) from error


@dataclass
class _Seen:
    """What the first pass keeps of each picture."""

    times: list[float] = field(default_factory=list)
    faces: list[Face | None] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def track_film(
    stream: BinaryIO, model: HeadModel, task: bytes, *, name: str, smooth_strength: float = 1.0,
    max_frames: int = 0, report: Any,
) -> TrackedVideo:  # fmt: skip
    """Track the largest face of a film. `task`: the landmark network's bytes; report: console.Report.

    Raises OmegaError for a film without pictures, without a face, or with a face in fewer than half of
    its frames; a broken tail only warns.
    """
    film = open_film(stream, name)
    window = _first_window(film, stream, name, task)
    seen = _watch(film, stream, name, task, window, max_frames, report)
    warnings = [f"{d} The {len(seen.times)} frames before that are used." for d in film.damage[-1:]]
    valid = np.array([face is not None for face in seen.faces])
    _require_faces(valid, name, seen)
    biggest = np.median([face.size for face in seen.faces if face is not None])
    if biggest < MIN_FACE:
        raise OmegaError(
            f"The face in {name} is only {biggest:.0f} px high; at least {MIN_FACE} are needed.",
            "Use a closer or larger film of the same person.",
        )
    fitter = HeadFitter(model)
    scale, shift = _camera_window([face for face in seen.faces if face is not None])
    faces = [None if face is None else face.moved(scale, shift) for face in seen.faces]
    known = [face for face in faces if face is not None]
    open_eyes = usual_opening(known)
    chosen = _identity_faces(known)
    identity = fitter.fit(chosen, [None] * len(chosen), open_eyes)
    times = np.array(seen.times) - seen.times[0]
    states, error = _follow(fitter, identity, faces, times, open_eyes, report)
    fps = _even_rate(times, film.rate)
    closed = np.stack([[1.0, 1.0] if f is None else closed_eyes(f, open_eyes) for f in faces])
    params, grid, grid_valid = _on_grid(fitter, identity.betas, states, times, valid, closed, fps)
    params = _smoothed(params, fitter.names, fps, smooth_strength)
    lost = smooth.gaps(valid)
    if lost:
        spans = ", ".join(f"{times[a]:.2f} to {times[b]:.2f} s" for a, b in lost[:4])
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        warnings.append(
            f"No face in {int((~valid).sum())} of {len(valid)} frames of {name} ({spans}{more}): filled in."
        )
    points = np.stack([np.full((478, 2), np.nan) if f is None else f.points for f in seen.faces])
    scores = np.stack([np.full(52, np.nan) if f is None else f.scores for f in seen.faces])
    return TrackedVideo(
        params=params,
        neutral=neutral_of(params, grid_valid),
        fps=fps,
        times=grid,
        valid=grid_valid,
        points478=smooth.fill_values(points.reshape(len(points), -1), times, valid, grid).reshape(-1, 478, 2),
        scores=smooth.fill_values(scores, times, valid, grid),
        size=seen.size,
        crop={"scale": scale, "shift": list(shift)},
        warnings=warnings,
        metrics={
            "frames": len(times), "lost_frames": int((~valid).sum()), "fps": round(fps, 4),
            "reprojection_percent": round(100 * error, 3),
            "betas_abs_max": round(float(np.abs(identity.betas).max(initial=0)), 2),
        },
    )  # fmt: skip


# --- first pass: landmarks ----------------------------------------------------------------------------


def _first_window(film: Film, stream: BinaryIO, name: str, task: bytes) -> tuple[slice, slice] | None:
    """The part of the pictures (rows, columns) to watch: None for all, a window where the face is small."""
    stop = max(1, min(film.frames or 150, 150))
    wanted = set(np.linspace(0, stop - 1, _PROBES).round().astype(int))
    best: list[Face] = []
    shape = (0, 0)
    with Landmarker(task) as landmarker:
        for i, (_, rgb) in enumerate(film.read(stream, name, stop)):
            if i not in wanted:
                continue
            shape = rgb.shape[:2]
            best += find_faces(rgb, landmarker)[:1]
            if best and best[0].size > _SMALL * max(shape):
                return None
    if not best or np.median([face.size for face in best]) > _SMALL * max(shape):
        return None
    x, y = np.median([face.centre for face in best], axis=0)
    half = 2.5 * max(face.size for face in best) + max(np.ptp([f.centre for f in best], axis=0)) / 2
    rows = slice(max(0, int(y - half)), min(shape[0], int(y + half)))
    return rows, slice(max(0, int(x - half)), min(shape[1], int(x + half)))


def _watch(
    film: Film, stream: BinaryIO, name: str, task: bytes, window: tuple[slice, slice] | None,
    max_frames: int, report: Any,
) -> _Seen:  # fmt: skip
    """Landmarks of one face in every picture: the largest to begin with, then whoever is nearest to it."""
    film.damage.clear()
    seen, last = _Seen(), None
    total = min(film.frames, max_frames) if max_frames and film.frames else max_frames or film.frames or None
    corner = (0.0, 0.0) if window is None else (float(window[1].start), float(window[0].start))
    # two faces: with one, MediaPipe smooths the points itself, with a delay that cannot be undone
    with Landmarker(task, "video", faces=2) as landmarker, report.progress("landmarks", total=total) as bar:
        for time, rgb in film.read(stream, name, max_frames):
            seen.size = (rgb.shape[1], rgb.shape[0])
            view = rgb if window is None else rgb[window]
            found = landmarker.detect(view, milliseconds=round(time * 1000) + len(seen.times))
            face = _same_person(found, last)
            if face is not None:
                last = face
                face = face.moved(1.0, corner)
            seen.times.append(time)
            seen.faces.append(face)
            bar.advance()
    if not seen.times:
        raise OmegaError(f"{name} holds no pictures (0 frames).", "Give a film with at least one frame.")
    return seen


def _same_person(found: Sequence[Face], last: Face | None) -> Face | None:
    """The largest face at first; later the one nearest to the last, unless it jumped too far at once."""
    if last is None or not found:
        return found[0] if found else None
    near = min(found, key=lambda face: float(np.hypot(*np.subtract(face.centre, last.centre))))
    jump = float(np.hypot(*np.subtract(near.centre, last.centre))) / max(last.size, 1.0)
    return near if len(found) == 1 or jump < _LOST_STEP else max(found, key=lambda face: face.size)


def _require_faces(valid: np.ndarray, name: str, seen: _Seen) -> None:
    if not valid.any():
        raise OmegaError(
            f"No face was found in any of the {len(valid)} frames of {name}.",
            "Use a film of one face, at least 64 px high, turned less than 60° to the side.",
        )
    if (~valid).mean() > MAX_MISSING:
        raise OmegaError(
            f"{name} shows a face in only {int(valid.sum())} of {len(valid)} frames; half are needed.",
            f"Cut it to the part with the face (first seen at {seen.times[int(valid.argmax())]:.1f} s).",
        )


# --- second pass: the head ----------------------------------------------------------------------------


def _camera_window(faces: list[Face]) -> tuple[float, tuple[float, float]]:
    """Scale and shift from the film's pixels to the 512 px camera: one window for the whole film."""
    height = float(np.median([face_height(face) for face in faces]))
    x, y = np.median([face.centre for face in faces], axis=0)
    scale = SIZE / (SPAN * height)
    return scale, (SIZE / 2 - x * scale, SIZE / 2 - (y - 0.05 * height) * scale)


def _identity_faces(known: list[Face]) -> list[Face]:
    """A few pictures that show the identity best: spread over the turns seen, calm expressions first."""
    order = sorted(range(len(known)), key=lambda i: known[i].yaw_deg)
    chosen = []
    for part in np.array_split(np.array(order), min(IDENTITY_FRAMES, len(order))):
        chosen.append(min(part, key=lambda i: known[i].scores.sum() + 0.05 * abs(known[i].yaw_deg)))
    return [known[i] for i in chosen]


def _follow(
    fitter: HeadFitter, identity: Fit, faces: list[Face | None], times: np.ndarray, open_eyes: np.ndarray,
    report: Any,
) -> tuple[list[State | None], float]:  # fmt: skip
    """A state per frame (None where no face was seen) and the mean error in face sizes.

    Landmarks grow and shrink with the expression by some per cent, which alone would read as the head
    rushing to and fro. So depth is taken from a first pass, calmed over time, and held in a second one.
    """
    person = fitter.person(identity.betas)
    views = [None if face is None else fitter.view(face, open_eyes) for face in faces]
    states: list[State | None] = []
    with report.progress("head fit", total=2 * len(faces)) as bar:
        for face, view in zip(faces, views, strict=True):
            bar.advance()
            last = states[-1] if states else None
            if face is None or view is None:
                states.append(None)
                continue
            states.append(fitter.follow(person, view, last or fitter.begin(person, view, face)))
        depths = _calm_depths(states, times)
        errors = []
        for i, (face, view, state) in enumerate(zip(faces, views, states, strict=True)):
            bar.advance()
            if face is None or view is None or state is None:
                continue
            held = replace(view, depth=(float(depths[i]), _DEPTH_SPREAD))
            states[i] = state = fitter.follow(person, held, state, steps=2)
            errors.append(fitter.error_px(person, view, state) / face.size)
    return states, float(np.mean(errors))


def _calm_depths(states: list[State | None], times: np.ndarray) -> np.ndarray:
    """The root joint's depth [T] m of every frame, smoothed over _DEPTH_SECONDS."""
    valid = np.array([state is not None for state in states])
    depth = np.array([[np.nan if state is None else state.position[2]] for state in states])
    fps = (len(times) - 1) / max(times[-1] - times[0], 1e-6) if len(times) > 1 else 25.0
    return smooth.smooth_values(smooth.fill_values(depth, times, valid, times), fps, _DEPTH_SECONDS)[:, 0]


def _even_rate(times: np.ndarray, announced: float) -> float:
    """Frames per second of the even grid: the film's own rate where it is even, else its typical one."""
    if len(times) < 2:
        return announced or 25.0
    steps = np.diff(times)
    typical = 1 / float(np.median(steps))
    even = np.abs(steps - np.median(steps)).max() < 0.2 * np.median(steps)
    if even and announced and abs(announced - typical) < 0.05 * typical:
        return announced
    return round((len(times) - 1) / float(times[-1] - times[0]), 3) if even else round(min(typical, 60.0), 3)


def _on_grid(
    fitter: HeadFitter, betas: np.ndarray, states: list, times: np.ndarray, valid: np.ndarray,
    closed: np.ndarray, fps: float,
) -> tuple[HeadParams, np.ndarray, np.ndarray]:  # fmt: skip
    """Parameters at even times: gaps filled, uneven films resampled; times [T] and valid [T] of the grid.

    An eye that is shut (`closed` [T, 2] near 1) shows no iris: its gaze goes from before to after.
    """
    seen = fitter.params(betas, [s for s in states if s is not None])
    grid = np.arange(int(round(times[-1] * fps)) + 1) / fps
    if len(grid) == len(times) and np.abs(grid - times).max() < 0.5 / fps:
        grid = times  # already even (to a container's rounding): frames stay as they are

    def at_all(name: str) -> np.ndarray:
        values = getattr(seen, name).double().numpy()
        fill = smooth.fill_values if name in ("expression", "transl") else smooth.fill_rotations
        usable = np.ones(len(values), bool)
        if name in ("leye_pose", "reye_pose"):
            shut = closed[valid, 0 if name == "leye_pose" else 1] > 0.3
            usable = ~shut if not shut.all() else usable
        return fill(values, times[valid], usable, grid)

    names = ("expression", "transl", "global_orient", "jaw_pose", "leye_pose", "reye_pose", "neck_pose")
    changed = {name: torch.from_numpy(at_all(name).astype(np.float32)) for name in names}
    nearest = np.abs(grid[:, None] - times[None]).argmin(1)
    return seen.replace(**changed), np.arange(len(grid)) / fps, valid[nearest]


def _smoothed(params: HeadParams, names: tuple[str, ...], fps: float, strength: float) -> HeadParams:
    def calm(values: torch.Tensor, function: Callable[..., np.ndarray], *width: Any) -> torch.Tensor:
        return torch.from_numpy(function(values.double().numpy(), fps, *width).astype(np.float32))

    E = params.expression.shape[1]
    expression = calm(params.expression, smooth.smooth_values, smooth.expression_widths(names, E, strength))
    return params.replace(
        expression=expression.clamp(0, 1) if names else expression,
        transl=calm(params.transl, smooth.smooth_values, smooth.POSE_SECONDS * strength),
        global_orient=calm(params.global_orient, smooth.smooth_rotations, smooth.POSE_SECONDS * strength),
        jaw_pose=calm(params.jaw_pose, smooth.smooth_values, smooth.EXPRESSION_SECONDS * strength),
        leye_pose=calm(params.leye_pose, smooth.smooth_values, smooth.GAZE_SECONDS * strength),
        reye_pose=calm(params.reye_pose, smooth.smooth_values, smooth.GAZE_SECONDS * strength),
    )


def neutral_of(params: HeadParams, valid: np.ndarray) -> HeadParams:
    """The person's resting face and usual pose (1 frame), from the frames in which the face was seen.

    A resting coefficient is low but not its rarest low: the 20th percentile, so that a mouth that talks
    or eyes that blink most of the time still rest closed, open. Pose, gaze and place: the median.
    """
    seen = params.frames(torch.from_numpy(np.flatnonzero(valid)))
    middle = {
        name: getattr(seen, name).median(0, keepdim=True).values
        for name in ("global_orient", "neck_pose", "leye_pose", "reye_pose", "transl")
    }
    low = {name: getattr(seen, name).quantile(0.2, 0, keepdim=True) for name in ("expression", "jaw_pose")}
    return seen.frame(0).replace(**middle, **low)
