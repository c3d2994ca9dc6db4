# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads from the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("sknet_requests", "Answers by status", ["status"], registry=self.registry)
        self.latency = Histogram(
            "sknet_request_seconds", "From request to answer, of predictions", buckets=_SECONDS, registry=self.registry
        )
        self.pending = Gauge("sknet_pending_requests", "Requests worked on or waiting", registry=self.registry)
        self.batch_size = Histogram(
            "sknet_batch_size", "Images a batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry
        )
        self.batch_seconds = Histogram("sknet_batch_seconds", "Of a batch", buckets=_SECONDS, registry=self.registry)

    def batch(self, size: int, seconds: float) -> None:
        self.batch_size.observe(size)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
