"""Who signs what Antom sends: Antom's key, the next one, and hands that should not."""

from __future__ import annotations

from antom_payments.antom.signing import Signer
from antom_payments.emulator.options import EmulatorOptions
from antom_payments.errors import ConfigurationError

STRANGER_ID = "5Y00000000000000000"
"""A client id that is nobody's."""


class Forger(Signer):
    """Signs another text than the one that is sent: well formed, and wrong."""

    def signature_header(self, method: str, uri: str, time: str, body: bytes) -> str:
        """The `Signature` header's value for a body that nobody sees."""
        return super().signature_header(method, uri, time, body + b" ")


class Signers:
    """Signers by client id.

    Raises:
        ConfigurationError: a client id is none that Antom could give.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        key, next_key = options.antom_private_key, options.antom_next_private_key
        clients = options.merchant_public_keys
        try:
            self.antom = {client_id: Signer(key, client_id) for client_id in clients}
            self.forger = {client_id: Forger(key, client_id) for client_id in clients}
            self.next = {
                client_id: Signer(next_key, client_id) for client_id in clients if next_key
            }
        except ValueError as error:
            raise ConfigurationError("merchant_public_keys", str(error)) from None
        self.stranger = Signer(key, STRANGER_ID)
        """Antom's key, in the name of another client."""
