"""Cursors: sealed, versioned, bound to one log."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antom_payments.cursor import (
    START,
    UNKNOWN_FINGERPRINT,
    CursorSeal,
    Phase,
    Position,
    SnapshotPosition,
    fingerprint_of,
)
from antom_payments.errors import CursorInvalid

KEY = bytes(range(64))
LOG = "5f816e56-8ce8-42a4-835b-5ae2de55e7c0"

positions = st.builds(
    Position,
    sequence=st.integers(0, 2**64 - 1),
    fingerprint=st.binary(min_size=8, max_size=8),
    phase=st.integers(0, 255),
)


places = positions | st.builds(
    SnapshotPosition,
    st.integers(0, 2**64 - 1),
    st.builds(Position, st.integers(0, 2**64 - 1), st.binary(min_size=8, max_size=8)),
    st.binary(min_size=8, max_size=8),
)


@given(places)
def test_a_cursor_opens_to_the_position_it_was_sealed_from(
    position: Position | SnapshotPosition,
) -> None:
    seal = CursorSeal(KEY, LOG)
    assert seal.open(seal.seal(position)) == position


@pytest.mark.parametrize("longer", [0, 1, 2])
def test_what_is_sealed_of_any_length_opens_again_whatever_its_last_character(longer: int) -> None:
    """Page tokens have other lengths than cursors: their last character may be any."""
    seal, last = CursorSeal(KEY, LOG), set()
    for number in range(600):
        plain = number.to_bytes(25 + longer)
        text = seal.seal_bytes(b"\x20", plain)
        assert seal.open_bytes(b"\x20", text) == plain
        last.add(text[-1])
    assert len(last) == (64, 4, 16)[longer]


@given(positions, st.integers(0, 34 * 8 - 1))
def test_a_cursor_with_any_flipped_bit_is_refused(position: Position, bit: int) -> None:
    seal = CursorSeal(KEY, LOG)
    sealed = bytearray(base64.urlsafe_b64decode(seal.seal(position) + "=="))
    assert len(sealed) == 34
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CursorInvalid):
        seal.open(base64.urlsafe_b64encode(sealed).rstrip(b"=").decode())


def test_a_cursor_with_any_other_character_is_refused() -> None:
    seal = CursorSeal(KEY, LOG)
    cursor = seal.seal(Position(7, fingerprint_of("event")))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \n\x00é"
    for place, right in enumerate(cursor):
        for other in alphabet:
            if other != right:
                with pytest.raises(CursorInvalid):
                    seal.open(cursor[:place] + other + cursor[place + 1 :])


@given(st.text(max_size=80))
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalid):
        CursorSeal(KEY, LOG).open(text)


def test_padding_and_white_space_are_refused() -> None:
    seal = CursorSeal(KEY, LOG)
    cursor = seal.seal(Position(7, fingerprint_of("event")))
    for text in ("", cursor + "=", cursor + "==", cursor + "\n", " " + cursor, cursor[:-1]):
        with pytest.raises(CursorInvalid):
            seal.open(text)


def test_a_cursor_of_another_log_is_refused() -> None:
    cursor = CursorSeal(KEY, LOG).seal(Position(7, fingerprint_of("event")))
    with pytest.raises(CursorInvalid):
        CursorSeal(KEY, "another log").open(cursor)
    with pytest.raises(CursorInvalid):
        CursorSeal(KEY[::-1], LOG).open(cursor)


def test_a_cursor_of_another_version_is_refused() -> None:
    seal = CursorSeal(KEY, LOG)
    sealed = base64.urlsafe_b64decode(seal.seal(Position(7, bytes(8))) + "==")
    with pytest.raises(CursorInvalid):
        seal.open(base64.urlsafe_b64encode(b"\x02" + sealed[1:]).rstrip(b"=").decode())


def test_equal_positions_have_equal_cursors_and_neighbours_share_nothing_visible() -> None:
    seal = CursorSeal(KEY, LOG)
    seven, eight = (seal.seal(Position(n, fingerprint_of("event"))) for n in (7, 8))
    assert seven == seal.seal(Position(7, fingerprint_of("event")))
    assert sum(a == b for a, b in zip(seven[2:], eight[2:], strict=True)) < 10
    assert len(seven) == len(eight) == 46


def test_a_cursor_that_was_given_out_is_opened_for_good() -> None:
    """Callers store them, over every release of ours."""
    seal = CursorSeal(KEY, LOG)
    kept = {
        "AQ9V4MGU0_RUIO6OXVvahDx94RITbkbQFCac38L1xI9QsQ": Phase.AFTER,
        "Adeo5AUuf86x18zReYZszM_1ag7jOvCrJ6TWFXBAH1a3uw": Phase.BEFORE,
    }
    for cursor, phase in kept.items():
        assert seal.open(cursor) == Position(7, bytes.fromhex("b8e1f80bd70ae078"), phase)
        assert seal.seal(Position(7, fingerprint_of("event"), phase)) == cursor
    assert [(phase.name, phase.value) for phase in Phase] == [("AFTER", 0), ("BEFORE", 1)]


def test_a_snapshots_cursor_that_was_given_out_is_opened_for_good() -> None:
    seal = CursorSeal(KEY, LOG)
    place = SnapshotPosition(2**64 - 1, Position(2**63, fingerprint_of("event")), bytes(range(8)))
    cursor = "AfCDfeDdxLvCauuEPkfVuB0Ksk_c5pM-auq9gie-kBI3uPrj8CsVeF2n3kgaNLUvZfw"
    assert seal.seal(place) == cursor
    assert seal.open(cursor) == place


def test_the_witness_is_the_event_whose_fingerprint_the_cursor_holds() -> None:
    assert Position(7, bytes(8)).witness == 7
    assert Position(7, bytes(8), Phase.BEFORE).witness == 8
    assert Position(0, bytes(8), Phase.BEFORE).witness == 1


def test_the_logs_start_is_before_the_first_event_and_of_no_event() -> None:
    assert Position(0, bytes(8), Phase.AFTER) == START
    assert START.witness == 0
    assert bytes(8) == UNKNOWN_FINGERPRINT


def test_a_seal_does_not_show_its_key() -> None:
    seal = CursorSeal(KEY, LOG)
    assert KEY.hex() not in repr(vars(seal))
    assert repr(KEY) not in repr(vars(seal))


def test_fingerprints_are_eight_bytes_and_differ() -> None:
    assert len({fingerprint_of(str(n)) for n in range(10_000)}) == 10_000
    assert {len(fingerprint_of(str(n))) for n in range(100)} == {8}
