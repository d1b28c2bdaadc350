"""The operator's part of the command line: quarantine, orphans, erasure, inquiries, audit.

They work on the database itself, and need the settings of the processes that run on it; `inquire`
also asks Antom, and needs the server's. Exit code 1 is "not done", with the reason in words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from antom_payments.arguments import past
from antom_payments.columns import print_columns, print_fields, print_json, print_list

if TYPE_CHECKING:
    from antom_payments.operations import Operations, Replay
    from antom_payments.settings import Settings

_LONGEST_ACTOR = 128
_LONGEST_MERCHANT_ACCOUNT = 64


Actor = Annotated[str, typer.Option(help="Who does it, for the audit; else the system's user.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]
MerchantAccount = Annotated[str, typer.Option(help="Merchant account; else the configured one.")]
NotificationId = Annotated[str, typer.Argument(help="Our id of the notification.")]
PaymentRequestId = Annotated[str, typer.Argument(help="Your id of the payment.")]
Reason = Annotated[
    str, typer.Option(help="Only of this reason, or of all whose part before the colon it is.")
]

quarantine = typer.Typer(
    help="Verified notifications that were not understood, or not to be applied.",
    no_args_is_help=True,
)
orphans = typer.Typer(help="News of payments that are not known here.", no_args_is_help=True)
audit = typer.Typer(help="What operators did by command.", no_args_is_help=True)


def add_to(cli: typer.Typer) -> None:
    """Add the operator's commands."""
    cli.add_typer(quarantine, name="quarantine")
    cli.add_typer(orphans, name="orphans")
    cli.add_typer(audit, name="audit")
    for command in (erase, inquire, reinquire):
        cli.command()(command)


@quarantine.command("list")
def list_quarantined(
    reason: Reason = "", limit: Limit = 100, as_json: AsJson = False, actor: Actor = ""
) -> None:
    """List what is quarantined, oldest first, without bodies."""

    async def listed() -> Sequence[Any]:
        async with _operations(actor) as operations:
            return await operations.quarantined(reason, limit)

    found = asyncio.run(listed())
    columns = ("notification_id", "received_time", "reason", "copies", "payment_id")
    print_list(found, ("merchant_account", *columns), as_json=as_json, limit=limit)


@quarantine.command("show")
def show(
    notification_id: NotificationId,
    body: Annotated[
        bool, typer.Option("--body", help="Print the raw body instead: it is personal.")
    ] = False,
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """Show one stored notification, whatever became of it; its body only with --body."""
    if body and as_json:
        raise typer.BadParameter("--body prints the exact bytes, not JSON of ours")

    async def shown() -> tuple[Any, bytes]:
        async with _operations(actor) as operations:
            return await operations.show(notification_id, with_body=body)

    stored, raw = asyncio.run(shown())
    if body:
        sys.stdout.buffer.write(raw)
        sys.stdout.flush()
    else:
        print_fields(asdict(stored), as_json=as_json)


@quarantine.command("replay")
def replay(  # noqa: PLR0917 - typer's arguments are options by name
    notification_ids: Annotated[
        list[str] | None, typer.Argument(help="Our ids of notifications.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All, or all of --reason.")] = False,
    reason: Reason = "",
    accept_late: Annotated[
        bool,
        typer.Option(help="Also what came outside the window, unconfirmed. Better: `inquire`."),
    ] = False,
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """Read quarantined notifications again, and apply what is understood now.

    As if they had come now: a fact makes one event, however often it is told. What came outside the
    window is held back until an inquiry agrees, unless --accept-late.
    """
    if everything == bool(notification_ids) or (reason and not everything):
        raise typer.BadParameter("expected ids, or --all with or without --reason")

    async def replayed() -> list[Replay]:
        async with _operations(actor) as operations:
            if everything:
                each = operations.replay_all(reason, accept_late=accept_late)
                return [one async for one in each]
            return [
                await operations.replay(one, accept_late=accept_late)
                for one in notification_ids or ()
            ]

    done = asyncio.run(replayed())
    counts = Counter(one.result for one in done)
    if as_json:
        print_json({"counts": counts, "notifications": [asdict(one) for one in done]})
    else:
        ids = ("payment_request_id", "event_id")
        print_columns(("notification_id", "result", "event_type", "reason", *ids), done)
        told = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
        print(f"replayed: {told or 'nothing was quarantined'}")
    if counts["HELD_BACK"]:
        print(
            "held back: outside the window; `inquire` its payment, or --accept-late",
            file=sys.stderr,
        )
    if not everything and not all(one.was_replayed for one in done):
        raise typer.Exit(1)


@quarantine.command("discard")
def discard(
    notification_id: NotificationId,
    why: Annotated[str, typer.Option(help="Why; kept in the audit, in the clear.")],
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """Set a quarantined notification aside for good; it is stored as long as concluded ones."""

    async def discarded() -> Any:
        async with _operations(actor) as operations:
            return await operations.discard(notification_id, why)

    stored = asyncio.run(discarded())
    if as_json:
        print_json(asdict(stored))
    else:
        print(f"discarded {notification_id}")


@orphans.command("list")
def list_orphans(
    state: Annotated[
        Literal["WAITING", "ADOPTED", "FOREIGN", "UNATTRIBUTED"] | None,
        typer.Option(help="Only in this state; else all that no payment has adopted."),
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """List facts that came before their payment was known, oldest first."""

    async def listed() -> Sequence[Any]:
        from antom_payments.store import OrphanState

        async with _operations(actor) as operations:
            return await operations.orphans(OrphanState(state) if state else None, limit)

    found = asyncio.run(listed())
    ids = ("merchant_account", "kind", "fact_id", "payment_id", "payment_request_id")
    columns = (*ids, "outcome", "told_time", "state", "event_id")
    print_list(found, columns, as_json=as_json, limit=limit)


@audit.command("list")
def list_audit(
    since: Annotated[
        datetime | None, typer.Option(parser=past, help="RFC 3339, or 2h, 30m ago.")
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List what operators did, oldest first; of more than --limit the newest."""

    async def listed() -> Sequence[Any]:
        async with _operations("") as operations:
            return await operations.audit(since, limit)

    found = asyncio.run(listed())
    columns = ("record_time", "actor", "action", "merchant_account", "subject_id", "detail")
    print_list(found, columns, as_json=as_json, limit=limit)


def erase(
    payment_request_id: PaymentRequestId,
    merchant_account: MerchantAccount = "",
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """Erase a payment's personal data: its session and the raw bodies of its notifications."""

    async def erased() -> Any:
        async with _operations(actor) as operations:
            merchant = merchant_account or _settings().merchant_account
            return await operations.erase(merchant, payment_request_id)

    done = asyncio.run(erased())
    if as_json:
        print_json(asdict(done))
    else:
        print(f"erased: {done.sessions} session, {done.notifications} notification bodies")


def inquire(
    payment_request_id: Annotated[
        str, typer.Argument(help="Your id of the payment; or --payment-id.")
    ] = "",
    payment_id: Annotated[
        str, typer.Option(help="Antom's id of the payment instead, as `quarantine` shows it.")
    ] = "",
    merchant_account: MerchantAccount = "",
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """Ask Antom about a payment now; shows it before and after.

    By --payment-id it is found once Antom's id of it is known here; exit code 1 if it is not.
    """
    if bool(payment_request_id) == bool(payment_id):
        raise typer.BadParameter("expected the payment_request_id or --payment-id, and not both")

    async def inquired() -> tuple[Any, Any]:
        async with _operations(actor, asks_antom=True) as operations:
            from antom_payments.service import PaymentKey

            settings = _settings()
            return await operations.inquire(
                PaymentKey(
                    merchant_account or settings.merchant_account, payment_request_id, payment_id
                ),
                # The call and its storing; the service bounds the call itself.
                budget_seconds=settings.antom_budget_seconds + 10,
            )

    before, after = asyncio.run(inquired())
    if as_json:
        print_json({"before": asdict(before), "after": asdict(after)})
        return
    columns = ("state", "version", "payment_id", "captured_minor_units", "result_code")
    print_columns(
        ("", *columns), [{"": "before", **asdict(before)}, {"": "after", **asdict(after)}]
    )
    print("nothing new" if before.version == after.version else "Antom told news")


def reinquire(
    since: Annotated[datetime, typer.Option(parser=past, help="RFC 3339, or 2h, 30m ago.")],
    merchant_account: Annotated[str, typer.Option(help="Only this merchant; else all.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most; else all.")] = None,
    as_json: AsJson = False,
    actor: Actor = "",
) -> None:
    """Have Antom asked about all payments created or changed since, also final ones.

    For after a restore. Only schedules: the server asks, within its rate.
    """
    _checked("--merchant-account", merchant_account, _LONGEST_MERCHANT_ACCOUNT)

    async def scheduled() -> int:
        async with _operations(actor) as operations:
            return await operations.reinquire(since, merchant_account=merchant_account, limit=limit)

    count = asyncio.run(scheduled())
    if as_json:
        print_json({"scheduled": count, "since": since})
    else:
        print(f"scheduled {count} inquiries")


@contextlib.asynccontextmanager
async def _operations(actor: str, *, asks_antom: bool = False) -> AsyncIterator[Operations]:
    """The operations on the configured database; with Antom behind them when it is asked."""
    from antom_payments import app, telemetry
    from antom_payments.operations import Operations
    from antom_payments.service import PaymentService
    from antom_payments.storage import payment_store

    actor = _checked("--actor", actor or _system_user(), _LONGEST_ACTOR)
    settings = _settings()
    # Whoever typed it reads what goes wrong; telemetry is of the processes that serve.
    telemetry.configure_logs("WARNING", "console")
    async with contextlib.AsyncExitStack() as parts:
        store = await parts.enter_async_context(payment_store(settings, _now, creates=False))
        service = None
        if asks_antom:
            merchant = await parts.enter_async_context(app.merchant_of(settings, _now))
            service = PaymentService(
                store,
                {merchant.merchant_account: merchant},
                now=_now,
                call_budget_seconds=settings.antom_budget_seconds,
            )
            parts.push_async_callback(service.drain)
        yield Operations(store, service, actor=actor)


def _settings() -> Settings:
    from antom_payments import settings

    return settings.load()


def _now() -> datetime:
    return datetime.now(UTC)


def _system_user() -> str:
    """Who runs this, by the system rather than by variables; a number when it has no name."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"


def _checked(option: str, text: str, longest: int) -> str:
    """``text``, which the audit keeps as it is."""
    if len(text) > longest or not text.isprintable():
        raise typer.BadParameter(f"{option}: expected at most {longest} printable characters")
    return text
