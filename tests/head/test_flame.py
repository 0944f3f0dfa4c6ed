"""Official FLAME files: a tiny model in their exact format goes through, anything else is refused."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from omega_cli.errors import OmegaError
from omega_cli.head.assets import convert_flame_pickle, load_head
from omega_cli.head.params import POSES, HeadParams

V, F = 24, 40


@pytest.fixture
def flame_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    regressor, weights = rng.random((5, V)), rng.random((V, 5))
    return {
        "v_template": rng.normal(size=(V, 3)) * 0.1,
        "shapedirs": rng.normal(size=(V, 3, 400)) * 0.01,
        "posedirs": rng.normal(size=(V, 3, 36)) * 0.01,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "f": rng.integers(0, V, (F, 3)).astype(np.uint32),
    }


@pytest.fixture
def flame_pickle(flame_arrays, tmp_path: Path, monkeypatch) -> Path:
    """Written by protocol 2 with a class at chumpy.ch.Ch and a csc_matrix, like the published file."""
    chumpy, ch = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    # what chumpy leaves in a pickle: this module path and name, and {"x": array} as state
    kind = type("Ch", (), {"__module__": "chumpy.ch", "__init__": lambda self, x: setattr(self, "x", x)})
    ch.Ch = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", chumpy)
    monkeypatch.setitem(sys.modules, "chumpy.ch", ch)
    held: dict[str, object] = dict(flame_arrays)
    for name in ("v_template", "shapedirs", "posedirs"):
        held[name] = kind(flame_arrays[name])  # type: ignore[call-arg]
    held["J_regressor"] = sp.csc_matrix(flame_arrays["J_regressor"])
    held["bs_style"] = "lbs"
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps(held, protocol=2))
    for name in ("chumpy", "chumpy.ch"):
        monkeypatch.delitem(sys.modules, name)
    return path


def reference(a: dict[str, np.ndarray], betas: np.ndarray, psi: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """SMPL's skinning written out joint by joint in double precision (Loper et al. 2015, Eq. 2 to 10)."""
    from scipy.spatial.transform import Rotation

    shaped = a["v_template"] + a["shapedirs"][:, :, :300] @ betas + a["shapedirs"][:, :, 300:] @ psi
    joints = a["J_regressor"] @ (a["v_template"] + a["shapedirs"][:, :, :300] @ betas)
    R = Rotation.from_rotvec(pose.reshape(5, 3)).as_matrix()
    rest = shaped + a["posedirs"] @ (R[1:] - np.eye(3)).ravel()
    G = [np.eye(4) for _ in range(5)]
    parents = [-1, 0, 1, 1, 1]
    for j in range(5):
        local = np.eye(4)
        local[:3, :3] = R[j]
        local[:3, 3] = joints[j] - (joints[parents[j]] if j else 0)
        G[j] = local if j == 0 else G[parents[j]] @ local
    out = np.zeros_like(rest)
    for j in range(5):
        moved = (rest - joints[j]) @ G[j][:3, :3].T + G[j][:3, 3]
        out += a["weights"][:, j : j + 1] * moved
    return out


def test_zero_offsets_give_flame_exactly(flame_arrays, flame_pickle: Path, tmp_path: Path) -> None:
    converted = tmp_path / "flame.npz"
    np.savez_compressed(converted, **convert_flame_pickle(flame_pickle))
    model = load_head(converted)
    assert (model.S, model.E, model.parents, model.name) == (
        300,
        100,
        (-1, 0, 1, 1, 1),
        "flame-generic_model",
    )
    g = torch.Generator().manual_seed(5)
    pose = {name: 0.4 * torch.randn(2, 3, generator=g) for name in POSES}
    params = HeadParams(
        betas=torch.randn(300, generator=g),
        expression=torch.randn(2, 100, generator=g),
        transl=torch.zeros(2, 3),
        scale=torch.ones(()),
        **pose,
    )
    ours = model(params, torch.zeros(V, 3)).vertices
    for t in range(2):
        wanted = reference(
            flame_arrays,
            params.betas.double().numpy(),
            params.expression[t].double().numpy(),
            params.pose[t].double().numpy(),
        )
        assert np.abs(ours[t].numpy() - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert torch.equal(ours, model(params).vertices)


def test_files_beside_the_pickle_bring_uv_regions_and_landmarks(flame_pickle: Path) -> None:
    corners = "".join(f"f {i + 1}/{i + 1} {i + 2}/{i + 2} {i + 3}/{i + 3}\n" for i in range(F))
    uvs = "".join(f"vt {0.01 * i} 0.25\n" for i in range(F + 2))
    flame_pickle.with_name("head_template.obj").write_text("v 0 0 0\n" + uvs + corners)
    masks = {
        "scalp": np.arange(8),
        "left_ear": np.arange(6, 10),
        "left_eyeball": np.array([20, 21]),
        "neck": np.array([12]),
    }
    flame_pickle.with_name("FLAME_masks.pkl").write_bytes(pickle.dumps(masks, protocol=2))
    points = {
        "full_lmk_faces_idx": np.arange(68)[None] % F,
        "full_lmk_bary_coords": np.full((1, 68, 3), 1 / 3),
    }
    np.save(flame_pickle.with_name("landmark_embedding.npy"), points, allow_pickle=True)  # type: ignore[arg-type]
    arrays = convert_flame_pickle(flame_pickle)
    assert arrays["uv_faces"].shape == (F, 3) and np.allclose(arrays["uvs"][:, 1], 0.75)
    region = {name.removeprefix("region/"): a for name, a in arrays.items() if name.startswith("region/")}
    parts = np.stack([region[n] for n in ("face", "scalp", "neck", "ears", "boundary")])
    assert (parts.sum(0) == region["skin"]).all()
    assert region["left_ear"][6] and not region["scalp"][6] and region["eyes"].sum() == 2
    assert arrays["landmark_face/ibug68"].shape == (68,)


class _Evil:
    def __reduce__(self):
        return (print, ("owned",))


@pytest.mark.parametrize("content", [pickle.dumps(_Evil()), b"", b"\x80\x02torn", pickle.dumps([1, 2])])
def test_anything_else_is_refused(content: bytes, tmp_path: Path, capsys) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(content)
    with pytest.raises(OmegaError, match=r"bad\.pkl"):
        convert_flame_pickle(path)
    assert "owned" not in capsys.readouterr().out
