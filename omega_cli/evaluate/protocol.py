"""The protocol of a measurement: who, which frames, which cameras, and every choice in between.

A protocol is a file (examples/protocols/*.json), not a seed. What the paper gives is taken from it: the
identities of Tab. 4, one source camera, all others as targets, 9 sequences x 50 frames (NeRSemble), 20
frames (Ava-256). What it leaves open is a field here, with our default. Two things are no field because
nothing else is measured: source and targets show the same instant, so expression and pose are those of
the source picture; lens distortion is always removed.

How long the recordings are is only known with the data at hand. So the committed files hold fractions of
the recording's length, sampled once (`sampled_fractions`); `omega_cli.data.<set>.freeze(root, protocol)`
turns them into frame numbers, and that explicit protocol is what a result is filed with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omega_cli.data.studio import STUDIO_VERSION
from omega_cli.errors import OmegaError

SCHEMA = "omega/protocol/1"
ALL_SEQUENCES = "*"

NERSEMBLE_IDENTITIES = ("017", "070", "124", "175", "214", "218", "304", "306", "371", "490")
"""Tab. 4."""

NERSEMBLE_SEQUENCES = (
    "EXP-1-head", "EXP-2-eyes", "EXP-3-cheeks+nose", "EXP-4-lips", "EXP-5-mouth",
    "EXP-6-tongue-1", "EXP-7-tongue-2", "EXP-8-jaw-1", "EXP-9-jaw-2",
)  # fmt: skip
"""The paper says "9 sequences for each identity" without names; the data set has nine of kind EXP.  # ours"""

AVA256_IDENTITIES = (
    "20220614--1135--DNM410", "20220808--0809--DPE040", "20230308--1352--BDF920",
    "20230328--0800--BLY735", "20230405--1635--AAN112", "20230726--1657--AYE877",
    "20230728--0757--CRV122", "20230810--1355--AJR151", "20230901--1429--CPP930",
    "20230908--1645--DHA971",
)  # fmt: skip
"""Tab. 4, spelt like the data set's folders (which separate date, time and subject by two hyphens)."""

VALID_IDENTITIES = (
    "AIAN_F_1", "AIAN_F_2", "AIAN_M_1", "Asian_F_1", "Asian_F_3", "Asian_M_1", "Asian_M_2", "Asian_M_3",
    "Black_F_1", "Black_F_2", "Black_M_1", "Black_M_3", "Hispanic_F_1", "Hispanic_F_2", "Hispanic_M_1",
    "Hispanic_M_2", "Hispanic_M_3", "MENA_F_1", "MENA_F_2", "MENA_M_1", "MENA_M_2", "NHPI_M_1",
    "NHPI_M_2", "White_F_1", "White_F_2", "White_F_3", "White_M_1", "White_M_3", "X_AIAN_F_1",
    "X_AIAN_M_1", "X_MENA_F_1", "X_NHPI_F_2", "X_NHPI_F_3", "X_NHPI_M_1",
)  # fmt: skip

STUDIO_IDENTITIES = (
    "99000001", "99000017", "99000031", "99000048", "99000057", "99000126", "99000144", "99000207",
)  # fmt: skip
"""Seeds of generated people, chosen to differ: fair to deep skin, 19 to 72 years, long curls, headscarf, long
straight hair, grey buzz cut, box braids, bald, receding, afro, three beards, two with glasses.
Training counts seeds from 0 and stays below 90 million: none of these may be trained on.  # ours"""
STUDIO_SEQUENCE = "studio"


@dataclass(frozen=True)
class Sample:
    """Frames of one identity in one sequence: `frames` by number, or `fractions` of its length (0 to 1).

    sequence "*" (with fractions only): all sequences of the identity as one long recording.
    """

    identity: str
    sequence: str
    frames: tuple[int, ...] = ()
    fractions: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.frames) == bool(self.fractions):
            raise ValueError(f"{self.where} needs either frames or fractions")
        if any(not 0 <= f < 1 for f in self.fractions):
            raise ValueError(f"fractions of {self.where} must lie in [0, 1)")
        if list(self.frames) != sorted(set(self.frames)) or min(self.frames, default=0) < 0:
            raise ValueError(f"frames of {self.where} must rise, without repeats, from 0 or more")
        if self.frames and self.sequence == ALL_SEQUENCES:
            raise ValueError(f"frames of {self.identity} must name their sequence, not {ALL_SEQUENCES!r}")

    @property
    def where(self) -> str:
        return f"{self.identity}/{self.sequence}"


@dataclass(frozen=True)
class Protocol:
    """One measurement, completely.

    name, dataset: what it is called, and whose reader it is for.
    studio_version: which version of the studio drew its people (dataset "studio"; else 0): another one draws
    others, and figures do not compare.
    samples: identities, sequences and frames; source_camera: the one picture that goes in;
    target_cameras: the truth; none named: all others of the identity.
    driven: other frames of the identities that drive their avatars (AED, APD, AKD), seen by the source
    camera; none named: driving is not measured.

    Pictures that are compared (# ours where the paper is silent: training is at 512 px):
    size: side of the square, px. crop: "head" a square of `crop_radius_m` (half side, m, at the centre's
    depth) around the head, "whole" the whole picture fitted into the square. crop_centre: where the head
    is: "rig" the point that all cameras look at (one per identity), "head_pose" the data set's tracked
    head (Ava-256, VALID). 0.155 m is what GAGAvatar's fixed camera shows.
    background: what replaces the surroundings in truth and render ("keep": nothing does).
    mask: where a truth's foreground comes from: "dataset" its own masks, "matte" our matting network
    (NeRSemble ships none), "none" no mask. foreground_labels: which parts of Ava-256's segmentation are
    the person (1 hair, 2 body, 4 apparel, 5 lenses, 6 to 10 mouth; 3 is the chair).
    colour: "stored" pixels as they are; "calibrated" with NeRSemble v2's colour matrices; "linear" the
    stored values are linear light and are turned to sRGB.

    Regions: psnr, ssim and lpips are measured on the whole picture and, where the data set knows labels,
    on each of `regions` ("head" is all of the person but clothes). Elsewhere "head" alone is measured: the
    person within the outline of the avatar's own head from the jaw up, its scalp widened by hair_reach_m
    (m). region_rim: the head's region goes on outside its edge by this share of the picture's side, so that
    what stands out of the truth's head counts as an error.

    Metrics: ssim_window (px), ssim_sigma, ssim_grey (GAGAvatar's reading: on luminance); lpips, csim,
    dreamsim: networks, each reported under its own name where it is at hand. no_face: a pair whose truth
    shows a face but whose render has none found is left out of CSIM and counted, or counts as 0.
    seed: of the sampling that made the fractions, and of bootstrap intervals.
    """

    name: str
    dataset: Literal["nersemble", "ava256", "valid", "studio"]
    samples: tuple[Sample, ...]
    source_camera: str
    target_cameras: tuple[str, ...] = ()
    driven: tuple[Sample, ...] = ()
    size: int = 512
    crop: Literal["head", "whole"] = "head"
    crop_centre: Literal["rig", "head_pose"] = "rig"
    crop_radius_m: float = 0.155
    background: Literal["black", "white", "keep"] = "black"
    mask: Literal["dataset", "matte", "none"] = "matte"
    foreground_labels: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 8, 9, 10)
    colour: Literal["stored", "calibrated", "linear"] = "stored"
    regions: tuple[Literal["head", "face", "hair", "neck"], ...] = ("head", "face", "hair", "neck")
    region_rim: float = 0.02
    hair_reach_m: float = 0.03
    ssim_window: int = 11
    ssim_sigma: float = 1.5
    ssim_grey: bool = False
    lpips: tuple[str, ...] = ("alex", "vgg")
    csim: tuple[str, ...] = ("arcface", "sface")
    dreamsim: tuple[str, ...] = ("ensemble",)
    no_face: Literal["leave_out", "zero"] = "leave_out"
    seed: int = 0
    studio_version: int = 0

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_kind(field.name, getattr(self, field.name), hints[field.name])
        if not self.samples:
            raise ValueError("samples must name at least one identity")
        where = [sample.where for sample in self.samples]
        if len(set(where)) < len(where):
            raise ValueError(f"samples name {next(w for w in where if where.count(w) > 1)} twice")
        if self.source_camera in self.target_cameras:
            raise ValueError(f"camera {self.source_camera} cannot be source and target")
        if len(set(self.target_cameras)) < len(self.target_cameras):
            raise ValueError("target_cameras must not repeat")
        if self.size < 16 or self.ssim_window < 3 or self.ssim_window % 2 == 0:
            raise ValueError("size must be 16 or more, ssim_window odd and 3 or more")
        if self.crop_radius_m <= 0 or self.ssim_sigma <= 0:
            raise ValueError("crop_radius_m and ssim_sigma must be above 0")
        if not 0 <= self.region_rim < 0.5 or self.hair_reach_m < 0:
            raise ValueError("region_rim must lie in [0, 0.5), hair_reach_m be 0 or more")
        if (self.studio_version > 0) != (self.dataset == "studio"):
            raise ValueError("studio_version must be given for the dataset studio, and for no other")
        strangers = [s.identity for s in self.driven if s.identity not in self.identities]
        if strangers:
            raise ValueError(f"driven names {strangers[0]}, which is in no sample")

    @property
    def identities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sample.identity for sample in self.samples))

    @property
    def frozen(self) -> bool:
        """Whether every frame is named by its number."""
        return not any(sample.fractions for sample in (*self.samples, *self.driven))

    @property
    def frame_count(self) -> int:
        return sum(len(sample.frames) + len(sample.fractions) for sample in self.samples)

    def restricted(self, identities: Sequence[str] = (), frames: int = 0) -> Protocol:
        """A smaller measurement: some identities, at most `frames` of each sample, spread over it."""
        unknown = [identity for identity in identities if identity not in self.identities]
        if unknown:
            raise OmegaError(
                f"The protocol {self.name} has no identity {unknown[0]}.",
                f"It has {', '.join(self.identities)}.",
            )
        kept = [s for s in self.samples if not identities or s.identity in identities]
        if frames:
            kept = [
                dataclasses.replace(
                    s, frames=_spread(s.frames, frames), fractions=_spread(s.fractions, frames)
                )
                for s in kept
            ]
        names = {s.identity for s in kept}
        driven = tuple(s for s in self.driven if s.identity in names)
        return dataclasses.replace(self, samples=tuple(kept), driven=driven)

    def describe(self) -> str:
        """Every choice, one a line, as it is printed before a run."""
        sequences = {sample.sequence for sample in self.samples}
        lines = {
            "identities": f"{len(self.identities)}: {' '.join(self.identities)}",
            "frames": f"{self.frame_count} in {len(self.samples)} recordings, "
            + ("named by number" if self.frozen else "as fractions of their lengths"),
            "sequences": "all" if sequences == {ALL_SEQUENCES} else " ".join(sorted(sequences)),
        }
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "driven":
                lines["driven"] = f"{sum(len(s.frames) + len(s.fractions) for s in value)} frames"
            elif field.name not in ("name", "dataset", "samples"):
                lines[field.name] = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        lines["target_cameras"] = lines["target_cameras"] or "all others"
        width = max(map(len, lines))
        head = f"protocol {self.name} on {self.dataset}"
        return "\n".join([head, *(f"  {label:<{width}}  {text}" for label, text in lines.items())])


def _spread(values: tuple, count: int) -> tuple:
    if len(values) <= count:
        return values
    return tuple(values[i * len(values) // count] for i in range(count))


def _check_kind(name: str, value: Any, kind: Any) -> None:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{name} must be one of {', '.join(inner)}, got {value!r}")
    elif origin is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name} must be a list, got {value!r}")
        for item in value:
            _check_kind(f"each of {name}", item, inner[0])
    elif isinstance(value, bool) != (kind is bool) or not isinstance(
        value, (int, float) if kind is float else kind
    ):
        raise ValueError(f"{name} must be of kind {kind.__name__}, got {value!r}")


# --- files ------------------------------------------------------------------------------------


def dumps(protocol: Protocol) -> str:
    """The protocol as JSON text: one field a line, one sample a line."""
    fields = {f.name: getattr(protocol, f.name) for f in dataclasses.fields(protocol)}
    samples, driven = fields.pop("samples"), fields.pop("driven")
    lines = [
        f" {json.dumps(key)}: {json.dumps(value)}" for key, value in {"schema": SCHEMA, **fields}.items()
    ]
    for key, part in (("samples", samples), ("driven", driven)):
        if part:
            lines.append(f' "{key}": [\n{_listed(part)}\n ]')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _listed(samples: Sequence[Sample]) -> str:
    """One sample a line, its empty fields left out."""
    filled = ({k: v for k, v in dataclasses.asdict(sample).items() if v != ()} for sample in samples)
    return ",\n".join(f"  {json.dumps(sample)}" for sample in filled)


def loads(text: str, name: str = "the protocol") -> Protocol:
    """A protocol from its JSON text; `name` is what errors call it."""
    hint = "See examples/protocols/ for whole files and omega_cli/evaluate/protocol.py for each field."
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f'it has no "schema": "{SCHEMA}"')
        del data["schema"]
        for key in ("samples", "driven"):
            data[key] = [_build(Sample, sample, "a sample") for sample in data.get(key, [])]
        return _build(Protocol, data, "it")
    except (ValueError, TypeError) as error:  # json's error is a ValueError
        raise OmegaError(f"{name} is no valid protocol: {error}.", hint) from error


def _build(cls: Any, data: Any, what: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{what} must be an object, got {data!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in data]
    if unknown or missing:
        wrong = f"does not know {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise ValueError(f"{what} {wrong}")
    hints = typing.get_type_hints(cls)
    values = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
    for n, v in values.items():
        _check_kind(n, v, hints[n])
    return cls(**values)


def load(path: Path) -> Protocol:
    """A protocol from its file."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise OmegaError(
            f"The protocol {path} cannot be read ({reason}).",
            "Give one of examples/protocols/*.json or a file of that form.",
        ) from error
    return loads(text, str(path))


# --- sampling ---------------------------------------------------------------------------------


def sampled_fractions(seed: int, identity: str, sequence: str, count: int) -> tuple[float, ...]:
    """`count` numbers in [0, 1), rising: a pure function of its arguments on every machine (SHA-256)."""
    words = (hashlib.sha256(f"{seed}/{identity}/{sequence}/{i}".encode()).digest() for i in range(count))
    return tuple(sorted(int.from_bytes(word[:4]) % 10**6 / 10**6 for word in words))


def frames_at(fractions: Sequence[float], available: Sequence[int], where: str) -> tuple[int, ...]:
    """Distinct frames at these fractions of the list of `available` ones (which rises).

    Two fractions that meet in one frame: the later one takes the next that is free, the first after the last.
    """
    if len(available) < len(fractions):
        raise OmegaError(
            f"{where} has only {len(available)} frames; the protocol wants {len(fractions)} of them.",
            "The download may be incomplete; otherwise give a protocol that asks for fewer.",
        )
    taken: set[int] = set()
    for fraction in fractions:
        index = int(fraction * len(available))
        while index in taken:
            index = (index + 1) % len(available)
        taken.add(index)
    return tuple(available[index] for index in sorted(taken))


def _drivers(seed: int, identities: Sequence[str], sequence: str) -> tuple[Sample, ...]:
    """Two frames of each identity, as fractions that no source frame was drawn with."""
    return tuple(
        Sample(identity, sequence, fractions=sampled_fractions(seed, f"driver/{identity}", sequence, 2))
        for identity in identities
    )


def standard(dataset: str, seed: int = 0) -> Protocol:
    """The protocol of the paper's tables for a data set; examples/protocols/ holds exactly these."""
    if dataset == "nersemble":
        samples = tuple(
            Sample(identity, sequence, fractions=sampled_fractions(seed, identity, sequence, 50))
            for identity in NERSEMBLE_IDENTITIES
            for sequence in NERSEMBLE_SEQUENCES
        )
        driven = _drivers(seed, NERSEMBLE_IDENTITIES, "EXP-5-mouth")
        return Protocol("nersemble", "nersemble", samples, "222200037", driven=driven, seed=seed)
    if dataset == "ava256":
        samples = tuple(
            Sample(identity, ALL_SEQUENCES, fractions=sampled_fractions(seed, identity, ALL_SEQUENCES, 20))
            for identity in AVA256_IDENTITIES
        )
        return Protocol(
            "ava256", "ava256", samples, "401168", driven=_drivers(seed, AVA256_IDENTITIES, ALL_SEQUENCES),
            crop_centre="head_pose", mask="dataset", seed=seed,
        )  # fmt: skip
    if dataset == "valid":
        samples = tuple(Sample(identity, "neutral", frames=(0,)) for identity in VALID_IDENTITIES)
        cameras = [f"az{azimuth:03d}_el{e:+03d}" for e in (0, 20, 45) for azimuth in range(0, 360, 45)]
        return Protocol(
            "valid", "valid", samples, cameras[0], tuple(cameras[1:]),
            crop="whole", crop_centre="head_pose", mask="dataset", seed=seed,
        )  # fmt: skip
    if dataset == "studio":
        cameras = [f"az{azimuth:03d}_el{e:+03d}" for e in (0, -15, 20) for azimuth in range(0, 360, 15)]
        at_rest, moved = (
            tuple(Sample(identity, STUDIO_SEQUENCE, frames=frames) for identity in STUDIO_IDENTITIES)
            for frames in ((0,), (1, 2))
        )
        return Protocol(
            "studio", "studio", at_rest, "photo", tuple(cameras), driven=moved,
            crop="whole", crop_centre="head_pose", mask="dataset", seed=seed, studio_version=STUDIO_VERSION,
        )  # fmt: skip
    raise OmegaError(
        f"There is no standard protocol for {dataset!r}.", "Known: nersemble, ava256, valid, studio."
    )
