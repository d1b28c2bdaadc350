"""A restore forgives what was told since its dump, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from facts import a_payment
from simulation.callers import Promises
from simulation.owed import Owed

KEY = ("shop-a", "pay-1")
PAYMENT = a_payment(merchant_account="shop-a", payment_request_id="pay-1")


def test_what_was_told_before_a_dump_and_again_after_it_is_still_owed() -> None:
    owed: Owed[str] = Owed()
    owed.owe("acknowledged", 10.0)
    owed.owe("acknowledged", 30.0)
    owed.owe("since the dump", 25.0)
    owed.take_back(dump_time=20.0)
    assert owed == {"acknowledged": 10.0}


def test_an_answer_before_a_dump_outlives_the_restore_and_a_later_one_does_not() -> None:
    promises = Promises()
    promises.told(KEY, PAYMENT, 10.0)
    promises.told(KEY, replace(PAYMENT, version=2), 30.0)
    promises.told(KEY, PAYMENT, 31.0)
    assert promises.version(KEY) == 2
    promises.taken_back(dump_time=20.0)
    assert promises.version(KEY) == 1
    assert [told.version for told in promises.answers] == [1]
    promises.taken_back(dump_time=5.0)
    assert promises.version(KEY) is None
