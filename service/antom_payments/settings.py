"""All that an operator can set, from the environment variables `ANTOM_PAYMENTS_*`.

Read once, by the composition root and the command line. The docstrings below are the README's
table, word for word.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import (
    AllowInfNan,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from antom_payments.errors import ConfigurationError

PREFIX = "ANTOM_PAYMENTS_"
EMBEDDED_DATABASE_URL = "sqlite:///.antom-payments/payments.db"

_PASSWORD_IN_QUERY = re.compile(r"(?i)([?&][^=&]*pass[^=&]*=)[^&]*")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(value: object) -> Address:
    """An address from its text. Raises ValueError with what was expected."""
    if isinstance(value, Address):
        return value
    host, colon, port = str(value).rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or not host:
        raise ValueError("expected host:port, as in 127.0.0.1:50051 or [::]:50051")
    return Address(host.strip("[]"), int(port))


def _paths(value: object) -> object:
    if isinstance(value, str):
        return tuple(Path(part.strip()) for part in value.split(",") if part.strip())
    return value


Seconds = Annotated[PositiveFloat, AllowInfNan(False)]
# By its letters it is nearest to NOTIFICATION_ADDRESS, which is the public listener.
_RENAMED = {"NOTIFICATION_HEALTH_ADDRESS": "NOTIFICATION_ADMIN_ADDRESS"}
_PATH = re.compile(r"/[!-\"$->@-~]*")
"""Visible ASCII without ? and #."""

ServerAddress = Annotated[Address, BeforeValidator(parse_address), NoDecode]
AdminAddress = Annotated[
    Address | None,
    BeforeValidator(lambda value: parse_address(value) if value else None),
    NoDecode,
]


class Settings(BaseSettings):
    """All that an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    database_url: SecretStr = SecretStr(EMBEDDED_DATABASE_URL)
    """Database: `postgresql://user:password@host/name`, or `sqlite:///file` for one host."""
    database_url_file: Path | None = None
    """File with that URL, instead of it: environments are shown in more places than files."""
    database_pool_size: PositiveInt = 8
    """Most connections of one process to the database."""
    database_pool_timeout_seconds: Seconds = 2.0
    """Longest wait for a free connection; after it the call fails with UNAVAILABLE."""
    database_statement_cache_size: NonNegativeInt = 100
    """Prepared statements kept per connection; 0 behind PgBouncer in transaction mode."""
    data_key_file: Path | None = None
    """File with the keys that encrypt sessions and raw notifications, newest first (`keygen`)."""
    event_retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """How long an event stays in the log; longer than any subscriber may be away."""
    notification_retention_days: Annotated[int, Field(ge=2, le=3650)] = 90
    """How long raw notifications are kept once concluded; what waits for somebody stays."""
    private_data_window_seconds: Annotated[int, Field(ge=900, le=2_592_000)] = 3600
    """How long a session and its request outlive it: repeated calls, Antom's closing time."""

    merchant_account: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "default"
    """Name of the merchant in requests, events and filters."""
    client_id: Annotated[str, StringConstraints(pattern="^[0-9A-Za-z_-]{0,64}$")] = ""
    """Antom's client id; one that begins with SANDBOX_ uses Antom's sandbox."""
    antom_environment: Literal["any", "production", "sandbox"] = "any"
    """Refuses to start when the client id is of the other environment."""
    antom_url: str = "https://open-sea-global.alipay.com"
    """Antom's origin for the merchant's region; `http://` on loopback only."""
    antom_key_version: Annotated[str, StringConstraints(pattern="^[0-9A-Za-z]{1,16}$")] = "1"
    """`keyVersion` sent with signatures."""
    merchant_private_key_file: Path | None = None
    """File with the merchant's private key: bare base64 or PEM. Not for the sidecar."""
    antom_public_key_files: Annotated[tuple[Path, ...], BeforeValidator(_paths), NoDecode] = ()
    """Files with Antom's public keys, separated by commas: the new and the previous one."""
    notify_url: str = ""
    """URL that Antom sends notifications to: the public address of the sidecar."""
    refuse_chinese_characters: bool = True
    """Refuse Chinese characters in ids, order description and goods: some methods break on them."""
    require_authorization_for_card: bool = True
    """Refuse CARD without `is_authorization`: it would be money taken without a capture event."""
    antom_connect_timeout_seconds: Seconds = 5.0
    """Longest wait for a connection to Antom."""
    antom_read_timeout_seconds: Seconds = 15.0
    """Longest silence of Antom within an answer."""
    antom_budget_seconds: Seconds = 20.0
    """Longest a call to Antom may take, with its retries."""
    antom_in_flight: PositiveInt = 64
    """Most calls to Antom at one time."""
    antom_closing_seconds: Annotated[NonNegativeFloat, AllowInfNan(False)] = 840.0
    """How long after a session's end Antom closes an unpaid order; a payment expires after it."""
    inquiries_per_second: Seconds = 10.0
    """Most inquiries of the reconciler a second, of all replicas together."""
    adopt_foreign: bool = False
    """Take over payments made elsewhere with the same client id when news of them comes."""
    antom_breaker_failures: PositiveInt = 10
    """So many requests without any answer in 30 seconds, half of all, and Antom is left alone."""
    antom_breaker_open_seconds: Seconds = 5.0
    """How long at first; then one request tries, and each that fails doubles it, up to a minute."""

    grpc_address: ServerAddress = Address("127.0.0.1", 50051)
    """Where the gRPC server listens. There is no authentication yet: keep it inside."""
    admin_address: AdminAddress = None
    """Where the server answers /livez, /readyz and /metrics over plain HTTP; unset is nowhere."""
    grpc_reflection: bool = False
    """Offer gRPC server reflection."""
    grpc_unary_in_flight: PositiveInt = 256
    """Most unary calls at one time; more get RESOURCE_EXHAUSTED."""
    grpc_unary_timeout_seconds: Seconds = 30.0
    """Longest a unary call may take, whatever deadline the caller sets."""
    grpc_streams: PositiveInt = 2000
    """Most event streams at one time."""
    grpc_streams_per_peer: PositiveInt = 50
    """Most event streams of one client address."""
    stream_checkpoint_seconds: Seconds = 15.0
    """A stream says at least this often how far it is."""
    stream_life_seconds: Annotated[Seconds, Field(le=1140)] = 900.0
    """Longest a stream lives before it is ended with ABORTED; shortened at random by a fifth."""
    stream_write_timeout_seconds: Seconds = 30.0
    """A subscriber that reads nothing for so long is let go with RESOURCE_EXHAUSTED."""
    stream_ring_events: PositiveInt = 10_000
    """Newest events kept in memory; older ones are read from the database."""
    drain_delay_seconds: Annotated[NonNegativeFloat, AllowInfNan(False)] = 5.0
    """Between SIGTERM and refusing new calls, while load balancers take notice."""
    drain_grace_seconds: Seconds = 30.0
    """How long calls under way may take to end after that."""

    notification_address: ServerAddress = Address("127.0.0.1", 8080)
    """Where the sidecar listens for Antom's notifications."""
    notification_path: str = "/antom/notify"
    """Path of the notify URL as Antom calls it: it is part of what is signed."""
    notification_in_flight: PositiveInt = 256
    """Most notifications at one time; more get 503, and Antom resends them."""
    notification_admin_address: AdminAddress = None
    """The same of the sidecar."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level of log lines."""
    log_format: Literal["json", "console"] = "json"
    """`json`: JSON lines; `console`: text for people."""

    @field_validator("database_url")
    @classmethod
    def _database_is_known(cls, value: SecretStr) -> SecretStr:
        scheme, separator, rest = value.get_secret_value().partition("://")
        address = rest.rpartition("@")[2].partition("/")[0]
        port = address.rpartition("]")[2].partition(":")[2]
        known = separator and scheme.partition("+")[0] in {"postgresql", "sqlite"}
        if not known or (port and not port.isdecimal()):
            raise ValueError(
                "expected postgresql://user:password@host/database or sqlite:///path/to/file.db"
            )
        return value

    @field_validator("notification_path")
    @classmethod
    def _path_is_absolute(cls, value: str) -> str:
        if not _PATH.fullmatch(value):
            raise ValueError("expected a path without query, in ASCII, as in /antom/notify")
        return value


def load(**overrides: object) -> Settings:
    """Read the settings; ``overrides`` win over the environment.

    Raises ConfigurationError for the first wrong one, naming the variable and what was expected.
    """
    loaded = _validated(overrides)
    if loaded.database_url_file is None:
        return loaded
    if "database_url" in loaded.model_fields_set:
        raise ConfigurationError(
            variable("database_url_file"), f"expected no {variable('database_url')} beside it"
        )
    url = secret_text(loaded.database_url_file, "database_url_file").strip()
    return _validated({**overrides, "database_url": url})


def _validated(overrides: Mapping[str, object]) -> Settings:
    try:
        # Whatever is given is validated: values of a wrong type are what this is to refuse.
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        name = str(first["loc"][0])
        expected = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(variable(name), expected) from None


def variable(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.removeprefix(PREFIX.lower()).upper()


def shown(settings: Settings) -> dict[str, str]:
    """Every variable and its value, without secrets: passwords are masked, keys are only paths."""
    values = {}
    for field in Settings.model_fields:
        value = getattr(settings, field)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
        elif isinstance(value, tuple) and not isinstance(value, Address):
            text = ",".join(str(part) for part in value)
        else:
            text = "" if value is None else str(value)
        values[variable(field)] = _without_password(text)
    return values


def secret_text(path: Path | None, setting: str) -> str:
    """The text of a key file.

    Raises ConfigurationError when it is not set or cannot be read.
    """
    if path is None:
        raise ConfigurationError(variable(setting), "expected the path of a file, is not set")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigurationError(
            variable(setting), f"expected a readable file at {path}: {reason}"
        ) from None


def _without_password(url: str) -> str:
    """A URL to show: without a password before its host or in its query."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:***" if colon else credentials
    return _PASSWORD_IN_QUERY.sub(r"\1***", f"{scheme}{separator}{shown}{at}{host}")


def unknown_variables() -> dict[str, str]:
    """Variables with our prefix that no setting reads, and the setting that was likely meant.

    A warning, never an error: Kubernetes sets variables of that form for a Service of our name.
    """
    known = [field.upper() for field in Settings.model_fields]
    strangers = {name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)}
    hints = {}
    for name in sorted(strangers.difference(known)):
        renamed = [_RENAMED[name]] if name in _RENAMED else []
        likely = renamed or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        hints[PREFIX + name] = PREFIX + likely[0] if likely else ""
    return hints


def embedded_file(settings: Settings) -> Path | None:
    """The file of an embedded SQLite database, absolute; None when the database is a server."""
    url = settings.database_url.get_secret_value()
    return Path(url.partition(":///")[2]).absolute() if url.startswith("sqlite") else None


def prepare_embedded_folder(settings: Settings) -> None:
    """Make the folder of an embedded SQLite database."""
    if file := embedded_file(settings):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
