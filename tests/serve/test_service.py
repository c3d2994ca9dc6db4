# SPDX-License-Identifier: Apache-2.0
"""The service in a process of its own, over loopback."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT

for _module in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_module)

from sknet.serve.load import load  # noqa: E402


class Service:
    def __init__(self, checkpoint: Path, *options: object) -> None:
        command = [sys.executable, "-m", "sknet", "serve", "--ckpt_path", checkpoint, "--port", 0, *options]
        path = os.pathsep.join([str(ROOT), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        line = self.process.stdout.readline()
        match = re.fullmatch(r"serving sknet_tiny on http://127\.0\.0\.1:(\d+)\n", line)
        assert match, line + self.process.stderr.read()
        self.port = int(match.group(1))
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content) if "json" in response.headers["content-type"] else content.decode()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def serve(checkpoint: Path) -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def start(*options: object) -> Service:
        services.append(Service(checkpoint, *options))
        return services[-1]

    yield start
    for service in services:
        if service.process.poll() is None:
            service.process.kill()
            service.process.communicate()


def photo(side: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 60).save(out, "PNG")
    return out.getvalue()


def test_answers_refusals_and_load(serve: Callable[..., Service], photos: Path) -> None:
    service = serve("--max_bytes", 1_000_000, "--max_pixels", 100_000)
    images = [path.read_bytes() for path in sorted(photos.rglob("*.*"))]
    assert service.ask("GET", "/health") == (200, {"status": "ready", "model": "sknet_tiny", "classes": 3})
    status, answer = service.ask("POST", "/predict?top=2", images[0])
    assert status == 200
    assert [set(best) for best in answer["top"]] == [{"index", "class", "probability"}] * 2
    assert answer["top"][0]["class"] in ("ant", "bee", "cat")

    for status, words, request in (
        (400, "the body is empty", ("POST", "/predict", b"")),
        (400, "not an image", ("POST", "/predict", b"text")),
        (400, "the image is damaged", ("POST", "/predict", photo(64)[:-1000])),
        (413, "320 x 320 pixels; at most 100,000", ("POST", "/predict", photo(320))),
        (413, "larger than 1,000,000 bytes", ("POST", "/predict", bytes(1_000_001))),
        (422, "greater than or equal to 1", ("POST", "/predict?top=0", images[0])),
        (405, "Method Not Allowed", ("GET", "/predict")),
        (404, "Not Found", ("POST", "/nowhere")),
    ):
        got, answer = service.ask(*request)
        assert (got, words in json.dumps(answer)) == (status, True), (request[:2], got, answer)

    alone, together = load(service.url, images, requests=300, bad=30, concurrency=16)
    assert (alone.wrong, together.wrong) == ([], [])
    assert sum(together.statuses.values()) == 300
    assert together.statuses[200] == 270

    _, text = service.ask("GET", "/metrics")
    count = {s: int(float(n)) for s, n in re.findall(r'sknet_requests_total\{status="(\d+)"\} (\S+)', text)}
    assert count["200"] == 1 + len(images) + 270
    assert count["400"] + count["413"] == 5 + 30
    batches, in_batches = (float(re.search(rf"sknet_batch_size_{n} (\S+)", text)[1]) for n in ("count", "sum"))
    assert in_batches == count["200"]
    assert batches < in_batches  # some went together
    assert "sknet_pending_requests 0.0" in text
    assert service.stop() == (0, "")


@pytest.mark.long
def test_ten_thousand_requests(serve: Callable[..., Service], photos: Path) -> None:
    service = serve()
    images = [path.read_bytes() for path in sorted(photos.rglob("*.*"))]
    alone, together = load(service.url, images * 10, requests=10_000, bad=1_000, concurrency=32)
    for name, report in (("alone", alone), ("32 at once", together)):
        p50, p99 = 1e3 * report.quantile(0.5), 1e3 * report.quantile(0.99)
        print(f"{name}: {report.per_s:.0f} images/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert (alone.wrong, together.wrong) == ([], [])
    assert sum(together.statuses.values()) == 10_000
    assert (together.statuses[200], together.statuses[400] + together.statuses[413]) == (9_000, 1_000)
    assert together.per_s > alone.per_s
    assert service.stop() == (0, "")


def test_full_queue_slow_clients_and_graceful_stop(serve: Callable[..., Service], photos: Path) -> None:
    # Long waits for company keep the requests in the queue for as long as the test needs.
    service = serve("--queue", 4, "--max_batch", 16, "--max_wait_ms", 3000, "--timeout_s", 20)
    body = (photos / "ant" / "0.png").read_bytes()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(service.ask, "POST", "/predict", body) for _ in range(4)]
        deadline = time.monotonic() + 20
        while "sknet_pending_requests 4.0" not in service.ask("GET", "/metrics")[1]:
            assert time.monotonic() < deadline
        status, answer = service.ask("POST", "/predict", body)
        assert (status, answer["detail"]) == (503, "4 requests wait already; try again later")
        stopped = threading.Thread(target=service.stop)
        stopped.start()
        assert [f.result()[0] for f in waiting] == [200] * 4  # asked to stop, it answers what it has taken
    stopped.join(60)
    assert service.process.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        service.ask("GET", "/health")


def test_timeouts_and_interrupt(serve: Callable[..., Service], photos: Path) -> None:
    service = serve("--timeout_s", 0.5, "--max_wait_ms", 2000)
    body = (photos / "ant" / "0.png").read_bytes()
    status, answer = service.ask("POST", "/predict", body)
    assert (status, answer["detail"]) == (504, "no answer within 0.5 s")
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab")
        assert b"408" in slow.recv(4096).split(b"\r\n")[0]
    assert service.ask("GET", "/health")[0] == 200
    assert service.stop(signal.SIGINT)[0] == 0


def test_a_taken_port() -> None:
    from sknet.serve.server import ServeError, _listen

    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ServeError, match="cannot listen on 127.0.0.1"),
    ):
        _listen("127.0.0.1", taken.getsockname()[1])
