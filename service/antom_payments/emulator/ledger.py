"""All payments of an emulator, by the names that merchants and people know them by."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from antom_payments.emulator.payments import Payment, Session


class NotPossible(Exception):
    """What somebody wants to do cannot be done; ``code`` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class Ledger:
    """Payments in the order of their creation.

    Args:
        client_ids: whose payments there may be.
    """

    def __init__(self, client_ids: Collection[str]) -> None:
        self._client_ids = client_ids
        self._by_request_id: dict[tuple[str, str], Payment] = {}
        self._by_payment_id: dict[tuple[str, str], Payment] = {}
        self._by_session_id: dict[str, Payment] = {}

    def __iter__(self) -> Iterator[Payment]:
        return iter(self._by_request_id.values())

    def add(self, payment: Payment, session: Session) -> None:
        """Keep ``payment``, and one more of its sessions."""
        self._by_request_id[payment.client_id, payment.payment_request_id] = payment
        self._by_payment_id[payment.client_id, payment.payment_id] = payment
        self._by_session_id[session.session_id] = payment
        payment.sessions.append(session)

    def with_request_id(self, client_id: str, payment_request_id: str) -> Payment | None:
        """The client's payment with its own id."""
        return self._by_request_id.get((client_id, payment_request_id))

    def with_payment_id(self, client_id: str, payment_id: str) -> Payment | None:
        """The client's payment with Antom's id."""
        return self._by_payment_id.get((client_id, payment_id))

    def find(self, reference: str) -> Payment:
        """The payment with that `paymentRequestId` or `paymentSessionId`, of whichever client.

        Raises:
            NotPossible: there is none, or several clients use the id.
        """
        if reference in self._by_session_id:
            return self._by_session_id[reference]
        found = [
            payment
            for client_id in self._client_ids
            if (payment := self.with_request_id(client_id, reference))
        ]
        if not found:
            raise NotPossible("PAYMENT_NOT_FOUND", "no payment has this id or session id")
        if len(found) > 1:
            raise NotPossible("PAYMENT_AMBIGUOUS", "several clients use this id: name the session")
        return found[0]

    def clear(self) -> None:
        """Forget all."""
        self._by_request_id.clear()
        self._by_payment_id.clear()
        self._by_session_id.clear()
