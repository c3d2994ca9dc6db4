# SPDX-License-Identifier: Apache-2.0
"""What the service takes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Each bounds what one client, or all together, can take.

    Attributes:
        max_batch: images in one call of the network.
        max_wait_ms: how long a lone image waits for company.
        queue: requests under way or waiting; one more is refused with 503. Of these at most 2 max_batch hold a decoded
            image, the others the bytes that they sent.
        max_bytes: of a request's body; 413.
        max_pixels: of an image, known before it is decoded; 413.
        timeout_s: for a body to arrive (408), and then for the answer (504).
        decoders: threads that decode images.
    """

    max_batch: int = 16
    max_wait_ms: float = 2.0
    queue: int = 256
    max_bytes: int = 10 << 20
    max_pixels: int = 25_000_000
    timeout_s: float = 30.0
    decoders: int = 2
