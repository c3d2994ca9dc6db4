# SPDX-License-Identifier: Apache-2.0
"""The process around the service."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

from sknet.deploy.optional import require
from sknet.deploy.source import Source
from sknet.serve.limits import Limits

_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class ServeError(RuntimeError):
    """The service cannot listen; the message says why."""


def serve(find: Callable[[], Source], host: str, port: int, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM; then take no more connections, answer what is under way, and return.

    Call it before MindSpore is imported, so that none of its threads takes the signals.

    Args:
        find: gives the source; called on the thread that MindSpore will run on.
        host, port: where to listen; port 0 is a free one. The address is printed.
        limits: see there.

    Raises:
        MissingPackageError: without the packages of the extra "serve".
        ServeError: the port is taken.
        whatever find raises, or loading the network.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, "serve")
    import uvicorn

    from sknet.serve.app import Service, create_app

    # Blocked here and so in every thread to come: each graph that MindSpore runs installs a handler of its own, which
    # ends the process at once. One thread waits for the signals instead, whatever handlers there are.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    listener = _listen(host, port)
    server: uvicorn.Server | None = None

    def wait() -> None:
        signal.sigwait(_SIGNALS)
        if server is None:
            os._exit(130)  # still loading: nobody is being served
        server.should_exit = True
        signal.sigwait(_SIGNALS)  # asked twice
        server.force_exit = True

    threading.Thread(target=wait, name="sknet-signals", daemon=True).start()
    service = Service(find, limits)
    service.start()
    config = uvicorn.Config(
        create_app(service),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(2 * limits.timeout_s) + 1,
    )
    server = uvicorn.Server(config)
    address, bound = listener.getsockname()[:2]
    listener.listen(2048)  # who reads the next line can connect
    print(f"serving {service.source.model} on http://{address}:{bound}", flush=True)
    server.run(sockets=[listener])
    print("stopped", flush=True)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before the network is loaded: a port that is in use is known at once."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # With the protocol's number: asyncio turns Nagle's algorithm off only where it sees that.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener
