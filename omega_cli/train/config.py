"""Settings of train: each field is a flag, a default and a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt

Presets = dict[str, dict[str, object]]

_VIEWS: Presets = {
    "tiny": {"size": 64, "seconds": 20.0, "batch": 2, "workers": 1, "wait_for": 2, "perceptual": 0.0},
    "full": {},
}
_PARSER: Presets = {
    "tiny": {"size": 64, "seconds": 20.0, "batch": 4, "workers": 1, "wait_for": 4, "score_hair": 1},
    "full": {"size": 256, "seconds": 330.0, "batch": 96, "rate": 1.5e-3, "score_hair": 16, "pool": 40_000,
             "most": 1_000_000, "wait_for": 1000},
}  # fmt: skip
_AVATAR: Presets = {
    "tiny": {"size": 64, "seconds": 15.0, "batch": 2, "rate": 2e-3, "workers": 1, "wait_for": 3, "most": 3,
             "perceptual": 0.0, "identity": 0.0, "score_hair": 1},
    "full": {"size": 512, "batch": 3, "wait_for": 64, "pool": 2500, "perceptual": 0.25, "score_heads": 1,
             "score_hair": 16},
}  # fmt: skip

_REFINER: Presets = {
    "tiny": _AVATAR["tiny"],
    "full": _AVATAR["full"] | {"batch": 4, "rate": 1e-3, "perceptual": 0.5},
}

PRESETS: dict[str, Presets] = {
    "views": _VIEWS, "samples": _VIEWS, "parser": _PARSER, "avatar": _AVATAR, "avatar-samples": _AVATAR,
    "refiner": _REFINER,
}  # fmt: skip
"""What a preset sets, by stage; a flag of its own wins. tiny ends on 2 cores within a minute and learns
little."""


@dataclass(frozen=True)
class TrainConfig:
    stage: Literal["views", "samples", "parser", "avatar", "avatar-samples", "refiner"] = opt(
        "views",
        "views = train mv-diffuse's network; samples = only make what it is trained on; parser = train "
        "track's face parser, with defaults of its own: 256 px, 330 s, batches of 96; avatar = train "
        "encoder, decoder and refiner: 512 px, batches of 3; avatar-samples = only make what these are "
        "trained on; refiner = go on with the refiner alone, on pictures of the avatars of --start.",
    )
    preset: Literal["tiny", "full"] = opt("full", "Sizes: tiny for a look on a CPU.")
    size: int = opt(192, "Side of the pictures, px; a multiple of 8.")
    seconds: float = opt(1200.0, "Training time after the first steps.")
    batch: int = opt(32, "Samples a step and process.")
    rate: float = opt(4e-4, "Highest learning rate.")
    perceptual: float = opt(0.5, "Weight of LPIPS-VGG; 0 leaves it out.")
    identity: float = opt(
        0.1, "Avatar: weight of the identity network (your ArcFace file, else SFace); 0 leaves it out."
    )
    encoder_backbone: str = opt(
        "", "Avatar: folder of a DINOv3 model; its encoder is trained in place of our own."
    )
    compile: bool = opt(False, "torch.compile: two minutes first, then nearly twice as fast on a GPU.")
    workers: int = opt(2, "Processes that make people, photos and lifts on the CPU.")
    wait_for: int = opt(
        256, "Samples to make before the first step; of several processes each waits for half its share."
    )
    pool: int = opt(8000, "Samples kept in memory, 3.8 MB each at 192 px.")
    blends: str = opt("", "Pack of VALID heads (omega_cli.data.studio.blend_pack); none: generated people.")
    shapes: str = opt(
        "",
        "Views, avatar: pack of shapes (omega_cli.data.studio.ict_pack) that half of the generated people "
        "take; none: the open head's own.",
    )
    hold_out: bool = opt(True, "Leave out the eight heads that `score` measures.")
    portraits: str = opt(
        "",
        "Pack of photographs, written by omega_cli.train.views.portraits or (parser) train.parser.pack.",
    )
    pairs: str = opt(
        "",
        "Avatar: pack of neutral and smiling photographs of the same people (train.avatar.pairs).",
    )
    compare: str = opt("", "Parser: pack of photographs with another parser's labels, to score on alone.")
    most: int = opt(20000, "Samples to make in all.")
    start: str = opt(
        "", "Weights to go on from (avatar: the folder with the three); none: a zero residual on the base."
    )
    data: str = opt("", "Avatar: folder with samples/ and score/ to use; default: the run folder.")
    steps: int = opt(0, "Avatar: steps at most; 0: as many as the seconds allow.")
    resume: bool = opt(False, "Avatar: go on with the run folder's last checkpoint, to the bit.")
    score_heads: int = opt(4, "Photos of each held-out head to score on.")
    score_hair: int = opt(
        40, "Generated people to score on; views: with curls, up-dos, beards or bald heads."
    )

    def __post_init__(self) -> None:
        if self.size % 8 or self.size < 32:
            raise ValueError(f"--size must be a multiple of 8 from 32 on, got {self.size}")
        if self.stage == "refiner" and not (self.start or self.resume):
            raise ValueError("--stage refiner needs --start RUN, with the three networks of an avatar run")
        if self.steps < 0:
            raise ValueError(f"--steps must be 0 or more, got {self.steps}")
        if self.batch < 1 or self.workers < 0 or self.seconds <= 0:
            raise ValueError("--batch must be 1 or more, --workers 0 or more, --seconds positive")
