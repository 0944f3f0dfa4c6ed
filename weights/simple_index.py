"""The little of a package index that is needed to get one pinned source archive without building it.

Asks where pip itself would ask: index-url, extra-index-url, find-links and cert of pip's
configuration, files and environment alike.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import html.parser
import json
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class IndexProblem(Exception):
    """The archive could not be had; the text says why."""


def pip_settings() -> dict[str, list[str]]:
    """index-url, extra-index-url, find-links and cert as pip sees them, most specific last."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise IndexProblem("pip's configuration cannot be read (is pip installed in this environment?)")
    order = {"global": 0, "download": 1, ":env:": 2}
    found: list[tuple[int, str, list[str]]] = []
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in order and value:
            found.append((order[section], option, str(ast.literal_eval(value)).split()))
    return {option: values for _, option, values in sorted(found, key=lambda item: item[0])}


def default_index() -> str:
    """The index that pip asks when nothing is configured."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode or not done.stdout.strip():
        raise IndexProblem("pip names no package index; set PIP_INDEX_URL")
    return done.stdout.strip()


def download_archive(package: str, filename: str, folder: Path, most_bytes: int) -> Path:
    """Get `filename` of `package` into `folder`, at most `most_bytes` long. Raises IndexProblem."""
    settings = pip_settings()
    context = _ssl_context(settings)
    target, problems = folder / filename, []
    for place in settings.get("find-links", []):
        local = Path(urllib.parse.unquote(urllib.parse.urlparse(place).path)) / filename
        if urllib.parse.urlparse(place).scheme in ("", "file") and local.is_file():
            shutil.copyfile(local, target)
            return target
    indexes = [*(settings.get("index-url") or [default_index()]), *settings.get("extra-index-url", [])]
    for index in indexes:
        page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', package).lower()}/"
        try:
            link = _find_link(page, filename, context)
            if link is not None:
                _save(link, target, most_bytes, context)
                return target
            problems.append("an index does not hold it")
        except (OSError, ValueError) as error:
            problems.append(_why(error))
    raise IndexProblem(problems[0] if problems else "no package index is configured")


def _find_link(page: str, filename: str, context: ssl.SSLContext) -> str | None:
    """Address of `filename` on a project's page of the simple API (JSON or HTML)."""
    address = page + "index.html" if page.startswith("file:") else page
    with _open(address, context, {"Accept": ACCEPT}) as answer:
        kind, base, text = answer.headers.get_content_type(), answer.url, answer.read(32 << 20).decode()
    if kind.endswith("json"):
        links = [(entry["filename"], entry["url"]) for entry in json.loads(text)["files"]]
    else:
        parser = _Links()
        parser.feed(text)
        links = parser.links
    for name, url in links:
        if name.strip().lower() == filename.lower():
            return urllib.parse.urljoin(base, url)
    return None


class _Links(html.parser.HTMLParser):
    """(text, href) of every anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self._href: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._href = dict(attrs).get("href")

    def handle_data(self, data: str) -> None:
        if self._href and data.strip():
            self.links.append((data, self._href))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._href = None


def _save(link: str, target: Path, most_bytes: int, context: ssl.SSLContext) -> None:
    address, _, fragment = link.partition("#")
    sha, size = hashlib.sha256(), 0
    with _open(address, context) as answer, target.open("wb") as out:
        while chunk := answer.read(1 << 20):
            size += len(chunk)
            if size > most_bytes:
                raise ValueError(f"the archive is longer than the pinned {most_bytes} bytes")
            sha.update(chunk)
            out.write(chunk)
    if fragment.startswith("sha256=") and sha.hexdigest() != fragment.removeprefix("sha256="):
        raise ValueError("the archive came damaged (its sha256 is not the index's)")


def _open(address: str, context: ssl.SSLContext, headers: dict[str, str] | None = None):
    """Open a URL; a user:password in it becomes a header, as pip does."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("https", "http", "file"):
        raise ValueError(f"an index of the scheme {parts.scheme!r} is not understood")
    request = urllib.request.Request(address, headers=dict(headers or {}))
    if parts.username:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request = urllib.request.Request(urllib.parse.urlunsplit(bare), headers=dict(headers or {}))
        request.add_header("Authorization", "Basic " + base64.b64encode(secret.encode()).decode())
    if parts.scheme == "file":
        return urllib.request.urlopen(request, timeout=60)
    return urllib.request.urlopen(request, timeout=60, context=context)


def _ssl_context(settings: dict[str, list[str]]) -> ssl.SSLContext:
    cert = settings.get("cert")
    return ssl.create_default_context(cafile=cert[0] if cert else None)


def _why(error: Exception) -> str:
    """A short cause without addresses: they may hold a password."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the package index answered {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"the package index cannot be reached ({error.reason})"
    return str(error) or type(error).__name__
