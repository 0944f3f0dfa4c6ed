"""Every format there and back through real files, and what a broken file is called."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omega_cli.avatar import codecs, layout
from omega_cli.errors import OmegaError
from omega_cli.geometry.camera import orthographic, perspective
from omega_cli.head.params import HeadParams


def random_params(T: int = 3) -> HeadParams:
    g = torch.Generator().manual_seed(0)
    poses = ("global_orient", "neck_pose", "jaw_pose", "leye_pose", "reye_pose", "transl")
    return HeadParams(
        betas=torch.randn(7, generator=g),
        expression=torch.randn(T, 5, generator=g),
        scale=torch.tensor(1.25),
        **{name: torch.randn(T, 3, generator=g) for name in poses},
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_comes_back_to_half_a_step(tmp_path: Path, channels: int) -> None:
    image = torch.rand(channels, 9, 7, generator=torch.Generator().manual_seed(channels))
    codecs.save_image(tmp_path / "deep" / "i.png", image)
    back = codecs.load_image(tmp_path / "deep" / "i.png", channels)
    assert back.shape == image.shape and (back - image).abs().max() <= 0.5 / 255 + 1e-6
    codecs.save_image(tmp_path / "again.png", back)
    assert torch.equal(codecs.load_image(tmp_path / "again.png", channels), back)


def test_every_byte_value_survives(tmp_path: Path) -> None:
    labels = torch.arange(256).view(16, 16)
    codecs.save_labels(tmp_path / "l.png", labels)
    assert torch.equal(codecs.load_labels(tmp_path / "l.png"), labels)
    codecs.save_image(tmp_path / "g.png", labels.float() / 255)
    assert torch.equal(codecs.load_image(tmp_path / "g.png", 1)[0], labels.float() / 255)


def test_pictures_that_people_drop_in(tmp_path: Path) -> None:
    """Grey, palette and 16-bit PNGs read like any other."""
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    expected = torch.from_numpy(ramp.astype(np.float32) / 65535)
    assert (codecs.load_image(tmp_path / "deep.png", 3) - expected).abs().max() < 1 / 255
    Image.new("L", (4, 4), 51).save(tmp_path / "grey.png")
    assert torch.allclose(codecs.load_image(tmp_path / "grey.png", 3), torch.full((3, 4, 4), 0.2))
    Image.new("RGB", (4, 4), (255, 0, 51)).convert("P").save(tmp_path / "palette.png")
    assert codecs.load_image(tmp_path / "palette.png", 4)[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2, 1])


def test_tensors_and_arrays_come_back_exactly(tmp_path: Path) -> None:
    tensors = {"features": torch.rand(3, 4, 4), "face_index": torch.arange(5, dtype=torch.int32)}
    codecs.save_tensors(tmp_path / "t.safetensors", **tensors)
    back = codecs.load_tensors(tmp_path / "t.safetensors", "features")
    assert back.keys() == tensors.keys() and all(torch.equal(back[k], tensors[k]) for k in tensors)
    codecs.save_arrays(tmp_path / "a.npz", points=tensors["features"], count=3)
    arrays = codecs.load_arrays(tmp_path / "a.npz", "points", "count")
    assert np.array_equal(arrays["points"], tensors["features"].numpy()) and arrays["count"] == 3
    with pytest.raises(ValueError, match="no Python objects"):
        codecs.save_arrays(tmp_path / "o.npz", bad=np.array([{}]))


def test_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Freshness compares digests, so equal content must be equal bytes."""
    for name in ("one", "two"):
        codecs.save_params(tmp_path / name / "flame.npz", random_params(), fps=30)
        codecs.save_tensors(tmp_path / name / "t.safetensors", a=torch.ones(3), b=torch.zeros(2))
        codecs.save_image(tmp_path / name / "i.png", torch.full((3, 8, 8), 0.3))
    for file in ("flame.npz", "t.safetensors", "i.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_params_come_back_exactly(tmp_path: Path) -> None:
    params = random_params()
    codecs.save_params(tmp_path / "flame.npz", params, fps=30000 / 1001)
    back = codecs.load_params(tmp_path / "flame.npz")
    for name in vars(params):
        assert torch.equal(getattr(back, name), getattr(params, name)), name
    meta = codecs.load_params_meta(tmp_path / "flame.npz")
    assert meta["schema"] == layout.FLAME_SCHEMA and meta["fps"] == pytest.approx(29.97003)
    codecs.save_params(tmp_path / "still.npz", params.frame(0))
    assert codecs.load_params_meta(tmp_path / "still.npz")["fps"] is None


def test_cameras_come_back_exactly(tmp_path: Path) -> None:
    cameras = [orthographic(45, 512, 0.15, id="045"), perspective(-30, 256, 0.2, id="side")]
    codecs.save_cameras(tmp_path / "cameras.json", cameras)
    for back, camera in zip(codecs.load_cameras(tmp_path / "cameras.json"), cameras, strict=True):
        assert torch.equal(back.K, camera.K) and torch.equal(back.viewmat, camera.viewmat)
        assert (back.model, back.id, back.width) == (camera.model, camera.id, camera.width)


def test_obj_flips_v_and_counts_from_one(tmp_path: Path) -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0.125, 0]])
    faces = torch.tensor([[0, 1, 2]])
    uvs, uv_faces = torch.tensor([[0.25, 0.1]]), torch.tensor([[0, 0, 0]])
    codecs.save_obj(tmp_path / "m.obj", vertices, faces, uvs, uv_faces)
    lines = (tmp_path / "m.obj").read_text().splitlines()
    assert lines[3:] == ["vt 0.2500000 0.9000000", "f 1/1 2/1 3/1"]
    assert torch.equal(codecs.load_obj_vertices(tmp_path / "m.obj"), vertices)
    import trimesh

    mesh = trimesh.load(tmp_path / "m.obj", process=False)
    assert np.allclose(mesh.visual.uv, [[0.25, 0.9]] * 3)  # type: ignore[union-attr]


def test_offsets_of_another_head_are_refused(tmp_path: Path) -> None:
    codecs.save_offsets(tmp_path / "offsets.npz", torch.zeros(10, 3))
    assert codecs.load_offsets(tmp_path / "offsets.npz", 10).shape == (10, 3)
    with pytest.raises(OmegaError, match=r"offsets are \[10, 3\], \[12, 3\] is needed"):
        codecs.load_offsets(tmp_path / "offsets.npz", 12)


WRITERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "views/rgb/000.png": (lambda p: codecs.save_image(p, torch.rand(3, 32, 32)), codecs.load_image),
    "uv/features.safetensors": (
        lambda p: codecs.save_tensors(p, features=torch.rand(3, 4, 4)),
        lambda p: codecs.load_tensors(p, "features"),
    ),
    "source/flame.npz": (lambda p: codecs.save_params(p, random_params()), codecs.load_params),
    "views/cameras.json": (
        lambda p: codecs.save_cameras(p, [orthographic(0, 8, 0.1)]),
        codecs.load_cameras,
    ),
    "mesh/offsets.npz": (lambda p: codecs.save_offsets(p, torch.rand(40, 3)), codecs.load_offsets),
}


@pytest.mark.parametrize("name", WRITERS)
def test_broken_files_are_named_with_the_command(tmp_path: Path, name: str) -> None:
    """Missing, empty, truncated at several places, garbage, a folder: never anything but OmegaError."""
    write, read = WRITERS[name]
    path = tmp_path / "avatar" / name
    command = layout.command_for(path)
    assert command.startswith("omega ")
    with pytest.raises(OmegaError, match="is missing") as caught:
        read(path)
    assert command in caught.value.hint
    write(path)
    read(path)
    whole = path.read_bytes()
    broken = [whole[: math.floor(len(whole) * part)] for part in (0, 0.1, 0.5, 0.9)]
    for data in [*broken, b"\x89PNG garbage", b"{}", b"[1]", b"PK\x03\x04"]:
        path.write_bytes(data)
        with pytest.raises(OmegaError, match="is damaged or was edited wrongly") as caught:
            read(path)
        assert str(path) in caught.value.message and command in caught.value.hint
    path.unlink()
    path.mkdir()
    with pytest.raises(OmegaError, match="damaged"):
        read(path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    params = random_params().replace(transl=torch.full((3, 3), math.nan))
    codecs.save_params(tmp_path / "flame.npz", params)
    with pytest.raises(OmegaError, match="transl has values that are not finite"):
        codecs.load_params(tmp_path / "flame.npz")


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    codecs.save_cameras(tmp_path / "cameras.json", [orthographic(0, 8, 0.1)])
    text = (tmp_path / "cameras.json").read_text()
    (tmp_path / "cameras.json").write_text(text.replace("cameras/1", "cameras/2"))
    with pytest.raises(OmegaError, match="newer omega"):
        codecs.load_cameras(tmp_path / "cameras.json")


def test_pickles_are_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "a.npy").rename(tmp_path / "offsets.npz")
    with pytest.raises(OmegaError, match="damaged"):
        codecs.load_offsets(tmp_path / "offsets.npz")
