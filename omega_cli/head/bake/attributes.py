"""Named regions and the generic albedo of the open head (see docs/open-head.md for what each is for)."""

from __future__ import annotations

import numpy as np

from omega_cli.head.bake.assemble import Head
from omega_cli.head.bake.parts import EYE_RINGS_DEG, IRIS_DEG, PUPIL_DEG, eye_angles
from omega_cli.head.bake.rig import smooth

BOUNDARY_M = 0.015  # the strip along the bust's edge

SKIN, LIP, CAVITY = (0.780, 0.600, 0.510), (0.700, 0.430, 0.390), (0.300, 0.090, 0.080)
TEETH, TONGUE, LASH = (0.880, 0.850, 0.780), (0.640, 0.300, 0.290), (0.130, 0.100, 0.090)
SCLERA, IRIS, LIMBUS, PUPIL = (
    (0.900, 0.880, 0.860),
    (0.360, 0.250, 0.170),
    (0.200, 0.150, 0.120),
    (0.03, 0.03, 0.03),
)
# Vertices of the source are few along the lid margin; the wet rim is a little redder than the skin.
LID = (0.700, 0.480, 0.430)


def regions(head: Head) -> dict[str, np.ndarray]:
    """name -> [V] bool. face, scalp, neck, ears and boundary partition `skin`."""
    v, m = head.mean, head.masks
    x, y, z = v[:, 0], v[:, 1], v[:, 2]
    whole_skin = head.of("skin")
    cavity = whole_skin & (m["inside-mouth"] > 0.55) & (m["lips"] < 0.5)
    skin = whole_skin & ~cavity
    rim = v[head.rim]
    distance = np.sqrt(((v[:, None] - rim[None]) ** 2).sum(-1)).min(1)
    boundary = skin & (distance < BOUNDARY_M)
    ears = skin & (m["ears"] > 0.3) & ~boundary
    scalp = skin & (m["hair"] > 0) & ~ears & ~boundary
    rest = skin & ~boundary & ~ears & ~scalp
    # the jaw line: from under the chin up to the ear lobe; the painted face mask adds the jaw's own skin
    jaw_line = np.interp(z, [-0.10, -0.005, 0.03, 0.075, 0.085], [0.10, -0.015, -0.045, -0.080, -0.20])
    neck = rest & (y < jaw_line) & (m["face"] < 0.6)
    neck |= rest & (z < -0.012) & (y < 0.0)
    face = rest & ~neck
    lips = skin & (m["lips"] > 0.35)
    centre = v[np.flatnonzero(head.of("eye") & (x > 0))].mean(0) * [1, 1, 1]
    away = np.sqrt((np.abs(x) - centre[0]) ** 2 / 0.026**2 + (y - centre[1]) ** 2 / 0.020**2)
    eye_region = face & (away < 1) & (z > centre[2] - 0.01)
    eye = head.of("eye")
    brow = centre[1] + 0.019
    nose_tip = v[face & (np.abs(x) < 1e-6)][:, 2].argmax()
    tip = v[face & (np.abs(x) < 1e-6)][nose_tip]
    slope = np.interp(
        y, [tip[1] - 0.014, tip[1] - 0.004, tip[1] + 0.01, centre[1]], [0.012, 0.019, 0.0175, 0.009]
    )
    nose = face & (np.abs(x) < slope) & (y > tip[1] - 0.0135) & (y < centre[1] + 0.004) & (z > tip[2] - 0.045)
    return {
        "skin": skin, "face": face, "scalp": scalp, "neck": neck, "boundary": boundary, "ears": ears,
        "left_ear": ears & (x > 0), "right_ear": ears & (x < 0), "eyes": eye, "left_eye": eye & (x > 0),
        "right_eye": eye & (x < 0), "lips": lips, "teeth": head.of("upper_teeth", "lower_teeth"),
        "upper_teeth": head.of("upper_teeth"), "lower_teeth": head.of("lower_teeth"),
        "tongue": head.of("tongue"), "mouth_inside": cavity, "nose": nose,
        "lashes": head.of("upper_lash", "lower_lash"),
        "eye_region": eye_region, "forehead": face & (y > brow + 0.008) & (z > 0.03),
    }  # fmt: skip


def albedo(head: Head, named: dict[str, np.ndarray]) -> np.ndarray:
    """[V, 3] sRGB in [0, 1]: a generic person, for the parts that no photo shows."""
    colour = np.tile(np.array(SKIN), (len(head.mean), 1))

    def blend(target: tuple[float, float, float], amount: np.ndarray) -> None:
        nonlocal colour
        colour = colour + amount[:, None] * (np.array(target) - colour)

    blend(LIP, np.clip(head.masks["lips"], 0, 1))
    blend(LID, np.clip(head.masks["eyelids"], 0, 1) * 0.6)
    inside = smooth(head.faces, named["mouth_inside"].astype(float), 2)
    blend(CAVITY, np.where(named["mouth_inside"], np.maximum(inside, 0.6), inside * 0.5))
    for name, target in (("teeth", TEETH), ("tongue", TONGUE), ("lashes", LASH)):
        colour[named[name]] = target
    theta = np.degrees(eye_angles()[:, 0])
    limbus = np.abs(theta - IRIS_DEG) <= 1.1
    ball = np.tile(np.array(SCLERA), (len(theta), 1))
    ball[theta < IRIS_DEG] = IRIS
    ball[limbus] = LIMBUS
    ball[theta < PUPIL_DEG] = PUPIL
    ball[theta > EYE_RINGS_DEG[-4]] = (0.80, 0.62, 0.58)
    for side in ("left_eye", "right_eye"):
        colour[named[side]] = ball
    return colour.clip(0, 1)
