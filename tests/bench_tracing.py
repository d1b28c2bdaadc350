"""What tracing costs: CPU of a stored read, and the spans of a notification, by what is sampled.

Run by hand: `python tests/bench_tracing.py`. Server and caller are one process, so the shares are
of both together.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind

from antom_payments import sampling, telemetry
from antom_payments.sampling import sampler_of
from antom_payments.store import migrate
from antom_payments.store.log import append_span
from whole import Shop, shop_on

CALLS, ROUNDS = 100, 20
SAMPLERS: dict[str, Sampler] = {
    "no exporter": ALWAYS_OFF,
    "1 % sampled": sampler_of({"OTEL_TRACES_SAMPLER_ARG": "0.01"}),
    "all sampled": sampler_of({"OTEL_TRACES_SAMPLER": "always_on"}),
}


class Nowhere(SpanExporter):
    """Takes spans, and does nothing with them."""

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def spent(work: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of CPU for one call."""
    began = time.process_time()
    for _ in range(CALLS):
        await work()
    return (time.process_time() - began) / CALLS * 1e6


async def notification_spans() -> None:
    """The spans of a notification whose session was not sampled, and nothing else of it."""
    begun = sampling.undecided(Context())
    with (
        telemetry.quiet_span("POST /antom/notify", SpanKind.SERVER, context=begun),
        append_span(""),
        telemetry.quiet_span("transaction", SpanKind.CLIENT),
    ):
        pass


async def measure(shop: Shop) -> None:
    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "stored read": shop.read,
        "spans of a notification": notification_spans,
    }
    best: dict[tuple[str, str], float] = {}
    for _ in range(ROUNDS):
        for name, sampler in SAMPLERS.items():
            provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
            provider.add_span_processor(sampling.UndecidedTraces(BatchSpanProcessor(Nowhere())))
            telemetry.tracer = provider.get_tracer("bench")
            for kind, work in kinds.items():
                best[kind, name] = min(best.get((kind, name), 1e9), await spent(work))
            await asyncio.to_thread(provider.shutdown)
    for (kind, name), microseconds in sorted(best.items()):
        more = microseconds - best[kind, "no exporter"]
        sys.stdout.write(f"{kind}, {name}: {microseconds:.0f} µs of CPU ({more:+.0f})\n")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/payments.db"
        await migrate(url)
        async with shop_on(url, Path(folder)) as shop:
            await shop.create()
            await measure(shop)


if __name__ == "__main__":
    asyncio.run(main())
