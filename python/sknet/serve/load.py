# SPDX-License-Identifier: Apache-2.0
"""Load on a running service, and what it did with it.

    python -m sknet.serve.load URL IMAGE_OR_FOLDER [--requests N] [--bad N] [--concurrency N]

First every image is asked for by itself; then all at once, in random order, with bad requests in between. Every answer
must be the one that the image got alone, and every bad request must be refused with 4xx and a reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

from sknet.deploy.images import find_images

# What a careless or a hostile client sends, and the status that it must get.
_BAD = (
    ("text", b"this is not an image", {400}),
    ("empty", b"", {400}),
    ("cut short", None, {400}),
    ("too large", b"x" * (10 << 20 | 1), {413}),
)


@dataclass
class Report:
    """One phase.

    Attributes:
        latencies: seconds of each good request.
        seconds: of all together.
        statuses: how often which.
        wrong: descriptions of answers that were not what they must be; lost requests among them.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    statuses: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return len(self.latencies) / max(self.seconds, 1e-9)

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) if self.latencies else 0.0


class Client:
    """One connection that is kept, and made anew when the service has closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def post(self, body: bytes) -> tuple[int, dict]:
        """Status and JSON of POST /predict."""
        kept = self._streams is not None
        try:
            return await self._post(body)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            if not kept:
                raise
            return await self._post(body)

    async def _post(self, body: bytes) -> tuple[int, dict]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(
            f"POST /predict HTTP/1.1\r\nHost: {self._address[0]}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        if len(body) <= 1 << 20:
            writer.write(body)  # more would meet a closed door: the service answers without reading
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        answer = json.loads(await reader.readexactly(int(headers["content-length"])))
        if headers.get("connection") == "close" or len(body) > 1 << 20:
            await self.close()
        return int(head[0].split()[1]), answer


async def _alone(host: str, port: int, images: Sequence[bytes]) -> tuple[list[dict], Report]:
    """Every image by itself, one after another."""
    report, answers, client = Report(), [], Client(host, port)
    start = time.perf_counter()
    for i, body in enumerate(images):
        begun = time.perf_counter()
        status, answer = await client.post(body)
        report.latencies.append(time.perf_counter() - begun)
        report.statuses[status] += 1
        if status != 200:
            report.wrong.append(f"image {i} alone: {status} {answer}")
        answers.append(answer)
    report.seconds = time.perf_counter() - start
    await client.close()
    return answers, report


def _same(got: dict, expected: dict) -> bool:
    """The same classes in the same order; probabilities may differ as sums in another order do."""
    pairs = list(zip(got["top"], expected["top"], strict=True))
    return all(g["index"] == e["index"] and abs(g["probability"] - e["probability"]) < 1e-4 for g, e in pairs)


async def _together(
    host: str, port: int, images: Sequence[bytes], expected: list[dict], plan: Sequence[int], concurrency: int
) -> Report:
    """The plan's requests, numbers of images or, negative, of bad ones, from `concurrency` clients at once."""
    report, todo = Report(), iter(plan)

    async def work() -> None:
        client = Client(host, port)
        for i in todo:
            name, body, allowed = ("", images[i], {200}) if i >= 0 else _BAD[-i - 1]
            body = images[0][: len(images[0]) // 2] if body is None else body
            begun = time.perf_counter()
            try:
                status, answer = await asyncio.wait_for(client.post(body), 120)
            except Exception as error:
                report.wrong.append(f"{name or f'image {i}'}: lost, {type(error).__name__}: {error}")
                continue
            report.statuses[status] += 1
            if i >= 0:
                report.latencies.append(time.perf_counter() - begun)
            if status not in allowed:
                report.wrong.append(f"{name or f'image {i}'}: {status} {answer}")
            elif i >= 0 and not _same(answer, expected[i]):
                report.wrong.append(f"image {i}: got {answer['top'][0]}, alone {expected[i]['top'][0]}")
            elif i < 0 and not answer.get("detail"):
                report.wrong.append(f"{name}: {status} without a reason")
        await client.close()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    report.seconds = time.perf_counter() - start
    return report


def load(
    url: str, images: Sequence[bytes], requests: int, bad: int, concurrency: int, seed: int = 0
) -> tuple[Report, Report]:
    """One by one, then `requests` at once with `bad` ones among them: the reports of both."""
    where = urlsplit(url)
    host, port = where.hostname or "127.0.0.1", where.port or 80
    rng = np.random.default_rng(seed)
    plan = [int(i) for i in rng.integers(len(images), size=requests - bad)]
    plan += [-1 - i % len(_BAD) for i in range(bad)]
    plan = [plan[i] for i in rng.permutation(len(plan))]

    async def both() -> tuple[Report, Report]:
        expected, alone = await _alone(host, port, images)
        return alone, await _together(host, port, images, expected, plan, concurrency)

    return asyncio.run(both())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sknet.serve.load", description=__doc__.split("\n\n")[0])
    parser.add_argument("url", metavar="URL")
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--requests", type=int, default=10_000, metavar="N", help="[10000]")
    parser.add_argument("--bad", type=int, default=1_000, metavar="N", help="bad ones among them [1000]")
    parser.add_argument("--concurrency", type=int, default=32, metavar="N", help="clients at once [32]")
    args = parser.parse_args(argv)
    images = [path.read_bytes() for path in find_images(args.images)]
    alone, together = load(args.url, images, args.requests, args.bad, args.concurrency)
    for name, report in (("one by one", alone), (f"{args.concurrency} at once", together)):
        times = ", ".join(f"p{round(100 * q)} {1e3 * report.quantile(q):.1f} ms" for q in (0.5, 0.99))
        statuses = ", ".join(f"{n} x {status}" for status, n in sorted(report.statuses.items()))
        print(f"{name}: {report.per_s:.0f} images/s, {times}; {statuses}; {len(report.wrong)} lost or wrong")
        for line in report.wrong[:10]:
            print(f"  {line}")
    return 1 if alone.wrong or together.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
