"""The rules of the house that a machine can check: imports, file names, sizes, the environment."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STAGES = {"track", "mv_diffuse", "deform_flame", "splat_uv", "decode", "render", "reenact"}
ROOMS = STAGES | {"generate", "inspect", "doctor", "train", "evaluate", "prepare", "view", "export"}
FOUNDATIONS = {"geometry", "head", "gaussians", "metrics", "kernels"}
CALLS_OTHER_ROOMS = {"generate", "reenact", "train", "evaluate"}
SHELL = {"stage.py", "command.py"}
OWN_FILES = {"data", "weights"}  # packages whose job is files
MAY_TOUCH_FILES = {"head/assets.py", "track/image_io.py"}


def sources() -> list[Path]:
    found = [*ROOT.glob("omega_cli/**/*.py"), *ROOT.glob("kernels/*.py"), *ROOT.glob("weights/*.py")]
    return sorted(p for p in found if "__pycache__" not in p.parts)


def place(path: Path) -> str:
    """'track/fit.py' of a file, wherever its package lies."""
    return path.relative_to(ROOT).as_posix().removeprefix("omega_cli/")


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Absolute names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    package = ["omega_cli", *place(path).split("/")[:-1]]
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [] if not node.level else package[: len(package) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "omega_cli" and len(parts) > 1 else ""


def is_maths(path: Path) -> bool:
    room = place(path).split("/")[0]
    if place(path).startswith("head/bake"):
        return False
    return room in FOUNDATIONS - {"kernels"} or (room in STAGES and path.name not in SHELL)


def is_light(path: Path) -> bool:
    """Loaded by some `--help`."""
    light = {"command.py", "config.py", "cli.py", "options.py", "console.py", "errors.py", "layout.py",
             "record.py", "freshness.py", "folders.py", "digests.py"}  # fmt: skip
    package = path.name == "__init__.py" and not {"raster", "splat", "kernels", "bake"} & set(path.parts)
    return path.name in light or package


def in_room(path: Path) -> bool:
    return place(path).split("/")[0] in ROOMS and path.name != "checks.py"


def each(wanted=lambda path: True):
    return pytest.mark.parametrize("path", [p for p in sources() if wanted(p)], ids=place)


@each()
def test_imports_point_downwards(path: Path) -> None:
    room, name = place(path).split("/")[0], path.name
    used = {room_of(module) for module in imports(path)} - {room, ""}
    if room in FOUNDATIONS:
        assert not used & (ROOMS | {"avatar", "cli", "options", "console"}), "a foundation imports a room"
    elif room in ROOMS:
        others = used & ROOMS
        assert not others or room in CALLS_OTHER_ROOMS, f"rooms do not import each other: {others}"
        if room in STAGES and name not in SHELL:
            assert "avatar" not in used, "only stage.py and command.py know the avatar's files"
            assert not used & {"console", "cli"}, "maths does not talk to the user"
    elif room == "avatar":
        assert not used & (ROOMS | {"cli", "options"}), "the contract knows no room"


@each(is_maths)
def test_maths_touches_no_terminal(path: Path) -> None:
    modules = {module.split(".")[0] for module in imports(path)}
    assert not modules & {"click", "rich"}
    if place(path) not in MAY_TOUCH_FILES:
        calls = {n.func.id for n in ast.walk(ast.parse(path.read_text()))
                 if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}  # fmt: skip
        assert not calls & {"print", "open"}


@each(is_light)
def test_help_can_stay_instant(path: Path) -> None:
    tops = {module.split(".")[0] for module in imports(path, top_only=True)}
    assert not tops & {"torch", "numpy", "scipy", "cv2", "mediapipe", "av", "PIL", "rich", "trimesh"}


@each()
def test_files_stay_readable(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= (80 if path.name == "command.py" and path.parent.name in STAGES else 400), lines


FILE_NAME = re.compile(r"^[\w./-]*\.(png|npz|json|jsonl|safetensors|ply|obj|mp4)$")


@each(in_room)
def test_file_names_live_in_layout(path: Path) -> None:
    """Only layout.py spells a file of the avatar folder."""
    tree = ast.parse(path.read_text())
    documented = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    spelt = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documented
        and FILE_NAME.match(node.value)
        and not node.value.startswith(".")
    ]
    assert not spelt, f"these names belong in avatar/layout.py: {spelt}"


def test_a_stage_room_has_its_three_files() -> None:
    for room in STAGES:
        for name in ("__init__.py", "command.py", "stage.py", "config.py"):
            assert (ROOT / "omega_cli" / room / name).is_file(), f"{room}/{name}"
        text = (ROOT / "omega_cli" / room / "__init__.py").read_text()
        contract = (ast.get_docstring(ast.parse(text)) or "").lower()
        assert "reads" in contract and "writes" in contract, f"{room} does not say what it reads and writes"


@pytest.mark.parametrize("name", ["torchvision", "lpips", "timm", "lightning", "pytorch-lightning"])
def test_packages_that_break_others_are_not_installed(name: str) -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(name)


def test_torch_is_held_exactly() -> None:
    lines = (ROOT / "constraints-cpu.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines


def test_the_project_carries_no_foreign_files() -> None:
    """Networks come from their packages; what is committed under weights/ is ours."""
    found = {p.name for p in (ROOT / "weights").iterdir() if p.suffix not in (".py", ".md", ".json", "")}
    networks = "view_net", "face_parser", "avatar_encoder", "avatar_decoder", "avatar_refiner"
    assert found == {"open_head.npz", *(f"{name}.safetensors" for name in networks)}
