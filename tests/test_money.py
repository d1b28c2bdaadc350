"""Money is an integer of the smallest unit, and knows what Antom would refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom_payments.money import MAX_MINOR_UNITS, Money, decimals, fault_in


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money("EUR", 0), "EUR 0.00"),
        (Money("EUR", 5), "EUR 0.05"),
        (Money("EUR", 12345), "EUR 123.45"),
        (Money("JPY", 12345), "JPY 12345"),
        (Money("KRW", 0), "KRW 0"),
        (Money("KWD", 12345), "KWD 12.345"),
        (Money("IDR", 12300), "IDR 123.00"),
    ],
)
def test_money_is_shown_with_its_currencys_decimals(money: Money, text: str) -> None:
    assert str(money) == text


@given(st.sampled_from(["EUR", "JPY", "BHD"]), st.integers(0, MAX_MINOR_UNITS))
def test_showing_money_loses_nothing(currency_code: str, minor_units: int) -> None:
    shown = str(Money(currency_code, minor_units)).removeprefix(f"{currency_code} ")
    assert int(shown.replace(".", "")) == minor_units
    assert len(shown.partition(".")[2]) == decimals(currency_code)


@pytest.mark.parametrize(
    ("currency_code", "digits"),
    [("CLP", 0), ("JPY", 0), ("KRW", 0), ("VND", 0), ("USD", 2), ("IDR", 2), ("TND", 3)],
)
def test_decimals_are_those_of_iso_4217(currency_code: str, digits: int) -> None:
    assert decimals(currency_code) == digits


def test_money_of_another_currency_is_other_money() -> None:
    assert Money("EUR", 100) != Money("USD", 100)
    assert Money("EUR", 100) != Money("EUR", 101)
    assert Money("EUR", 100) == Money("EUR", 100)


@pytest.mark.parametrize(
    "money",
    [
        Money("EUR", 1),
        Money("JPY", 1),
        Money("USD", MAX_MINOR_UNITS),
        Money("IDR", 100),
        Money("TWD", 101),
        Money("HKD", 11),
    ],
)
def test_an_amount_that_antom_takes_has_no_fault(money: Money) -> None:
    assert fault_in(money) is None


@pytest.mark.parametrize(
    ("money", "fault"),
    [
        (Money("eur", 1), "three capital letters"),
        (Money("EURO", 1), "three capital letters"),
        (Money("EU\n", 1), "three capital letters"),
        (Money("", 1), "three capital letters"),
        (Money("EUR", 0), "greater than zero"),
        (Money("EUR", -1), "greater than zero"),
        (Money("EUR", MAX_MINOR_UNITS + 1), f"at most {MAX_MINOR_UNITS}"),
        (Money("IDR", 150), "a multiple of 100 in IDR"),
    ],
)
def test_an_amount_that_antom_would_refuse_is_said_in_words(money: Money, fault: str) -> None:
    assert fault in (fault_in(money) or "")


@pytest.mark.parametrize(
    ("money", "method", "fault"),
    [
        (Money("TWD", 150), "JKOPAY", "a multiple of 100 in TWD with JKOPAY"),
        (Money("HKD", 15), "OCTOPUS", "a multiple of 10 in HKD with OCTOPUS"),
        (Money("IDR", 150), "DANA", "a multiple of 100 in IDR"),
    ],
)
def test_some_methods_take_round_amounts_only(money: Money, method: str, fault: str) -> None:
    assert fault_in(money, payment_method_type=method) == f"minor_units must be {fault}"
    rounded = Money(money.currency_code, 200)
    assert fault_in(rounded, payment_method_type=method) is None


def test_the_largest_amount_fits_antoms_sixteen_characters_and_sums_fit_64_bits() -> None:
    assert len(str(MAX_MINOR_UNITS)) <= 16
    assert MAX_MINOR_UNITS * 1000 < 2**63
