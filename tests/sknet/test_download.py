# SPDX-License-Identifier: Apache-2.0
"""Weights by URL, from a server that misbehaves on request."""

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from sknet.weights import download
from sknet.weights.download import DownloadError, fetch


class Server(ThreadingHTTPServer):
    """Serves `content` at every path. `faults` are used up, one a request: see Handler."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = np.random.default_rng(0).bytes(1 << 18)
        self.faults: list[str] = []
        self.ranges: list[str | None] = []
        self.tag = '"one"'

    def url(self, name: str = "weights.ckpt") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}?download=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        fault = server.faults.pop(0) if server.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "moved":
            self.send_response(302)
            self.send_header("Location", "/elsewhere.ckpt")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = 0
        if wanted and fault != "no ranges" and self.headers.get("If-Range") == server.tag:
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))
        self.send_response(206 if first else 200)
        body = server.content[first:]
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body) + (7 if fault == "long" else 0)))
        self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "break" else body)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SKNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_PAUSE", 0)
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def left(tmp_path: Path, suffix: str) -> list[Path]:
    return list((tmp_path / "cache").rglob(f"*{suffix}"))


def test_fetched_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(server.url())
    assert path.name == "weights.ckpt"
    assert tmp_path / "cache" in path.parents
    assert path.read_bytes() == server.content
    assert fetch(server.url()) == path
    assert len(server.ranges) == 1
    assert f"weights {path}, SHA-256 {hashlib.sha256(server.content).hexdigest()}" in capsys.readouterr().out
    assert not left(tmp_path, ".part")
    # The same name elsewhere is another file.
    assert fetch(server.url("other/weights.ckpt")) != path


def test_break_goes_on(server: Server) -> None:
    server.faults = ["break", "503", "break"]
    assert fetch(server.url()).read_bytes() == server.content
    assert server.ranges == [None, "bytes=131072-", "bytes=131072-", "bytes=196608-"]


def test_break_goes_on_in_another_call(server: Server, tmp_path: Path) -> None:
    server.faults = ["break"] * 4
    with pytest.raises(DownloadError, match=r"weights.ckpt.* cannot be fetched .*; 196608 bytes are kept, the same"):
        fetch(server.url())
    assert left(tmp_path, ".part")
    assert not left(tmp_path, ".ckpt")
    assert fetch(server.url()).read_bytes() == server.content
    assert server.ranges[-1] == "bytes=196608-"


def test_new_version_between(server: Server) -> None:
    server.faults = ["break"] * 4
    with pytest.raises(DownloadError):
        fetch(server.url())
    server.content, server.tag = server.content[::-1], '"two"'
    assert fetch(server.url()).read_bytes() == server.content


def test_moved(server: Server) -> None:
    server.faults = ["moved"]
    assert fetch(server.url()).read_bytes() == server.content


def test_server_without_ranges(server: Server) -> None:
    server.faults = ["break", "no ranges"]
    assert fetch(server.url()).read_bytes() == server.content


def test_part_that_does_not_fit(server: Server) -> None:
    server.faults = ["break", "416"]
    assert fetch(server.url()).read_bytes() == server.content
    assert server.ranges == [None, "bytes=131072-", None]


def test_wrong_length(server: Server, tmp_path: Path) -> None:
    server.faults = ["long"] * 4
    with pytest.raises(DownloadError, match="cannot be fetched"):
        fetch(server.url())
    assert not left(tmp_path, ".ckpt")


def test_errors_name_the_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults = ["404"]
    with pytest.raises(DownloadError, match=r"http://127.0.0.1.*/gone.ckpt\S*: HTTP status 404 Not Found"):
        fetch(server.url("gone.ckpt"))
    assert len(server.ranges) == 1
    with pytest.raises(DownloadError, match="names no file"):
        fetch("https://host.invalid/")
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9/a.ckpt: cannot be fetched \(.*--ckpt_path FILE"):
        fetch("http://127.0.0.1:9/a.ckpt")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="cannot be kept in"):
        fetch(server.url())


def test_two_at_once(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(fetch, [server.url()] * 4))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == server.content
    assert len(server.ranges) == 1


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKNET_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_dir() == tmp_path / ".cache" / "sknet"
