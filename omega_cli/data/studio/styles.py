"""Hair styles as numbers for `hair.grow`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from omega_cli.data.studio.look import Draw, Look


@dataclass(frozen=True)
class Style:
    """Lengths in metres along the strand. `flow` names the field that combs the top of the head:
    back, forward, part, crown (away from the whorl), up, or tie (towards a knot at the back)."""

    strands: int
    segments: int
    top: float
    side: float
    back: float
    flow: str
    comb: float = 0.5  # how strongly the field turns a strand, each step
    gravity: float = 0.35
    lift: float = 0.3  # the root's direction: 0 combed flat, 1 straight out of the skin
    volume: float = 0.012  # m, how far the outermost layer hovers over the skin
    width: float = 0.0034  # m, of a ribbon of strands
    curl: float = 0.0  # m, radius of the curl
    pitch: float = 0.03  # m, length of one turn
    clump: float = 0.35  # how much neighbours gather to common tips
    noise: float = 0.12  # wandering of direction
    part: float = 0.0  # m, x of the parting
    cut: float | None = None  # m under the eyes' height: a level cut
    fringe: float | None = None  # m above the eyes: where hair over the forehead ends
    knot: tuple[float, float] = (0.0, 0.0)  # m: height and depth of the knot of "tie"
    knot_aside: float = 0.0  # m: two knots, so far from the middle
    gather: float = 0.03  # m from the knot: here a strand is tied
    tail: str = ""  # tail, bun or plait
    make: str = "strands"  # or coils, locs, braids, rows: what is made of what grows
    lock: int = 9  # strands that go together
    frizz: float = 0.5  # rad by which the strands of one ringlet part
    mess: float = 0.1  # spread of lengths
    gap: float = 0.0  # above this height of the side, hair keeps the top's length (undercut)


def style_of(look: Look, draw: Draw) -> Style | None:
    """Numbers of the look's style, varied; None for a head without grown hair."""
    u = draw.uniform
    side = 1.0 if draw.chance(0.5) else -1.0
    part = side * u(0.018, 0.038)
    fall = u(0.08, 0.24)
    long = Style(
        1700,
        20,
        0.42,
        0.42,
        0.42,
        "part",
        0.45,
        0.30,
        0.22,
        u(0.012, 0.026),
        0.0044,
        clump=u(0.2, 0.6),
        noise=0.06,
        part=u(-0.006, 0.006),
        cut=fall,
        fringe=0.045,
    )
    short = Style(
        2800,
        7,
        u(0.025, 0.05),
        u(0.012, 0.025),
        u(0.015, 0.03),
        "forward",
        0.4,
        0.12,
        0.5,
        u(0.008, 0.016),
        0.0036,
        noise=0.22,
        fringe=u(0.035, 0.05),
        mess=0.25,
    )
    afro, low = u(0.026, 0.075), u(0.008, 0.018)
    cloud = Style(
        5200, 2, afro, afro, afro, "crown", make="coils", curl=u(0.0026, 0.0042), width=0.0024, noise=0.0
    )
    hang = u(0.02, 0.24)
    rope = replace(
        long,
        segments=22,
        flow="part" if draw.chance(0.7) else "back",
        part=part,
        top=hang + 0.18,
        side=hang + 0.12,
        back=hang + 0.12,
        cut=hang,
        gravity=0.42,
        volume=0.016,
        noise=0.10,
        lift=0.22,
        mess=0.15,
    )
    tied = replace(
        long,
        flow="tie",
        volume=0.008,
        lift=0.05,
        comb=2.5,
        segments=26,
        gravity=0.0,
        noise=0.03,
        fringe=None,
        clump=0.4,
    )
    table = {
        "bald": None,
        "buzz": Style(3600, 2, 0.006, 0.005, 0.005, "crown", lift=0.7, volume=0.005, width=0.004, noise=0.3),
        "receding": Style(
            2600, 5, u(0.012, 0.03), 0.016, 0.018, "crown", 0.4, 0.2, 0.4, 0.008, 0.0036, noise=0.2
        ),
        "crop": replace(short, top=u(0.015, 0.03), side=0.009, back=0.010),
        "slick": replace(
            short,
            flow="back",
            top=u(0.06, 0.12),
            side=u(0.03, 0.07),
            back=0.05,
            lift=0.45,
            comb=0.6,
            segments=11,
            noise=0.06,
            gravity=0.05,
            fringe=None,
            clump=0.6,
        ),
        "side part": replace(
            short,
            flow="part",
            part=part,
            top=u(0.05, 0.09),
            segments=10,
            noise=0.1,
            lift=0.6,
            clump=0.5,
            volume=u(0.012, 0.022),
        ),
        "messy": replace(
            short,
            flow="crown",
            top=u(0.04, 0.075),
            noise=0.5,
            lift=0.8,
            segments=9,
            mess=0.4,
            side=u(0.02, 0.045),
            back=u(0.025, 0.05),
            volume=u(0.015, 0.03),
            clump=0.7,
        ),
        "quiff": replace(
            short,
            flow="up",
            top=u(0.05, 0.08),
            segments=10,
            lift=1.0,
            gravity=0.02,
            noise=0.12,
            volume=u(0.03, 0.045),
            clump=0.6,
            fringe=0.06,
            side=0.012,
            back=0.014,
        ),
        "short curls": replace(
            short,
            flow="crown",
            strands=1200,
            top=u(0.05, 0.09),
            side=u(0.03, 0.06),
            lift=0.9,
            back=u(0.03, 0.06),
            segments=14,
            curl=u(0.0045, 0.0075),
            pitch=u(0.013, 0.022),
            volume=u(0.02, 0.035),
            gravity=0.12,
            width=0.0040,
            noise=0.3,
            clump=0.8,
            lock=5,
        ),
        "afro": replace(cloud, top=afro, side=afro * u(0.7, 1.0), back=afro * u(0.75, 1.05)),
        "coils": replace(
            cloud,
            top=low,
            side=low * 0.8,
            back=low * 0.8,
            curl=u(0.0018, 0.0028),
            width=0.0018,
        ),
        "high top": replace(cloud, top=u(0.035, 0.07), side=0.005, back=0.006, curl=0.0026),
        "big curls": replace(
            cloud,
            strands=3400,
            top=afro * 0.8 + 0.015,
            side=afro + 0.015,
            back=afro + 0.015,
            curl=u(0.0055, 0.0080),
            width=0.0034,
        ),
        "locs": replace(rope, make="locs", strands=130, width=u(0.0032, 0.0046)),
        "box braids": replace(rope, make="braids", strands=88, width=u(0.0042, 0.0056)),
        "cornrows": Style(
            int(u(9, 15)),
            2,
            0.1,
            0.1,
            u(0.04, 0.26) if draw.chance(0.6) else 0.0,
            "back",
            make="rows",
            width=u(0.0042, 0.0056),
        ),
        "bob": replace(long, cut=u(0.07, 0.12), volume=u(0.018, 0.03), part=draw.normal(0, 0.02)),
        "fringe bob": replace(
            long,
            flow="crown",
            cut=u(0.06, 0.15),
            fringe=u(0.014, 0.024),
            lift=0.3,
            volume=u(0.014, 0.024),
            noise=0.04,
        ),
        "long straight": long,
        "long side": replace(long, part=part, volume=u(0.016, 0.03)),
        "long wavy": replace(
            long, curl=u(0.005, 0.010), pitch=u(0.06, 0.11), segments=26, part=part * u(0, 1)
        ),
        "long curls": replace(
            long,
            curl=u(0.006, 0.011),
            pitch=u(0.024, 0.042),
            segments=26,
            strands=640,
            width=0.0052,
            volume=u(0.025, 0.045),
            part=part * u(0, 1),
            noise=0.12,
            clump=0.85,
            lock=6,
        ),
        "ponytail": replace(tied, knot=(u(0.02, 0.085), -0.105), tail="tail", segments=28, cut=u(0.1, 0.24)),
        "bun": replace(tied, knot=(u(0.03, 0.12), u(-0.10, -0.085)), tail="bun"),
        "two buns": replace(
            tied, knot=(u(0.09, 0.12), u(-0.05, -0.02)), knot_aside=u(0.045, 0.06), tail="bun", part=0.0
        ),
        "plait": replace(tied, knot=(u(-0.05, 0.05), -0.105), tail="plait", gather=0.02),
        "two plaits": replace(
            tied, knot=(u(-0.075, -0.05), -0.042), knot_aside=0.058, tail="plait", part=0.0, gather=0.017
        ),
        "undercut": replace(
            short,
            flow=("part" if draw.chance(0.6) else "back"),
            part=part,
            top=u(0.08, 0.13),
            side=0.006,
            back=0.006,
            segments=12,
            noise=0.12,
            lift=0.6,
            gap=0.065,
            volume=u(0.014, 0.024),
            clump=0.5,
        ),
        "pixie": replace(
            short,
            flow="part",
            part=part,
            top=u(0.07, 0.10),
            side=u(0.04, 0.06),
            back=u(0.03, 0.05),
            segments=11,
            noise=0.12,
            fringe=u(0.022, 0.04),
            volume=u(0.012, 0.02),
        ),
    }
    return table[look.style]


def beard_style(kind: str, draw: Draw) -> Style | None:
    """A beard's strands; None where paint alone does it."""
    if kind in ("none", "stubble"):
        return None
    length = {
        "long beard": draw.uniform(0.06, 0.11),
        "full beard": draw.uniform(0.02, 0.05),
        "short beard": 0.009,
        "chin curtain": draw.uniform(0.010, 0.03),
        "sideburns": 0.007,
        "heavy moustache": draw.uniform(0.016, 0.024),
        "goatee": draw.uniform(0.008, 0.02),
        "moustache": 0.010,
    }[kind]
    segments = 4 if length < 0.015 else 8
    return Style(
        1200 if length > 0.015 else 1500,
        segments,
        length,
        length * 0.6,
        length,
        "down",
        0.4,
        0.25,
        0.45,
        0.005 + 0.2 * length,
        0.0024,
        curl=draw.uniform(0, 0.0025) if length > 0.015 else 0.0,
        pitch=0.030,
        noise=0.2,
        clump=0.3,
        mess=0.25,
    )
