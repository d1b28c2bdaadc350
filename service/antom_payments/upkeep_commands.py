"""Commands of a database's upkeep: pruning, and the rotation of the data key.

Each imports what it runs, as the other commands do.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from antom_payments.errors import ConfigurationError

if TYPE_CHECKING:
    from antom_payments.store import PaymentStore, Rotated

commands = typer.Typer()
_out = Console(highlight=False)
_WORDS = {
    "events": "events",
    "notifications": "raw notifications",
    "private_data": "payments' private data",
}


@commands.command()
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Remove what is over, as the server does every few minutes; says what it removed.

    Events, raw notifications and private data; the windows are ANTOM_PAYMENTS_* settings.
    Payments and the newest event always stay. Safe to run at any time, and to stop.
    """
    asyncio.run(_prune(dry_run=dry_run))


@commands.command("add-data-key")
def add_data_key(
    file: Annotated[
        Path | None,
        typer.Argument(help="The key file; else the one that ANTOM_PAYMENTS_DATA_KEY_FILE names."),
    ] = None,
) -> None:
    """Put a new data key before the others of a key file; the old ones stay, to decrypt.

    The file is replaced at once or not at all. Then restart every process, and run
    `rotate-data-key`.
    """
    from antom_payments import settings
    from antom_payments.keygen import add_data_key as add

    path = file or settings.load().data_key_file
    if path is None:
        raise ConfigurationError(
            settings.variable("data_key_file"), "expected the path of a file, is not set"
        )
    keys = add(path)
    _say(f"{path}\n  holds {keys} keys now; the first one encrypts, all of them decrypt")
    _say("Next: restart every server and sidecar, then run `antom-payments rotate-data-key`.")


@commands.command("rotate-data-key")
def rotate_data_key(
    check: Annotated[
        bool, typer.Option("--check", help="Only count what still needs an older key.")
    ] = False,
) -> None:
    """Re-encrypt with the newest data key whatever an older one encrypted.

    In small transactions, beside servers at work; it can be stopped and run again. Exit code 1
    while anything still needs an older key, or no key of the file opens it.
    """
    raise typer.Exit(asyncio.run(_rotate(check=check)))


async def _prune(*, dry_run: bool) -> None:
    from antom_payments import housekeeping, settings, storage
    from antom_payments.store import Kind

    now = storage.wall_clock
    async with storage.payment_store(settings.load(), now, creates=False) as store:
        if dry_run:
            counts, oldest = await store.retention.due(), await store.retention.oldest()
        else:
            counts, oldest = await housekeeping.prune_once(store.retention)
    verb = "Would remove" if dry_run else "Removed"
    for kind in Kind:
        _say(f"{verb} {counts.get(kind, 0)} {_WORDS[kind]}.")
    if oldest.append_time is None:
        _say("The log is empty.")
    else:
        since = oldest.append_time.isoformat(timespec="seconds")
        _say(f"The log begins with event {oldest.sequence}, of {since}.")


async def _rotate(*, check: bool) -> int:
    from antom_payments import settings, storage

    now = storage.wall_clock
    async with storage.payment_store(settings.load(), now, creates=False) as store:
        if not check:
            await _re_encrypt(store)
        left = await store.key_rotation.count()
    _say_what_is_left(left)
    return 1 if left.old or left.unreadable else 0


async def _re_encrypt(store: PaymentStore) -> None:
    from antom_payments.store import Rotated

    total = Rotated()
    said = time.monotonic()
    async for found in store.key_rotation.rotate():
        total += found
        if time.monotonic() - said >= 1:
            said = time.monotonic()
            _say(f"{total.seen} rows seen, {total.old} re-encrypted …")
    _say(f"Re-encrypted {total.old} of {total.seen} rows with the newest key.")


def _say_what_is_left(left: Rotated) -> None:
    if left.unreadable:
        _say(f"No key of the file opens {left.unreadable} of {left.seen} rows: find their key.")
    if left.old:
        _say(
            f"{left.old} of {left.seen} rows still need an older key: restart every process that"
            " still has the old key file, and run this again."
        )
    if not left.old and not left.unreadable:
        _say(
            f"All {left.seen} rows need the newest key only. If a process has run with the old file"
            " since, restart it and run this again; remove the older lines only when it then"
            " re-encrypts nothing."
        )


def _say(text: str) -> None:
    """Print a line as it is."""
    _out.print(text, markup=False, soft_wrap=True)
