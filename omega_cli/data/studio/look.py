"""What a person looks like, in words and numbers, before anything is painted or grown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# sRGB of human skin from fair to deep, ours, near the range of published skin-tone charts.
SKIN_TONES = (
    torch.tensor(
        [
            [236, 198, 178],
            [226, 180, 156],
            [216, 166, 136],
            [192, 138, 106],
            [152, 103, 75],
            [112, 73, 53],
            [78, 51, 41],
        ]
    )
    / 255.0
)
HAIR_COLOURS = {
    "black": (24, 20, 19),
    "soft black": (38, 31, 28),
    "dark brown": (56, 39, 29),
    "brown": (84, 57, 38),
    "light brown": (122, 87, 57),
    "dark blond": (152, 117, 77),
    "blond": (196, 160, 108),
    "platinum": (224, 205, 168),
    "auburn": (112, 52, 30),
    "copper": (160, 78, 38),
    "blue": (46, 84, 140),
    "pink": (205, 96, 140),
    "green": (60, 120, 90),
    "wine": (110, 26, 48),
}
EYE_COLOURS = {
    "dark brown": (52, 32, 22),
    "brown": (92, 58, 34),
    "hazel": (118, 92, 48),
    "green": (78, 100, 66),
    "blue": (74, 108, 146),
    "grey": (98, 112, 118),
}
STYLES = (
    "bald",
    "buzz",
    "receding",
    "crop",
    "slick",
    "side part",
    "messy",
    "quiff",
    "short curls",
    "afro",
    "bob",
    "fringe bob",
    "long straight",
    "long side",
    "long wavy",
    "long curls",
    "ponytail",
    "bun",
    "undercut",
    "pixie",
    "coils",
    "high top",
    "big curls",
    "locs",
    "box braids",
    "cornrows",
    "two buns",
    "plait",
    "two plaits",
)
COILED = ("afro", "coils", "high top", "big curls", "locs", "box braids", "cornrows")  # grow from tight curls
BEARDS = (
    "none",
    "stubble",
    "moustache",
    "heavy moustache",
    "goatee",
    "sideburns",
    "chin curtain",
    "short beard",
    "full beard",
    "long beard",
)
HATS = ("knit", "cap", "brim", "bandana", "turban", "headscarf")
HATTED = 0.17  # of people whose hair a hat goes over
TALL = ("afro", "high top", "big curls", "bun", "two buns", "quiff")  # hair that no hat goes over
COLLARS = ("crew", "v neck", "turtle", "boat", "shirt")


def srgb(rgb: tuple[int, int, int]) -> Tensor:
    return torch.tensor(rgb, dtype=torch.float32) / 255.0


@dataclass(frozen=True)
class Look:
    """Colours are sRGB [3]; amounts lie in [0, 1]; age in years."""

    age: float
    male: float  # how masculine the face is
    weight: float  # -1 thin to 1 heavy
    skin: Tensor
    tone: float  # 0 fair to 1 deep
    redness: float
    freckles: float
    moles: int
    gloss: float
    lips: Tensor
    lip_strength: float
    shadow: float  # eye make-up
    liner: float
    iris: Tensor
    brow_width: float  # multiplies the usual thickness
    brow_arch: float
    brow_density: float
    style: str
    hair: Tensor
    tips: Tensor  # colour of the hair's ends
    grey: float
    hairline: float  # > 0: higher than usual
    beard: str
    cloth: Tensor
    trim: Tensor
    collar: str
    striped: bool
    glasses: bool
    hat: str = ""  # of HATS; "": none


class Draw:
    """Short words for drawing from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, mean: float = 0.0, spread: float = 1.0) -> float:
        return mean + spread * float(torch.randn((), generator=self.generator))

    def chance(self, p: float) -> bool:
        return self.uniform() < p

    def one(self, names: dict[str, float]) -> str:
        """A key, with chances in proportion to the values."""
        weights = torch.tensor(list(names.values()), dtype=torch.float32)
        return list(names)[int(torch.multinomial(weights, 1, generator=self.generator))]

    def colour(self, saturation: float = 0.5) -> Tensor:
        """A cloth colour [3]: any hue, often dark or greyish."""
        hue, s, v = self.uniform(), self.uniform(0.05, saturation), self.uniform(0.06, 0.92)
        wheel = torch.tensor([math.cos(2 * math.pi * (hue - k / 3)) for k in range(3)]) * 0.5 + 0.5
        return v * (1 - s + s * wheel)


def between(table: Tensor, t: float) -> Tensor:
    """Linear interpolation along the rows of `table` at t in [0, 1]."""
    x = t * (len(table) - 1)
    i = min(int(x), len(table) - 2)
    return table[i] + (x - i) * (table[i + 1] - table[i])


def sample_look(generator: torch.Generator) -> Look:
    """A plausible person; colours of hair and eyes go with the skin as they often do, not always."""
    draw = Draw(generator)
    tone = draw.uniform() ** 1.15
    age = 18 + 57 * draw.uniform() ** 1.5
    skin = (
        between(SKIN_TONES, tone)
        * torch.exp(0.018 * torch.randn(3, generator=generator))
        * math.exp(draw.normal(0, 0.03))
    ).clamp(0.08, 0.93)
    feminine = draw.chance(0.5)
    styles = _styles(feminine, age)
    for name in COILED:
        if name in styles:
            styles[name] *= 1.6 if tone > 0.45 else 0.6
    style = draw.one(styles)
    dark = 1.5 if tone > 0.5 else 0.55
    colour = draw.one(
        {
            "black": 2.2 * dark,
            "soft black": 1.6 * dark,
            "dark brown": 1.6,
            "brown": 1.3 / dark,
            "light brown": 0.8 / dark,
            "dark blond": 0.6 / dark**3,
            "blond": 0.8 / dark**3,
            "auburn": 0.35 / dark,
            "platinum": 0.25 / dark,
            "copper": 0.45 / dark**3,
            "blue": 0.06,
            "pink": 0.08,
            "green": 0.04,
            "wine": 0.12,
        }
    )
    grey = max(0.0, min(1.0, draw.normal((age - 45) / 25, 0.25))) if age > 35 else 0.0
    hair = srgb(HAIR_COLOURS[colour]) * draw.uniform(0.85, 1.2)
    hair = hair + grey * (torch.full((3,), draw.uniform(0.5, 0.82)) - hair) * 0.9
    ombre = draw.chance(0.15) and style.startswith(("long", "bob"))
    tips = hair + draw.uniform(0.2, 0.6) * (srgb(HAIR_COLOURS["blond"]) - hair) if ombre else hair * 1.15
    light_eyes = 0.2 if tone > 0.45 else 1.0
    iris = srgb(
        EYE_COLOURS[
            draw.one(
                {
                    "dark brown": 2.0,
                    "brown": 1.6,
                    "hazel": 0.7 * light_eyes,
                    "green": 0.5 * light_eyes**2,
                    "blue": 1.3 * light_eyes**2,
                    "grey": 0.5 * light_eyes**2,
                }
            )
        ]
    )
    beard = _beard(feminine, age, draw)
    made_up = feminine and draw.chance(0.55)
    natural = skin * torch.tensor([0.92, 0.62, 0.62])
    painted = srgb((170, 30, 50)) * draw.uniform(0.7, 1.2) + 0.12 * draw.uniform() * torch.rand(
        3, generator=generator
    )
    return Look(
        age=age,
        male=max(0.0, min(1.0, draw.normal(0.08 if feminine else 0.92, 0.10))),
        weight=draw.normal(0.10 if age > 40 else -0.05, 0.40),
        skin=skin,
        tone=tone,
        redness=draw.uniform(0.2, 1.0),
        freckles=_rare(draw, 0.28 * (1 - tone)),
        moles=int(4 * draw.uniform() ** 2),
        gloss=draw.uniform(0.3, 1.0),
        lips=painted if made_up else natural,
        lip_strength=draw.uniform(0.55, 0.9) if made_up else draw.uniform(0.45, 0.8),
        shadow=draw.uniform(0.2, 0.6) if made_up else 0.0,
        liner=draw.uniform(0.4, 0.9) if made_up else 0.0,
        iris=iris,
        brow_width=draw.uniform(0.55, 1.0) if feminine else draw.uniform(0.85, 1.5),
        brow_arch=draw.uniform(0.0, 1.0),
        brow_density=draw.uniform(0.55, 0.95),
        style=style,
        hair=hair,
        tips=tips,
        grey=grey,
        hairline=draw.normal(0.0, 0.5) + (0.3 if not feminine and age > 45 else 0),
        beard=beard,
        cloth=draw.colour(0.8),
        trim=draw.colour(0.6),
        collar=draw.one({"crew": 3, "v neck": 1.5, "turtle": 1.2, "boat": 1.0, "shirt": 1.2}),
        striped=draw.chance(0.2),
        glasses=draw.chance(0.14 + 0.25 * (age > 45)),
        hat=_hat(feminine, style, draw),
    )


def _hat(feminine: bool, style: str, draw: Draw) -> str:
    if style in TALL or not draw.chance(HATTED):
        return ""
    if feminine:
        often = {"knit": 1.0, "cap": 1.0, "brim": 0.9, "bandana": 0.7, "turban": 0.7, "headscarf": 1.8}
    else:
        often = {"knit": 1.4, "cap": 2.0, "brim": 0.9, "bandana": 0.6, "turban": 0.8}
    return draw.one(often)


def _beard(feminine: bool, age: float, draw: Draw) -> str:
    if feminine:
        return "none"
    grown = 0.4 if age < 22 else 1.0  # what takes years to grow
    return draw.one(
        {
            "none": 3.2,
            "stubble": 2.0,
            "moustache": 0.6,
            "heavy moustache": 0.4 * grown,
            "goatee": 0.8,
            "sideburns": 0.4 * grown,
            "chin curtain": 0.4 * grown,
            "short beard": 1.3,
            "full beard": 1.1 * grown,
            "long beard": 0.5 * grown,
        }
    )


def _rare(draw: Draw, chance: float) -> float:
    return draw.uniform(0.3, 1.0) if draw.chance(chance) else 0.0


def _styles(feminine: bool, age: float) -> dict[str, float]:
    if feminine:
        return {
            "buzz": 0.2,
            "crop": 0.3,
            "messy": 0.3,
            "short curls": 0.8,
            "afro": 0.9,
            "bob": 1.3,
            "fringe bob": 1.1,
            "long straight": 1.5,
            "long side": 1.3,
            "long wavy": 1.4,
            "pixie": 0.9,
            "long curls": 1.4,
            "ponytail": 1.2,
            "bun": 1.1,
            "undercut": 0.4,
            "coils": 0.6,
            "big curls": 0.8,
            "locs": 0.7,
            "box braids": 0.8,
            "cornrows": 0.7,
            "two buns": 0.85,
            "plait": 0.8,
            "two plaits": 0.8,
        }
    thin = 2.0 if age > 45 else 0.5
    return {
        "bald": 0.6 * thin,
        "buzz": 1.1,
        "receding": 0.9 * thin,
        "crop": 1.3,
        "slick": 1.1,
        "side part": 1.3,
        "messy": 1.1,
        "quiff": 1.0,
        "short curls": 1.0,
        "afro": 0.7,
        "long straight": 0.3,
        "long wavy": 0.4,
        "long curls": 0.3,
        "bun": 0.3,
        "undercut": 0.8,
        "coils": 0.8,
        "high top": 0.65,
        "big curls": 0.65,
        "locs": 0.8,
        "box braids": 0.65,
        "cornrows": 0.8,
    }
