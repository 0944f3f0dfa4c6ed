"""Every file name of an avatar folder. No other module spells one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AVATAR_SCHEMA = "omega/avatar/1"
STAGE_SCHEMA = "omega/stage/1"
CAMERAS_SCHEMA = "omega/cameras/1"
FLAME_SCHEMA = "omega/flame/1"
CROP_SCHEMA = "omega/crop/1"

AVATAR = "avatar.json"
STAGE = "stage.json"
CAMERAS = "cameras.json"
FLAME = "flame.npz"

AZIMUTHS = ("000", "045", "090", "180", "270", "315")
"""The six views, degrees of camera azimuth: 000 sees the face, 090 the subject's left ear."""

# source/
SOURCE_IMAGE = "image.png"
SOURCE_CROP = "crop.json"
SOURCE_LANDMARKS = "landmarks.npz"
SOURCE_PARSING = "parsing.png"
SOURCE_OVERLAY = "overlay.png"

PARSING_LABELS = (
    "background", "skin", "brows", "eyes", "glasses", "ears", "earring", "nose", "mouth_inside",
    "upper_lip", "lower_lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip
"""Meaning of the values of source/parsing.png: the index is the label."""

# mesh/
OFFSETS = "offsets.npz"
CANONICAL_OBJ = "canonical.obj"
POSED_OBJ = "posed.obj"
FIT_LOG = "fit.jsonl"

# uv/
FEATURES = "features.safetensors"
COVERAGE = "coverage.png"
FEATURES_PCA = "features_pca.png"
UV_RGB = "rgb.png"

# gaussians/
VERTEX_GAUSSIANS = "vertex.safetensors"
UV_GAUSSIANS = "uv.safetensors"
CANONICAL_PLY = "canonical.ply"

# renders/<name>/, reenact/<driver>/
MOTION = "motion.npz"
VIDEO = "video.mp4"
SHEET = "sheet.png"
TURNTABLE = "turntable"

# what `omega evaluate` writes into its own folder
EVALUATED_PROTOCOL = "protocol.json"
EVALUATED_SOURCE = "source.png"
EVALUATED_ROWS = "rows.json"
EVALUATED_SUMMARY = "summary.json"

# what `omega train` writes into a run folder
RUN_CONFIG = "config.json"
RUN_LOG = "metrics.jsonl"
RUN_SCORES = "scores.jsonl"
RUN_BASE_SCORES = "base.json"
VIEW_NET = "view_net.safetensors"
FACE_PARSER = "face_parser.safetensors"
AVATAR_ENCODER = "avatar_encoder.safetensors"
AVATAR_DECODER = "avatar_decoder.safetensors"
AVATAR_REFINER = "avatar_refiner.safetensors"
RUN_PEOPLE = "people.png"
RUN_COMPARED = "compared.png"
RUN_SAMPLES = "samples"
RUN_SCORED = "score"
RUN_FAILED = "failed.json"
RUN_CHECKPOINTS = "checkpoints"
TRAINER_STATE = "state.pt"


def checkpoint(step: int) -> str:
    """The networks and the trainer's state after a step, inside a run folder's checkpoints/."""
    return f"step-{step:07d}"


def view_rgb(azimuth: str) -> str:
    """Colour of one view, inside views/."""
    return f"rgb/{azimuth}.png"


def view_normal(azimuth: str) -> str:
    """World-space normals of one view (n = 2 rgb / 255 - 1), inside views/."""
    return f"normal/{azimuth}.png"


def view_mask(azimuth: str) -> str:
    """Coverage of one view (8-bit), inside views/."""
    return f"mask/{azimuth}.png"


def overlay(azimuth: str) -> str:
    """The mesh drawn over one view, inside mesh/."""
    return f"overlay/{azimuth}.png"


def view_features(azimuth: str) -> str:
    """Sums, densities and confidences of one view per level, inside uv/ (with --keep-views)."""
    return f"views/{azimuth}.safetensors"


def frame(index: int) -> str:
    """One frame of a film, inside a render folder."""
    return f"frames/{index:06d}.png"


STAGE_OF_FOLDER = {
    "source": "track",
    "views": "mv-diffuse",
    "mesh": "deform-flame",
    "uv": "splat-uv",
    "gaussians": "decode",
    "renders": "render",
    "reenact": "reenact",
}
"""Folder of the avatar to the subcommand that writes it, in the order of the data flow."""


@dataclass(frozen=True)
class Avatar:
    """Paths of one avatar folder; knows names only, reads nothing.

    `pending` is the avatar.json of a folder that does not exist yet; the first stage that succeeds
    writes it, so that a photo without a face leaves nothing behind.
    """

    root: Path
    pending: dict | None = None

    @property
    def document(self) -> Path:
        return self.root / AVATAR

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def views(self) -> Path:
        return self.root / "views"

    @property
    def mesh(self) -> Path:
        return self.root / "mesh"

    @property
    def uv(self) -> Path:
        return self.root / "uv"

    @property
    def gaussians(self) -> Path:
        return self.root / "gaussians"

    @property
    def renders(self) -> Path:
        return self.root / "renders"

    @property
    def reenact(self) -> Path:
        return self.root / "reenact"

    def folder(self, name: str) -> Path:
        """The folder of that name (a key of STAGE_OF_FOLDER)."""
        if name not in STAGE_OF_FOLDER:
            raise KeyError(name)
        return self.root / name


def command_for(path: Path) -> str:
    """The command that (re)writes the folder in which an avatar's file lies, or ''."""
    for folder in (path, *path.parents):
        if folder.name in STAGE_OF_FOLDER:
            stage = STAGE_OF_FOLDER[folder.name]
            driver = " DRIVER" if stage == "reenact" else " IMAGE" if stage == "track" else ""
            if stage == "track":
                return f"omega track{driver} -o {folder.parent}"
            return f"omega {stage} {folder.parent}{driver}"
    return ""
