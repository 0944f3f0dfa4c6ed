"""Settings of train: each field is a flag, a default and a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt

PRESETS: dict[str, dict[str, object]] = {
    "tiny": {"size": 64, "seconds": 20.0, "batch": 2, "workers": 1, "wait_for": 2, "perceptual": 0.0},
    "full": {},
}
"""What a preset sets; a flag of its own wins. tiny ends on 2 cores within a minute and learns little."""

PARSER_PRESETS: dict[str, dict[str, object]] = {
    "tiny": {"size": 64, "seconds": 20.0, "batch": 4, "workers": 1, "wait_for": 4, "score_hair": 1},
    "full": {"size": 256, "seconds": 330.0, "batch": 96, "rate": 1.5e-3, "score_hair": 16, "pool": 40_000,
             "most": 1_000_000, "wait_for": 1000},
}  # fmt: skip
"""The same of --stage parser."""


@dataclass(frozen=True)
class TrainConfig:
    stage: Literal["views", "samples", "parser"] = opt(
        "views",
        "views = train mv-diffuse's network; samples = only make what it is trained on; parser = train "
        "track's face parser, with defaults of its own: 256 px, 330 s, batches of 96.",
    )
    preset: Literal["tiny", "full"] = opt("full", "Sizes: tiny for a look on a CPU.")
    size: int = opt(192, "Side of the pictures, px; a multiple of 8.")
    seconds: float = opt(1200.0, "Training time after the first steps.")
    batch: int = opt(32, "Samples a step and process.")
    rate: float = opt(4e-4, "Highest learning rate.")
    perceptual: float = opt(0.5, "Weight of LPIPS-VGG; 0 leaves it out.")
    compile: bool = opt(False, "torch.compile: two minutes first, then nearly twice as fast on a GPU.")
    workers: int = opt(2, "Processes that make people, photos and lifts on the CPU.")
    wait_for: int = opt(256, "Samples to make before the first step.")
    pool: int = opt(8000, "Samples kept in memory, 3.8 MB each at 192 px.")
    blends: str = opt("", "Pack of VALID heads (omega_cli.data.studio.blend_pack); none: generated people.")
    hold_out: bool = opt(True, "Leave out the eight heads that `score` measures.")
    portraits: str = opt(
        "",
        "Pack of photographs, written by omega_cli.train.views.portraits or (parser) train.parser.pack.",
    )
    compare: str = opt("", "Parser: pack of photographs with another parser's labels, to score on alone.")
    most: int = opt(20000, "Samples to make in all.")
    start: str = opt("", "Weights to go on from; none: the lift itself, a zero residual.")
    score_heads: int = opt(4, "Photos of each held-out head to score on.")
    score_hair: int = opt(40, "Generated people with curls, up-dos, beards or bald heads to score on.")

    def __post_init__(self) -> None:
        if self.size % 8 or self.size < 32:
            raise ValueError(f"--size must be a multiple of 8 from 32 on, got {self.size}")
        if self.batch < 1 or self.workers < 0 or self.seconds <= 0:
            raise ValueError("--batch must be 1 or more, --workers 0 or more, --seconds positive")
