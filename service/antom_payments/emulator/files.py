"""The files that a local Antom on the command line is given: keys, and what is to go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from antom_payments.antom.signing import load_private_key, load_public_key
from antom_payments.emulator.faults import FaultPlan
from antom_payments.emulator.options import EmulatorOptions
from antom_payments.emulator.requests import faults_of
from antom_payments.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class EmulatorFiles:
    """Paths, and the client id whose keys they are."""

    antom_private_key: Path
    merchant_public_key: Path
    client_id: str
    antom_next_private_key: Path | None = None
    faults: Path | None = None
    """JSON, as `/emulator/faults` takes it."""
    tls_certificate: Path | None = None
    tls_private_key: Path | None = None

    def options(self) -> EmulatorOptions:
        """What the files say. Raises ConfigurationError, which names the option of the command."""
        antom, merchant = _text(self.antom_private_key), _text(self.merchant_public_key)
        merchant_key = load_public_key(merchant, setting="--merchant-public-key")
        next_key = None
        if self.antom_next_private_key:
            text = _text(self.antom_next_private_key)
            next_key = load_private_key(text, setting="--antom-next-private-key")
        return EmulatorOptions(
            antom_private_key=load_private_key(antom, setting="--antom-private-key"),
            antom_next_private_key=next_key,
            merchant_public_keys={self.client_id: [merchant_key]},
            faults=_fault_plan(_text(self.faults)) if self.faults else FaultPlan(),
        )


def _fault_plan(text: str) -> FaultPlan:
    try:
        return FaultPlan.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError("--faults", faults_of(error)) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), f"cannot be read: {error}") from None
