"""A prior over plausible adults on the source's sliders, and the identity basis it implies."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from omega_cli.head.bake.source import GENDERS, METRES, RACES, Source

PEOPLE = 20000
LEVELS = {
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
}

# Standard deviation of each local slider, in millimetres at the vertex that it moves most. Ours: sized so
# that the sliders of one room together give about the spread of adult anthropometry (head height 7 mm, nose
# length and mouth width 3.5 mm, interpupillary distance 3.5 mm, chin height 3 mm).
ROOM_MM = {
    "head": 2.6, "forehead": 2.0, "eyebrows": 1.5, "eyes": 0.8, "nose": 1.3, "mouth": 1.1,
    "ears": 1.6, "chin": 1.8, "cheek": 1.4, "neck": 3.0,
}  # fmt: skip
SLIDER_MM = {
    "head-scale-vert-decr-incr": 4.5, "head-scale-horiz-decr-incr": 3.0, "head-scale-depth-decr-incr": 4.0,
    "head-square": 1.5, "head-diamond": 1.5, "head-triangular": 1.5, "head-invertedtriangular": 1.5,
    "head-trans-backward-forward": 0.0, "head-trans-down-up": 0.0, "head-trans-in-out": 0.0,
    "ear-shape-pointed-triangle": 0.7, "ear-flap-decr-incr": 1.0, "ear-wing-decr-incr": 2.2,
    "neck-double-decr-incr": 1.5, "neck-trans-in-out": 0.0, "nose-trans-in-out": 0.0,
    "mouth-trans-in-out": 0.0,
    "eye-scale-decr-incr": 0.5, "eye-trans-in-out": 1.2, "eye-trans-down-up": 1.0,
    "mouth-scale-horiz-decr-incr": 1.6, "nose-scale-vert-decr-incr": 1.8, "nose-scale-depth-decr-incr": 1.8,
    "nose-scale-horiz-decr-incr": 1.3,
}  # fmt: skip
MOST = 0.5  # of a slider's full range: no sigma beyond it, however little the slider moves
SIZE_KEPT = (
    0.55  # of the source's spread in overall size: its adults' heads differ by 8 % in height, people's by 5 %
)
ASYMMETRY_MM = 0.5  # the source's own one-sided targets
SIDE_SIGMA = 0.15  # left and right copies of one slider differ by this share of its sigma

Coefficients = dict[str, np.ndarray]  # target path -> weight of every person [P]


def _ramp(value: np.ndarray) -> np.ndarray:  # [P] in [0, 1] -> [P, 3] weights of min, average, max
    low, high = np.clip(1 - 2 * value, 0, 1), np.clip(2 * value - 1, 0, 1)
    return np.stack([low, 1 - low - high, high], axis=1)


def _macro(rng: np.random.Generator, people: int, source: Source) -> Coefficients:
    """Gender, age (18 to old), muscle, weight, height, proportions, race mixture."""
    male = rng.random(people) < 0.5
    gender = np.where(male, 1.0, 0.0) + (0.5 - male) * 2 * np.minimum(
        np.abs(rng.normal(0, 0.18, people)), 0.5
    )
    old = rng.beta(1.1, 2.2, people) * 0.9
    weight = {
        name: _ramp(np.clip(rng.normal(0.5, s, people), 0, 1))
        for name, s in (("muscle", 0.17), ("weight", 0.2))
    }
    race = rng.dirichlet([0.55, 0.55, 0.55], people)
    tall, ideal = np.clip(rng.normal(0.5, 0.12, people), 0, 1), np.clip(rng.normal(0.5, 0.2, people), 0, 1)
    by_gender = {"female": 1 - gender, "male": gender}
    by_age = {"young": 1 - old, "old": old}
    ends = {
        "height": {"minheight": np.clip(1 - 2 * tall, 0, 1), "maxheight": np.clip(2 * tall - 1, 0, 1)},
        "proportions": {
            "uncommonproportions": np.clip(1 - 2 * ideal, 0, 1),
            "idealproportions": np.clip(2 * ideal - 1, 0, 1),
        },
    }
    out: Coefficients = {}
    for g, a in itertools.product(GENDERS, by_age):
        for r, name in enumerate(RACES):
            out[f"macrodetails/{name}-{g}-{a}"] = by_gender[g] * by_age[a] * race[:, r]
        for (i, m), (j, w) in itertools.product(enumerate(LEVELS["muscle"]), enumerate(LEVELS["weight"])):
            share = by_gender[g] * by_age[a] * weight["muscle"][:, i] * weight["weight"][:, j]
            out[f"macrodetails/universal-{g}-{a}-{m}-{w}"] = share
            for kind, levels in ends.items():
                for end, value in levels.items():
                    out[f"macrodetails/{kind}/{g}-{a}-{m}-{w}-{end}"] = share * value
    return {name: value for name, value in out.items() if source.has_target(name)}


def _local(rng: np.random.Generator, people: int, source: Source, seen: np.ndarray) -> Coefficients:
    out: Coefficients = defaultdict(lambda: np.zeros(people))

    def add(room: str, positive: str, negative: str, value: np.ndarray) -> None:
        for name, part in ((positive, np.maximum(value, 0)), (negative, np.maximum(-value, 0))):
            if name and source.has_target(f"{room}/{name}"):
                out[f"{room}/{name}"] = out[f"{room}/{name}"] + part

    def share(room: str, names: list[str], mm: float) -> float:
        """The slider value that moves some seen vertex by mm."""
        paths = [f"{room}/{name}" for name in names if source.has_target(f"{room}/{name}")]
        reach = [1e3 * METRES * np.linalg.norm(source.target(path)[seen], axis=1).max() for path in paths]
        return min(MOST, mm / max(reach)) if reach and max(reach) > 0.05 else 0.0

    for room, room_mm in ROOM_MM.items():
        for slider in source.sliders(room):
            sigma = share(room, slider["targets"], SLIDER_MM.get(slider["name"], room_mm))
            value = np.clip(rng.normal(0, sigma, people), -1, 1) if sigma else np.zeros(people)
            # a slider with one end names its target only
            ends = slider.get("opposites") or {
                "positive-unsided": slider["targets"][0],
                "negative-unsided": "",
            }
            if slider["has_left_and_right"]:
                for side in ("left", "right"):
                    own = value + rng.normal(0, 1, people) * SIDE_SIGMA * sigma
                    add(room, ends.get(f"positive-{side}", ""), ends.get(f"negative-{side}", ""), own)
            else:
                add(room, ends["positive-unsided"], ends["negative-unsided"], value)
    for path in sorted(source.names):
        name = path.rpartition("/")[2].removesuffix(".target.gz")
        if "/targets/asym/asym-" in path and name.endswith("-l"):
            twin = name[:-1] + "r"
            add("asym", name, twin, rng.normal(0, share("asym", [name, twin], ASYMMETRY_MM), people))
    return dict(out)


def sample_people(source: Source, seen: np.ndarray, seed: int = 7) -> Coefficients:
    """Weights of every target for PEOPLE random adults (deterministic).

    seen: idx of the source vertices on the outside of the head, where a slider's reach is measured.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    return {**_macro(rng, PEOPLE, source), **_local(rng, PEOPLE, source, seen)}


def identity_basis(
    source: Source,
    people: Coefficients,
    operator,  # [V, N] sparse
    mirror: np.ndarray,  # [V]
    origin: np.ndarray,  # [V] weights, sum 1: the point that stays at the origin
    components: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [V, 3] and basis [V, 3, S] in metres, and the share of variance kept.

    Exact principal components of the population together with its mirror image (so that each component is
    symmetric or antisymmetric), from the covariance of the target weights: no head is ever sampled. The
    columns are orthogonal; column k has length = the standard deviation along it, so betas ~ N(0, 1).
    """
    names = [name for name, value in people.items() if value.any()]
    weights = np.stack([people[name] for name in names], axis=1)  # [P, K]

    def heads(delta: np.ndarray) -> np.ndarray:
        moved = METRES * (operator @ delta)
        return moved - origin @ moved

    targets = np.stack([heads(source.target(name)) for name in names])  # [K, V, 3]
    keep = np.abs(targets).max((1, 2)) > 1e-6
    targets, weights = targets[keep], weights[:, keep]
    mean = heads(source.vertices) + np.einsum("k,kvc->vc", weights.mean(0), targets)
    flip = np.array([-1.0, 1.0, 1.0])
    mean = (mean + mean[mirror] * flip) / 2
    size = np.einsum("kvc,vc->k", targets, mean) / (mean**2).sum()
    targets = targets - (1 - SIZE_KEPT) * size[:, None, None] * mean
    K = len(targets)
    T = np.concatenate([targets, targets[:, mirror] * flip]).reshape(2 * K, -1)  # both hands
    covariance = np.cov(weights, rowvar=False)
    # the mean's own asymmetry is removed above; a person and the mirror image weigh one half each
    root = np.linalg.cholesky(covariance + 1e-10 * np.eye(K))
    A = np.concatenate([root.T @ T[:K], root.T @ T[K:]]) / np.sqrt(2)  # [2K, 3V], covariance = A^T A
    values, vectors = np.linalg.eigh(A @ A.T)
    order = np.argsort(values)[::-1][:components]
    basis = (A.T @ vectors[:, order]).T.reshape(len(order), -1, 3)  # already scaled: |row| = sqrt(value)
    # one sign for all machines: the largest coordinate is positive
    flat = basis.reshape(len(order), -1)
    sign = np.sign(flat[np.arange(len(order)), np.abs(np.round(flat, 9)).argmax(1)])
    basis = basis * sign[:, None, None]
    return mean, basis.transpose(1, 2, 0), np.cumsum(values[order]) / values[values > 0].sum()
