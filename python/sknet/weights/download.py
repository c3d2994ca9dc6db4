# SPDX-License-Identifier: Apache-2.0
"""Weights by URL: fetched once into a cache, the rest only after a break, under their name only when whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import urllib3
from tqdm import tqdm

from sknet.files import publish

_ATTEMPTS = 4  # of one call, each from where the one before broke off
_PAUSE = 1.0  # seconds after the first, longer after each
_REDIRECTS = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)
_TIMEOUT = urllib3.Timeout(connect=20, read=60)


class DownloadError(ValueError):
    """Weights that cannot be fetched, with the address and the reason."""


def is_url(source: object) -> bool:
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def cache_dir() -> Path:
    """SKNET_CACHE, or ~/.cache/sknet."""
    return Path(os.environ.get("SKNET_CACHE") or Path.home() / ".cache" / "sknet")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, progress: bool = True) -> Path:
    """The file at `url`, from the cache if it was fetched before. Prints where it lies and its SHA-256.

    Raises:
        DownloadError: the server cannot be reached, does not have the file, or the transfer breaks off again and again.
    """
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    if not name:
        raise DownloadError(f"{url}: names no file")
    # Two servers may have different files of one name.
    path = cache_dir() / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f"{name}.lock")):
            if not path.is_file():
                _download(url, path, progress)
    except OSError as error:
        raise DownloadError(f"{url}: cannot be kept in {cache_dir()} (SKNET_CACHE): {error}") from error
    tqdm.write(f"weights {path}, SHA-256 {sha256(path)}")
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(url: str, path: Path, progress: bool) -> None:
    part = path.with_name(f"{path.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer(url, part, path.name, progress)
            publish(part, path)
            return
        except urllib3.exceptions.HTTPError as error:
            have = part.stat().st_size if part.is_file() else 0
            if attempt == _ATTEMPTS:
                reason = getattr(error, "reason", None) or error.args[0]
                kept = f"; {have} bytes are kept, the same command goes on from there" if have else ""
                raise DownloadError(
                    f"{url}: cannot be fetched ({reason}){kept}. Without a network give a file: --ckpt_path FILE"
                ) from error
            time.sleep(attempt * _PAUSE)


def _transfer(url: str, part: Path, name: str, progress: bool) -> None:
    """Append to `part` what it lacks. urllib3's HTTPError on a connection that breaks; too few bytes count as that."""
    tag_file = part.with_name(f"{name}.etag")  # of the version that `part` is a piece of
    tag = tag_file.read_text() if tag_file.is_file() else ""
    have = part.stat().st_size if part.is_file() and tag else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with (
        urllib3.PoolManager() as pool,
        pool.request("GET", url, headers=headers, timeout=_TIMEOUT, retries=_REDIRECTS,
                     preload_content=False) as response,
    ):  # fmt: skip
        if response.status == 416:  # there is nothing after what we have: begin anew
            part.unlink()
            raise urllib3.exceptions.ProtocolError("the part kept does not fit the file")
        if response.status not in (200, 206):
            what = f"HTTP status {response.status} {response.reason or ''}".strip()
            if response.status >= 500:
                raise urllib3.exceptions.ProtocolError(what)
            raise DownloadError(f"{url}: {what}")
        if response.status == 200:
            have = 0  # the whole file, whatever we have
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise urllib3.exceptions.ProtocolError("another range than asked for")
        # A weak tag does not promise the same bytes.
        tag = response.headers.get("ETag", "")
        tag_file.write_text(response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, leave=False,
                 disable=None if progress else True) as bar,
        ):  # fmt: skip
            for chunk in response.stream(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise urllib3.exceptions.ProtocolError(f"{size} of {total} bytes came")
