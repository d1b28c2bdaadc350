"""The disk below a SQLite file, which may become full or read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import event

from antom_payments.store import PaymentStore

_WITHOUT_END = 4_294_967_294


@dataclass
class Disk:
    """How many pages of the file it has room for, 0 for any number, and whether it may be written.

    SQLite says of it what it says of a real one: SQLITE_FULL and SQLITE_READONLY.
    """

    pages: int = 0
    is_read_only: bool = False

    def put_under(self, store: PaymentStore) -> None:
        """From now on each use of the store's file meets this disk."""
        event.listen(store._database.engine.sync_engine, "checkout", self._meet)

    def _meet(self, connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {self.pages or _WITHOUT_END}")
        cursor.execute(f"PRAGMA query_only = {int(self.is_read_only)}")
        cursor.close()
