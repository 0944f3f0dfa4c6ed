"""Portraits of a grey or painted face, as `omega_cli.train.parser.pack` reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omega_cli.train.parser import pack


def portrait() -> pack.Portrait:
    """A face of landmarks on a circle, features where they belong, and a matte around it."""
    from omega_cli.head.assets import load_head
    from omega_cli.head.params import HeadParams

    model = load_head()
    rest = model(HeadParams.zeros(model.S, model.E)).vertices[0]
    points = model.landmark_points(rest, "mediapipe478")[:, :2].numpy()
    points = np.stack([points[:, 0], -points[:, 1]], 1)
    middle = (points.min(0) + points.max(0)) / 2
    points = (points - middle) / np.ptp(points[:, 1]) * 120 + (144, 160)
    y, x = np.mgrid[: pack.SIDE, : pack.SIDE]
    person = ((x - 144) / 80) ** 2 + ((y - 150) / 100) ** 2 < 1
    person |= (y > 240) & (abs(x - 144) < 120)
    photo = np.ones_like(person)
    photo[:, :20] = False
    rgb = np.where(person[..., None], 180, 40).astype(np.uint8).repeat(3, 2)
    return pack.Portrait("one", rgb, person.astype(np.float32), points.astype(np.float32), photo)


def painted(fringe: bool) -> tuple[pack.Portrait, float]:
    """`portrait` with dark hair down to a line (its row), lit from one side, a shirt of the hair's colour."""
    one = portrait()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: pack.SIDE, : pack.SIDE]
    brows = float(one.points[[105, 334], 1].min())
    line = brows + 6 if fringe else one.points[10, 1] + 8.0
    skin, hair = np.array([200.0, 150, 125]), np.array([60.0, 45, 38])
    dark = (y < line) | (y > 240)
    rgb = np.where(dark[..., None], hair, skin) * (0.55 + 0.5 * x / pack.SIDE)[..., None]
    rgb = (rgb + rng.normal(0, 4, rgb.shape)).clip(0, 255).astype(np.uint8)
    return replace(one, rgb=rgb), line
