"""Settings of deform-flame. The paper gives no λ: all defaults are ours (docs/deformation.md)."""

from __future__ import annotations

from dataclasses import dataclass

from omega_cli.options import opt

MAX_ITERATIONS = 150


@dataclass(frozen=True)
class DeformFlameConfig:
    """How the head is bent to the six views' normals and masks."""

    iterations: int = opt(24, "Most steps of the solver.")
    map_size: int = opt(256, "Side at which the normal maps are compared, pixels.")
    lambda_nml: float = opt(3.0, "Weight of the normals, non-facial regions only (Eq. 2).")
    lambda_sil: float = opt(200.0, "Weight of the masks' outlines, non-facial regions only (ours).")
    lambda_lmk: float = opt(1000.0, "Weight of the 68 landmarks in the photo (Eq. 2).")
    lambda_sym: float = opt(10.0, "Weight of the landmarks' left-right symmetry, times lambda-lmk.")
    lambda_lap: float = opt(10.0, "Weight of the Laplacian (Eq. 2, 3).")
    lambda_par: float = opt(100.0, "Weight that keeps face and ears in their parametric shape (ours).")
    semantic_laplacian: bool = opt(
        True, "Laplacian weights by region; without, every vertex has the face's small weight (Tab. 3)."
    )
    max_offset: float = opt(0.09, "Farthest that a vertex may move, metres.")
    mesh: str = opt(
        "", "OBJ of a canonical head in the model's topology: its offsets are taken, nothing is fitted."
    )

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise ValueError(f"iterations must lie in 1 to {MAX_ITERATIONS}, got {self.iterations}")
        if not 32 <= self.map_size <= 2048:
            raise ValueError(f"map_size must lie in 32 to 2048 px, got {self.map_size}")
        for name in ("nml", "sil", "lmk", "sym", "lap", "par"):
            value = getattr(self, f"lambda_{name}")
            if not 0 <= value < 1e9:
                raise ValueError(f"lambda_{name} must be 0 or more, got {value}")
        if not 0 < self.max_offset <= 0.5:
            raise ValueError(f"max_offset must lie in 0 to 0.5 m, got {self.max_offset}")
