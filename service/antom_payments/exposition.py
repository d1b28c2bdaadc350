"""This process's metrics, as Prometheus reads them."""

from __future__ import annotations

import asyncio

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


class Exposition:
    """Collects when it is asked; `reader` must be given to the meter provider.

    A registry of its own: the library's global one would add series that nobody documented.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        # Each series would carry three more labels, the same everywhere.
        self.reader = PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
        self._turn = asyncio.Lock()

    async def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type: OpenMetrics when ``accept`` wants it.

        Plain when it is garbage.

        In a thread, so that calls and streams go on; one at a time, because the reader's collector
        keeps what it collected in one place.
        """
        try:
            encode, content_type = choose_encoder(accept)
        except Exception:  # noqa: BLE001 - a version that is none: the library compares it all the same
            encode, content_type = choose_encoder("")
        async with self._turn:
            return await asyncio.to_thread(encode, self._registry), content_type
