"""An emulator on a real socket whose time stands still, a merchant, and its receiver."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from antom_payments.antom.signing import load_private_key, load_public_key
from antom_payments.emulator import EmulatorOptions, server_config
from clock import FrozenClock
from emulator.world import LIVE_ID, OTHER_ID, SANDBOX_ID, Merchant, Receiver, receiving, serving
from keys import KeyPair

# A bare context: loading the system's certificates takes longer than most of these tests.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Started = Callable[..., AbstractAsyncContextManager[Merchant]]


@pytest.fixture(scope="session")
def merchant_private(merchant_keys: KeyPair) -> RSAPrivateKey:
    return load_private_key(merchant_keys.private, setting="merchant")


@pytest.fixture(scope="session")
def antom_private(antom_keys: KeyPair) -> RSAPrivateKey:
    return load_private_key(antom_keys.private, setting="antom")


@pytest.fixture(scope="session")
def antom_public(antom_keys: KeyPair) -> RSAPublicKey:
    return load_public_key(antom_keys.public, setting="antom")


@pytest.fixture(scope="session")
def next_private() -> RSAPrivateKey:
    """What Antom rotates to."""
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
async def shared_receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(shared_receiver: Receiver) -> Receiver:
    """What gets the notifications; forgets those of the test before."""
    shared_receiver.forget()
    return shared_receiver


@pytest.fixture(scope="session")
def options(
    merchant_private: RSAPrivateKey, antom_private: RSAPrivateKey, shared_receiver: Receiver
) -> Callable[..., EmulatorOptions]:
    """Options with some changed; time passes only when a test moves it."""

    def changed(**changes: Any) -> EmulatorOptions:
        key = merchant_private.public_key()
        usual = {
            "antom_private_key": antom_private,
            "merchant_public_keys": {one: [key] for one in (SANDBOX_ID, LIVE_ID, OTHER_ID)},
            "default_notify_url": f"{shared_receiver.origin}/antom/notify",
            "clock": FrozenClock().now,
            "seed": 7,
        }
        return EmulatorOptions(**(usual | changes))

    return changed


@pytest.fixture(scope="session")
def started(
    options: Callable[..., EmulatorOptions],
    merchant_private: RSAPrivateKey,
    antom_public: RSAPublicKey,
) -> Started:
    """Serve an emulator with some options changed; gives a merchant that is connected to it."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Merchant]:
        async with (
            serving(server_config(options(**changes))) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=PLAIN) as http,
        ):
            yield Merchant(http, merchant_private, antom_public)

    return start


@pytest.fixture(scope="session")
async def usual(started: Started) -> AsyncIterator[Merchant]:
    """A merchant at an emulator with the usual options."""
    async with started() as merchant:
        yield merchant


@pytest.fixture
async def merchant(usual: Merchant, receiver: Receiver) -> Merchant:
    """The same, after a reset of the emulator."""
    # What the test before left on its way arrives first, and is forgotten with the rest.
    await usual.advance(0)
    response = await usual.http.post("/emulator/reset")
    assert response.status_code == 200
    receiver.forget()
    return usual


@pytest.fixture(scope="session")
def certificate(
    tmp_path_factory: pytest.TempPathFactory, antom_private: RSAPrivateKey
) -> tuple[Path, Path]:
    """A certificate for localhost and its key, as PEM files."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(antom_private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(antom_private, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    certificate_file, private_key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(Encoding.PEM))
    private_key_file.write_bytes(
        antom_private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return certificate_file, private_key_file
