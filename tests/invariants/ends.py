"""I5, I6 and I7: what is at Antom, what callers were told, and what is stored, are the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from antom_payments.payment import FINAL_STATES, PaymentState
from invariants.records import AntomPayment, History, PaymentKey, Shown, StoredPayment

_ALIVE = {"SUCCESS", "PROCESSING", "PENDING", None}
"""Where a payment stands at Antom whose buyer has paid, or may yet."""


def an_id_is_one_payment_at_antom(history: History) -> Iterator[str]:
    """I5: an id is one payment at Antom, and nobody is led to pay twice."""
    ids: dict[PaymentKey, set[str]] = defaultdict(set)
    for payment in history.antom:
        ids[payment.key].add(payment.payment_id)
    for (_, payment_request_id), payment_ids in ids.items():
        if len(payment_ids) > 1:
            yield f"{payment_request_id} is {len(payment_ids)} payments at Antom"
    for row in history.payments:
        if row.payment_id and row.payment_id not in ids[row.key]:
            yield f"{row.payment_request_id} is bound to a payment that is not its own"
    for payment in history.antom:
        if payment.key in history.refused and payment.status in _ALIVE:
            # Its caller takes another id, and the buyer pays a second time.
            stands = payment.status or "not paid yet"
            yield f"{payment.payment_request_id} is {stands}, and was refused for good"


def nothing_acknowledged_is_lost(history: History) -> Iterator[str]:
    """I6: what an answer said is there, and is what the log says of that version."""
    versions = {row.key: row.version for row in history.payments}
    for told in history.acknowledged:
        if versions.get(told.key, -1) < told.version:
            yield f"{told.payment_request_id} was acknowledged at version {told.version}"
    rows = {row.key: row for row in history.payments}
    logged = {(event.key, event.version): event.shown for event in history.log}
    for told in history.acknowledged:
        if told.shown is None:
            continue
        expected = logged.get((told.key, told.version))
        if told.version == 0 and told.key in rows:
            row = rows[told.key]
            expected = Shown(
                *(row.payment_request_id, 0, PaymentState.CREATING, ""),
                *(row.currency_code, row.minor_units, 0, row.merchant_account),
            )
        if told.shown != expected:
            yield f"{told.payment_request_id} was told as {told.shown}, the log has {expected}"


def all_ends_as_antom_says(history: History) -> Iterator[str]:
    """I7: in the end each payment stands where Antom's does."""
    at_antom = {payment.key: payment for payment in history.antom}
    rows = {row.key: row for row in history.payments}
    for key in sorted(at_antom.keys() - rows.keys() - history.foreign - history.forgotten):
        yield f"{key[1]} is at Antom, and not here"
    for key, row in rows.items():
        payment = at_antom.get(key)
        if key in history.foreign:
            yield f"{row.payment_request_id} is here, and another system's"
        elif payment and key in history.forgotten and _money(row) != _money(payment):
            # The id was used again, with another amount: that is never taken for paid.
            if row.state in {"AUTHORIZED", "SUCCEEDED"}:
                yield f"{row.payment_request_id} is {row.state}, paid at Antom with another amount"
        else:
            yield from _wrong_end(row, payment)


def _wrong_end(row: StoredPayment, payment: AntomPayment | None) -> Iterator[str]:
    """Where one payment does not stand as Antom's does."""
    if row.state not in states_of(payment):
        told = payment.status if payment else "not known"
        yield f"{row.payment_request_id} is {row.state}, at Antom {told}"
    if row.inquiry_wanted and row.state in FINAL_STATES:
        yield f"{row.payment_request_id} is {row.state}, and still in doubt"
    if payment is None:
        return
    if _money(row) != _money(payment):
        yield f"{row.payment_request_id} is of another amount at Antom"
    taken = _taken(payment)
    # Of what was taken and then cancelled, we may have heard a part, or nothing, before.
    least = 0 if payment.status == "CANCELLED" else taken
    if not least <= row.captured_minor_units <= taken:
        yield f"{row.payment_request_id} took {row.captured_minor_units}, at Antom {taken}"


def _money(payment: StoredPayment | AntomPayment) -> tuple[str, int]:
    return payment.currency_code, payment.minor_units


def _taken(payment: AntomPayment) -> int:
    """What Antom took, in minor units, whether or not it was cancelled then."""
    if payment.expects_capture:
        return payment.captured_minor_units
    return payment.minor_units if payment.status in {"SUCCESS", "CANCELLED"} else 0


def states_of(payment: AntomPayment | None) -> set[str]:
    """Where a payment may stand here, once all is told; None is one that Antom does not know."""
    if payment is None:
        return {"EXPIRED", "FAILED"}
    match payment.status:
        case "SUCCESS":
            return {"SUCCEEDED" if _taken(payment) >= payment.minor_units else "AUTHORIZED"}
        case "FAIL":
            # Whether we saw that it lapsed before Antom closed it is a race.
            return {"FAILED"} if payment.is_submitted else {"FAILED", "EXPIRED"}
        case "CANCELLED":
            return {"CANCELLED"}
        case "PROCESSING" | "PENDING":
            return {"PROCESSING"}
    return {"EXPIRED"}
