"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from antom_payments.store import PaymentStore
from store.transactions import Transactions


@pytest.fixture
def transactions(store: PaymentStore) -> Iterator[Transactions]:
    """The store's writing transactions from here on; none is held when the test ends."""
    transactions = Transactions(store)
    yield transactions
    transactions.go_on()
