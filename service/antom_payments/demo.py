"""One card payment from session to captured, through real processes on this machine.

Starts server, sidecar and a local Antom on embedded SQLite in a folder of its own, creates a
session over gRPC, follows the event stream, plays the buyer, and shows the events as they come and
the linked traces. Nothing leaves the machine; nothing stays behind.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import httpx
from rich.console import Console

from antom_payments.client import CallFailed, terminal
from antom_payments.dev import LocalPorts, LocalStack, local_stack
from antom_payments.settings import PREFIX
from antom_payments.trace_receiver import ReceivedSpan, TraceReceiver, receiving, rendered

PAYMENT_REQUEST_ID = "demo-order-1001-pay-1"
_CARD = "4054695723100768"  # Antom's sandbox Visa that succeeds (antom-api 9.3)
_LAST = "CAPTURE_SUCCEEDED"
_NOTIFICATION = "POST /antom/notify"
_PATIENCE_SECONDS = 30.0
_TRACING = {
    "OTEL_SDK_DISABLED": "false",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    "OTEL_TRACES_SAMPLER": "always_on",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
}


async def run_demo(console: Console) -> int:
    """Run the demo; the exit code: 0 when the payment was captured, and its traces were linked."""
    with tempfile.TemporaryDirectory(prefix="antom-payments-demo-") as folder:
        process_lines: list[str] = []
        try:
            async with AsyncExitStack() as running:
                receiver, endpoint = await running.enter_async_context(receiving())
                console.print("Starting server, sidecar and a local Antom on embedded SQLite ...")
                stack = await running.enter_async_context(
                    local_stack(
                        Path(folder),
                        LocalPorts(0, 0, 0, 0, 0),
                        say=process_lines.append,
                        environment=_environment(endpoint),
                    )
                )
                return await _take_payment(console, stack, receiver)
        except (TimeoutError, RuntimeError, CallFailed, httpx.HTTPError) as error:
            console.print(f"The demo failed: {str(error) or 'it took too long'}", style="red")
            console.print("What the processes said:")
            console.print(*process_lines[-40:], sep="\n", soft_wrap=True, markup=False)
            return 1


def _environment(endpoint: str) -> dict[str, str]:
    """Ours, without the settings of a real deployment that it may hold, and with tracing."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | _TRACING | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}


async def _take_payment(console: Console, stack: LocalStack, receiver: TraceReceiver) -> int:
    console.print(f"  server   {stack.grpc_address} (gRPC)")
    console.print(f"  sidecar  {stack.notify_url} (Antom's notifications)")
    console.print(f"  Antom    {stack.emulator_url} (local)\n")
    async with terminal.connected(stack.grpc_address) as payments:
        wish = terminal.SessionWish(
            payment_request_id=PAYMENT_REQUEST_ID,
            minor_units=4200,
            currency_code="SGD",
            reference_order_id="demo-order-1001",
            order_description="Two tickets",
        )
        console.print("CreateSession: SGD 42.00 by card")
        answer = await payments.create_session(wish.request())
        console.print(
            f"  the front end gets {len(answer.session.payment_session_data)} characters of "
            "payment_session_data for Antom's SDK\n"
        )
        console.print("The events as they stream, from the log's beginning:")
        following = asyncio.create_task(_follow(console, stack.grpc_address))
        try:
            await _approve(stack)
            trace_ids = await asyncio.wait_for(following, _PATIENCE_SECONDS)
        finally:
            following.cancel()
        final = (await payments.get_payment(payment_request_id=PAYMENT_REQUEST_ID)).payment
    console.print(
        f"\nGetPayment: captured {final.captured_amount.currency_code} "
        f"{final.captured_amount.minor_units} of {final.amount.minor_units} minor units"
    )
    linked = await _show_traces(console, receiver, trace_ids)
    took_all = final.captured_amount == final.amount
    console.print("\nDone." if linked and took_all else "\nSomething is missing.")
    return 0 if linked and took_all else 1


async def _approve(stack: LocalStack) -> None:
    """Pay as the buyer would."""
    async with httpx.AsyncClient(base_url=stack.emulator_url, trust_env=False) as antom:
        paid = await antom.post(
            f"/emulator/buyer/{PAYMENT_REQUEST_ID}", json={"action": "approve", "card": _CARD}
        )
        paid.raise_for_status()


async def _follow(console: Console, address: str) -> set[str]:
    """Print events until the capture; the traces that they name."""
    wish = terminal.WatchWish(earliest=True)
    trace_ids: set[str] = set()
    async with aclosing(terminal.watched(address, wish, as_json=False)) as events:
        async for event, line in events:
            console.print(f"  {line}", soft_wrap=True, markup=False)
            for traceparent in terminal.traceparents(event):
                trace_ids.add(traceparent.split("-")[1])
            if f" {_LAST} " in line:
                break
    return trace_ids


async def _show_traces(console: Console, receiver: TraceReceiver, trace_ids: set[str]) -> bool:
    """Print the traces of session, notifications and events; whether they are all linked."""

    def linked(spans: list[ReceivedSpan]) -> bool:
        """Two notifications, each linked to the session's trace."""
        told = [span for span in spans if span.name == _NOTIFICATION and span.linked_trace_ids]
        return len(told) >= 2 and {span.trace_id for span in told} <= trace_ids

    found = await receiver.until(linked, _PATIENCE_SECONDS)
    console.print("\nThe traces, as a tracing backend would get them over OTLP:")
    for line in rendered(receiver.spans, trace_ids):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    return found
