"""What the pages promise exists: every command line parses, every named page and script is there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from omega_cli.cli import cli

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "weights" / "README.md", *ROOT.glob("docs/*.md")])
SOURCES = [*ROOT.glob("omega_cli/**/*.py"), *ROOT.glob("weights/*.py"), *ROOT.glob("kernels/*.py")]
TEXTS = sorted([*PAGES, *SOURCES, *ROOT.glob("examples/*.sh")])
SCRIPTS = sorted([*ROOT.glob("examples/*.sh"), *ROOT.glob("tests/*.sh"), ROOT / ".ci" / "run"])


def command_lines() -> list[tuple[str, str]]:
    """Every `omega ...` line of code blocks and of inline code, with the page it stands on."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.S)
        lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
        lines += re.findall(r"`(omega [^`]+)`", text)
        found += [(page.name, line.split(" #")[0].strip()) for line in lines if line.startswith("omega ")]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_line_on_a_page_parses(page: str, line: str) -> None:
    words = [w for w in shlex.split(line)[1:] if w not in ("…", "...", "|")]
    context, command = click.Context(cli), cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        names = words.pop(0).split("|")
        found = [command.get_command(context, name) for name in names]
        assert all(found), f"{page}: no such command in {line!r}"
        command = found[0]
    assert isinstance(command, click.Command)
    options = [p for p in command.params if isinstance(p, click.Option)]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known | {"--help", "--version"}, f"{page}: {line!r}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_named_pages_and_scripts_exist(path: Path) -> None:
    named = set(re.findall(r"\b(?:docs|examples|tests)/[\w./-]+\.(?:md|sh|py|json)\b", path.read_text()))
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing, missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing, missing


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_sound_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
