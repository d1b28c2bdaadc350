"""The command line: `antom-payments COMMAND --help` tells more; settings are ANTOM_PAYMENTS_*.

Each command imports what it runs: a process loads only its own part, and help answers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from antom_payments import operator_commands, upkeep_commands
from antom_payments.arguments import minor_units, moment
from antom_payments.errors import ConfigurationError, PaymentsError, StoreUnavailable

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

cli = typer.Typer(
    help="A gRPC payments microservice in front of Antom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
cli.add_typer(upkeep_commands.commands)

Address = Annotated[str, typer.Option(help="host:port of the gRPC server.")]
MerchantAccount = Annotated[
    str, typer.Option(help="Merchant account; not needed while only one is configured.")
]
Seed = Annotated[int | None, typer.Option(help="Repeats ids and faults of an earlier run.")]
FaultsFile = Annotated[
    Path | None, typer.Option(help="JSON file with what goes wrong from the start.")
]
NextKeyFile = Annotated[
    Path | None, typer.Option(help="File with the key that faults NEXT_KEY sign with.")
]
_SERVER = "127.0.0.1:50051"
T = TypeVar("T")


class CommandFailed(Exception):
    """A command's answer is an error, to be shown in words."""


def main() -> None:
    """Run the command line; errors in words, without a traceback."""
    # gRPC reads it when it is imported, which is later; it would print between our lines.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        code = cli(standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except ConfigurationError as error:
        _fail(str(error), 2)
    except StoreUnavailable as error:
        _fail(f"{error} ({type(error.__cause__).__name__})", 1)
    except (PaymentsError, CommandFailed, RuntimeError, OSError) as error:
        _fail(str(error), 1)
    except Exception as error:
        # usage errors know how to show themselves
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    sys.exit(code)


@cli.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version.",
            is_eager=True,
            callback=lambda wanted: _show_version() if wanted else None,
        ),
    ] = False,
) -> None:
    """A gRPC payments microservice in front of Antom."""


@cli.command()
def serve() -> None:
    """Run the gRPC server, until SIGTERM or Ctrl-C; then drain and end.

    Configured by ANTOM_PAYMENTS_*; `antom-payments config` shows all settings.
    """
    from antom_payments import app, settings

    _run(app.serve(settings.load()))


@cli.command()
def notifications() -> None:
    """Run the sidecar that takes Antom's notifications, until SIGTERM or Ctrl-C.

    It needs no private key of the merchant, and calls nobody. Configured by ANTOM_PAYMENTS_*;
    `antom-payments config` shows all settings.
    """
    from antom_payments import app, settings

    _run(app.receive_notifications(settings.load()))


@cli.command()
def emulator(  # noqa: PLR0917 - typer's arguments are options by name
    antom_private_key: Annotated[
        Path, typer.Option(help="File with the key that Antom signs with.")
    ],
    merchant_public_key: Annotated[Path, typer.Option(help="File with the merchant's public key.")],
    address: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1:8090",
    client_id: Annotated[
        str, typer.Option(help="The merchant's client id.")
    ] = "SANDBOX_5X00000000000000",
    notify_url: Annotated[str, typer.Option(help="For sessions that name no notify URL.")] = "",
    clock_scale: Annotated[
        float, typer.Option(help="How many times faster than ours Antom's time passes.")
    ] = 1.0,
    capture_order: Annotated[
        Literal["PAYMENT_FIRST", "CAPTURE_FIRST", "SAME_INSTANT"],
        typer.Option(help="Which of the two card notifications leaves first."),
    ] = "PAYMENT_FIRST",
    seed: Seed = None,
    faults: FaultsFile = None,
    antom_next_private_key: NextKeyFile = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; serves TLS.")] = None,
    tls_private_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
) -> None:
    """Run a local Antom for development, until SIGTERM or Ctrl-C.

    A person plays the buyer: `curl -d '{"action": "approve"}' http://ADDRESS/emulator/buyer/ID`
    with the payment_request_id. The rest, Antom's dashboard, its clock and its faults, is in
    docs/emulator.md.
    """
    from antom_payments import app
    from antom_payments.emulator import CaptureOrder, EmulatorFiles

    _run(
        app.emulate(
            EmulatorFiles(
                antom_private_key=antom_private_key,
                merchant_public_key=merchant_public_key,
                client_id=client_id,
                antom_next_private_key=antom_next_private_key,
                faults=faults,
                tls_certificate=tls_certificate,
                tls_private_key=tls_private_key,
            ),
            address=address,
            notify_url=notify_url,
            clock_scale=clock_scale,
            capture_order=CaptureOrder(capture_order),
            seed=seed,
        )
    )


@cli.command()
def dev(
    folder: Annotated[Path, typer.Option(help="For the database and generated keys.")] = Path(
        ".antom-payments"
    ),
    grpc_port: Annotated[int, typer.Option(help="0 takes a free one.")] = 50051,
    notification_port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8080,
    emulator_port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8090,
) -> None:
    """Run server, sidecar and a local Antom on embedded SQLite, and say how to call them."""
    from antom_payments.dev import LocalPorts, run_dev

    ports = LocalPorts(grpc_port, notification_port, 0, emulator_port, 0)
    _run(run_dev(folder, ports, say=_say), new_loop=asyncio.new_event_loop)


@cli.command()
def demo() -> None:
    """Take one card payment from session to captured, and show its events and traces."""
    from antom_payments.demo import run_demo

    _run(run_demo(_out), new_loop=asyncio.new_event_loop)


@cli.command()
def migrate() -> None:
    """Bring the database's schema up to date. Safe to run at any time, and several at once."""
    from antom_payments import settings
    from antom_payments.store import migrate as migrate_store

    loaded = settings.load()
    settings.prepare_embedded_folder(loaded)
    revision = asyncio.run(migrate_store(loaded.database_url.get_secret_value()))
    _say(f"The schema is at revision {revision}.")


@cli.command()
def keygen(
    folder: Annotated[Path, typer.Argument(help="Where the files are written.")],
) -> None:
    """Make the merchant's key pair and the data key. Never overwrites a key."""
    from antom_payments.keygen import write_data_key, write_key_pair

    private_file, public_file = write_key_pair(folder, "merchant")
    data_key_file = write_data_key(folder)
    _say(f"{private_file}\n  the merchant's private key: ANTOM_PAYMENTS_MERCHANT_PRIVATE_KEY_FILE")
    _say(f"{public_file}\n  upload it in Antom's dashboard, which then shows Antom's public key")
    _say(f"{data_key_file}\n  encrypts stored sessions: ANTOM_PAYMENTS_DATA_KEY_FILE; keep it")


@cli.command()
def config(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show every setting and its value, without secrets; a wrong one is named."""
    from antom_payments import settings

    shown = settings.shown(settings.load())
    if as_json:
        _out.print_json(json.dumps(shown))
    else:
        width = max(map(len, shown))
        for name, value in shown.items():
            _say(f"{name:<{width}}  {value}".rstrip())
    for name, meant in settings.unknown_variables().items():
        hint = f"; did you mean {meant}?" if meant else ""
        _err.print(f"warning: there is no setting {name}{hint}", soft_wrap=True)


@cli.command("create-session")
def create_session(  # noqa: PLR0917 - typer's arguments are options by name
    payment_request_id: Annotated[
        str, typer.Option(help="Your id of the payment; repeat it to retry.")
    ],
    amount: Annotated[
        int,
        typer.Option(
            help="In the currency's smallest unit: 4200 is SGD 42.00.", parser=minor_units
        ),
    ],
    currency: Annotated[str, typer.Option(help="ISO 4217.")],
    order_id: Annotated[str, typer.Option(help="Your id of the order; else the payment's.")] = "",
    description: Annotated[str, typer.Option(help="What is bought.")] = "Order",
    buyer_id: Annotated[str, typer.Option(help="Your id of the buyer.")] = "buyer",
    method: Annotated[str, typer.Option(help="CARD, ALIPAY_CN, GCASH …")] = "CARD",
    manual_capture: Annotated[bool, typer.Option(help="Capture yourself later.")] = False,
    redirect_url: Annotated[
        str, typer.Option(help="Where the buyer returns to.")
    ] = "https://example.com/",
    merchant_account: MerchantAccount = "",
    address: Address = _SERVER,
) -> None:
    """Create a payment session; prints the payment, its session and a cursor as JSON."""
    from antom_payments.client import terminal

    wish = terminal.SessionWish(
        payment_request_id=payment_request_id,
        minor_units=amount,
        currency_code=currency,
        reference_order_id=order_id or payment_request_id,
        order_description=description,
        reference_buyer_id=buyer_id,
        payment_method_type=method,
        manual_capture=manual_capture,
        payment_redirect_url=redirect_url,
        merchant_account=merchant_account,
    )
    _out.print_json(asyncio.run(_called(terminal.create_session(address, wish))))


@cli.command("get-payment")
def get_payment(
    payment_request_id: Annotated[str, typer.Argument(help="Your id of the payment.")],
    fresh: Annotated[bool, typer.Option(help="Ask Antom first.")] = False,
    merchant_account: MerchantAccount = "",
    address: Address = _SERVER,
) -> None:
    """Read one payment; prints it as JSON."""
    if not payment_request_id:
        raise typer.BadParameter("the payment_request_id is empty")
    from antom_payments.client import terminal

    answer = terminal.get_payment(address, merchant_account, payment_request_id, fresh=fresh)
    _out.print_json(asyncio.run(_called(answer)))


@cli.command()
def watch(  # noqa: PLR0917 - typer's arguments are options by name
    after: Annotated[str, typer.Option(help="Resume after this cursor.")] = "",
    earliest: Annotated[bool, typer.Option(help="Begin with the oldest event kept.")] = False,
    at: Annotated[
        datetime | None, typer.Option(help="Begin at a time, or 30m, 2h, 1d ago.", parser=moment)
    ] = None,
    snapshot: Annotated[bool, typer.Option(help="Begin with what payments are now.")] = False,
    payment: Annotated[
        list[str] | None, typer.Option(help="Only this payment; repeatable.")
    ] = None,
    merchant_account: Annotated[
        list[str] | None, typer.Option(help="Only this merchant; repeatable.")
    ] = None,
    final: Annotated[bool, typer.Option(help="Only final states.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    address: Address = _SERVER,
) -> None:
    """Follow payment events as they are committed; resumes by itself. Ctrl-C ends it.

    The cursor stands with the last event of its batch only: it resumes after the whole batch.
    """
    if sum(map(bool, (after, earliest, at, snapshot))) > 1:
        raise typer.BadParameter("expected one of --after, --earliest, --at and --snapshot")
    from antom_payments.client import terminal

    wish = terminal.WatchWish(
        after_cursor=after,
        earliest=earliest,
        at_time=at,
        snapshot=snapshot,
        payment_request_ids=tuple(payment or ()),
        merchant_accounts=tuple(merchant_account or ()),
        final_states_only=final,
    )

    async def print_lines() -> None:
        async for _, line in terminal.watched(address, wish, as_json=as_json):
            print(line, flush=True)  # noqa: T201 - plain lines, for pipes

    _run(_called(print_lines()))


operator_commands.add_to(cli)


def _show_version() -> None:
    _say(f"antom-payments {metadata.version('antom-payments')}")
    raise typer.Exit


async def _called(call: Coroutine[Any, Any, T]) -> T:
    """Await a call of the service. Raises CommandFailed with the server's words."""
    from antom_payments.client import ClientError

    try:
        return await call
    except ClientError as error:
        raise CommandFailed(str(error)) from error


def _run(
    work: Coroutine[Any, Any, int | None],
    *,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run ``work``; Ctrl-C, SIGTERM and SIGHUP are normal ends, after which it cleans up.

    On uvloop, except where processes are started: it forks, and gRPC complains of that.
    """
    runner = asyncio.Runner(loop_factory=new_loop)
    with runner, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        code = runner.run(_until_told(work))
        if code:
            raise typer.Exit(code)


async def _until_told(work: Coroutine[Any, Any, int | None]) -> int | None:
    running = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What is ignored stays ignored: nohup does that to SIGHUP, which a closed terminal sends.
        if signal.getsignal(number) is signal.SIG_DFL:
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    return await running


def _say(text: str) -> None:
    """Print lines as they are: they are paths and commands to copy."""
    _out.print(text, markup=False, soft_wrap=True)


def _fail(message: str, code: int) -> None:
    _err.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
