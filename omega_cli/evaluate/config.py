"""Settings of evaluate: each field is a flag, a default and a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omega_cli.options import opt

ABLATIONS: dict[str, dict[str, dict[str, object]]] = {
    "full": {},
    "no view network": {"mv-diffuse": {"source": "lift"}},
    "single view": {"splat-uv": {"single_view": True}},
    "no semantic Laplacian": {"deform-flame": {"semantic_laplacian": False}},
    "nearest splat": {"splat-uv": {"splat": "nearest"}},
    "no hierarchy": {"splat-uv": {"hierarchical": False}},
    "no visibility fusion": {"splat-uv": {"visibility_fusion": False}},
    "no photo fit": {"decode": {"fit_steps": 0}},
}
"""Table 3: what each row changes, stage by stage; the first one is ours."""

NETWORK_ABLATIONS: dict[str, dict[str, dict[str, object]]] = {
    "no avatar network": {
        "splat-uv": {"encoder": "none"},
        "decode": {"source": "analytic", "net": ""},
        "render": {"refine": False, "refiner": ""},
    },
    "raw": {"render": {"refine": False, "refiner": ""}},
}
"""More rows, where there are avatar networks: the analytic base, and the trained one without its refiner."""


@dataclass(frozen=True)
class EvaluateConfig:
    dataset: Literal["nersemble", "ava256", "valid", "studio"] = opt(
        "studio", "The data set, in its own layout; studio is made on the spot."
    )
    root: str = opt("", "Folder of the data set; studio needs none.")
    protocol: str = opt("", "Protocol file; default: examples/protocols' file of the data set.")
    identity: tuple[str, ...] = opt((), "Only this identity (may be repeated).")
    frames: int = opt(0, "At most this many frames of each recording; 0 is all.")
    networks: str = opt("auto", "Avatar networks: auto = those of omega, none, or a folder of omega train.")
    ablations: bool = opt(False, "Also the rows of Table 3.")
    workers: int = opt(1, "Processes, each with one thread and 1.5 to 2.5 GB; the result is the same.")
    lpips: tuple[str, ...] = opt(("alex",), "LPIPS networks: alex, vgg.")

    def __post_init__(self) -> None:
        if not self.root and self.dataset != "studio":
            raise ValueError("--root must name the data set's folder")
        if self.frames < 0:
            raise ValueError("--frames must be 0 or more")
        if self.workers < 1:
            raise ValueError("--workers must be 1 or more")
        if set(self.lpips) - {"alex", "vgg"}:
            raise ValueError(f"--lpips knows alex and vgg, got {', '.join(self.lpips)}")
