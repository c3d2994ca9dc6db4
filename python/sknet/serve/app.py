# SPDX-License-Identifier: Apache-2.0
"""The HTTP side: POST /predict, GET /health, GET /metrics."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from sknet.deploy.images import ImageError, ImageTooLargeError, decode_image
from sknet.deploy.ranking import rank
from sknet.deploy.source import Source
from sknet.serve.executor import BatchExecutor, StoppedError, Work
from sknet.serve.limits import Limits
from sknet.serve.metrics import Metrics


def network_work(source: Source) -> Work:
    """Images to rows of logits; the network is built, compiled and tried here, on the executor's thread."""
    from sknet.deploy.images import Preprocessor
    from sknet.deploy.runner import make_runner

    run, prepare = make_runner(source), Preprocessor(source.preprocessing)

    def work(images: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return run(np.stack([prepare(image) for image in images]))

    grey = np.full((64, 64, 3), 128, np.uint8)
    work([grey])
    work([grey, grey])
    return work


class Service:
    """The network on its own thread, and what is counted.

    Args:
        find: gives the source; called on the executor's thread, as it may need MindSpore.
        limits: see there.
    """

    def __init__(self, find: Callable[[], Source], limits: Limits) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.source: Source

        def prepare() -> Work:
            self.source = find()
            return network_work(self.source)

        self.executor = BatchExecutor(prepare, limits.max_batch, limits.max_wait_ms / 1e3, self.metrics.batch)
        self._decoders = ThreadPoolExecutor(limits.decoders, thread_name_prefix="sknet-decoder")
        self._decoded = asyncio.Semaphore(2 * limits.max_batch)

    def start(self) -> None:
        """Load and compile; an error of theirs is raised here."""
        self.executor.start()

    def stop(self) -> None:
        """Answer what waits, then end."""
        self.executor.stop()
        self._decoders.shutdown()

    async def logits(self, body: bytes) -> np.ndarray:
        """The network's output for the bytes of an image file."""
        async with self._decoded:
            loop = asyncio.get_running_loop()
            image = await loop.run_in_executor(self._decoders, decode_image, body, self.limits.max_pixels)
            return await asyncio.wrap_future(self.executor.submit(image))


class _Counting:
    """ASGI middleware: status and seconds of every prediction."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
                self._metrics.latency.observe(time.perf_counter() - start)
            await send(message)

        await self._app(scope, receive, counted)


async def _read_body(request: Request, limits: Limits) -> bytes:
    too_large = HTTPException(413, f"the body is larger than {limits.max_bytes:,} bytes")
    length = request.headers.get("content-length")
    if length and length.isdecimal() and int(length) > limits.max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.max_bytes:
            raise too_large
    if not body:
        raise HTTPException(400, "the body is empty; expected the bytes of an image file")
    return bytes(body)


async def _answer(service: Service, request: Request, top: int) -> dict[str, Any]:
    limits = service.limits
    try:
        body = await asyncio.wait_for(_read_body(request, limits), limits.timeout_s)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {limits.timeout_s:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client left before the body had arrived") from None
    try:
        logits = await asyncio.wait_for(service.logits(body), limits.timeout_s)
        best = rank(logits, service.source.classes, top)
    except asyncio.TimeoutError:
        raise HTTPException(504, f"no answer within {limits.timeout_s:g} s") from None
    except ImageTooLargeError as error:
        raise HTTPException(413, str(error)) from None
    except ImageError as error:
        raise HTTPException(400, str(error)) from None
    except StoppedError as error:
        raise HTTPException(503, str(error)) from None
    except ValueError as error:
        raise HTTPException(500, str(error)) from None
    return {"model": service.source.model, "top": best}


def create_app(service: Service) -> FastAPI:
    """The application of a started service, which it stops when it ends."""
    source, limits, metrics = service.source, service.limits, service.metrics
    pending = 0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(title="sknet", description=f"Classes of photos, by {source.model}", lifespan=lifespan)
    app.add_middleware(_Counting, metrics=metrics)

    @app.post("/predict", openapi_extra={"requestBody": {"content": {"image/*": {}}, "required": True}})
    async def predict(
        request: Request, top: Annotated[int, Query(ge=1, le=1000, description="how many classes")] = 5
    ) -> Response:
        """The best classes of the image whose bytes are the body."""
        nonlocal pending
        if pending >= limits.queue:
            raise HTTPException(503, f"{pending} requests wait already; try again later", {"Retry-After": "1"})
        pending += 1
        metrics.pending.set(pending)
        try:
            return JSONResponse(await _answer(service, request, top))
        finally:
            pending -= 1
            metrics.pending.set(pending)

    @app.get("/health")
    async def health() -> Response:
        """200 while images are taken."""
        ready = service.executor.alive
        content = {"status": "ready" if ready else "stopping", "model": source.model, "classes": source.num_classes}
        return JSONResponse(content, 200 if ready else 503)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app
