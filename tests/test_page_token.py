"""Page tokens: sealed, bound to one log and one list, and never taken for a cursor."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom_payments.cursor import CursorSeal, Position, fingerprint_of
from antom_payments.errors import CursorInvalid
from antom_payments.page_token import PageToken, open_token, seal_token
from antom_payments.payment_filter import Place

SEAL = CursorSeal(bytes(range(64)), "5f816e56-8ce8-42a4-835b-5ae2de55e7c0")
CURSOR = SEAL.seal(Position(7, fingerprint_of("event")))

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
tokens = st.builds(
    PageToken,
    st.binary(min_size=16, max_size=16),
    st.builds(Place, st.datetimes(timezones=st.just(UTC)), names, names),
    st.just(CURSOR),
)
A_TOKEN = PageToken(bytes(16), Place(datetime(2026, 3, 2, tzinfo=UTC), "shop", "pay-1"), CURSOR)


@given(tokens)
def test_a_token_opens_to_what_was_sealed_and_fits_into_a_request(token: PageToken) -> None:
    text = seal_token(SEAL, token)
    assert open_token(SEAL, text) == token
    assert len(text) <= 300


def test_the_longest_ids_fit_into_a_token() -> None:
    place = Place(datetime(1969, 12, 31, tzinfo=UTC), "s" * 255, "p" * 255)
    token = PageToken(bytes(range(16)), place, CURSOR)
    assert open_token(SEAL, seal_token(SEAL, token)) == token


def test_a_token_that_was_given_out_is_opened_for_good() -> None:
    """A caller may go on with a list after our next release."""
    text = (
        "IB3b6R91oo_KTpPjx68HagaIvh3wcKXzB5QlV9GeSwLb7Apet3ivPE3vom8kdGAiDQtn7gJywKtsf7E_9yrwzZi"
        "BtkSHr98NYO8EXL8Wcc67gQgvUqoFEuasf2Th3NXhsrE"
    )
    assert seal_token(SEAL, A_TOKEN) == text
    assert open_token(SEAL, text) == A_TOKEN


@given(st.integers(0, 8 * 94 - 1))
def test_a_token_with_any_flipped_bit_is_refused(bit: int) -> None:
    text = seal_token(SEAL, A_TOKEN)
    sealed = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    sealed[bit // 8 % len(sealed)] ^= 1 << bit % 8
    with pytest.raises(CursorInvalid):
        open_token(SEAL, base64.urlsafe_b64encode(sealed).rstrip(b"=").decode())


@given(st.text(max_size=80))
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalid):
        open_token(SEAL, text)


def test_a_token_shows_neither_merchant_nor_id() -> None:
    text = seal_token(SEAL, A_TOKEN)
    sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert not any(word in sealed for word in (b"shop", b"pay-1", CURSOR.encode()))


def test_a_token_of_another_log_is_refused() -> None:
    with pytest.raises(CursorInvalid):
        open_token(CursorSeal(bytes(range(64)), "another log"), seal_token(SEAL, A_TOKEN))


def test_cursors_and_tokens_are_never_taken_for_each_other() -> None:
    with pytest.raises(CursorInvalid):
        open_token(SEAL, CURSOR)
    with pytest.raises(CursorInvalid):
        SEAL.open(seal_token(SEAL, A_TOKEN))
    # Not even with the other one's version byte in front.
    sealed = base64.urlsafe_b64decode(CURSOR + "==")
    with pytest.raises(CursorInvalid):
        open_token(SEAL, base64.urlsafe_b64encode(b"\x20" + sealed[1:]).rstrip(b"=").decode())
