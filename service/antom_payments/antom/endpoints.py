"""Where Antom's operations are: regions, origins, paths, sandbox (antom-api 1.1, 1.2, 3).

Sandbox and production share hosts and differ by path, client id and keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from antom_payments.errors import ConfigurationError

REGION_ORIGINS: Mapping[str, str] = MappingProxyType(
    {
        "SG": "https://open-sea-global.alipay.com",
        "US": "https://open-na-global.alipay.com",
        "DE": "https://open-de-global.alipay.com",
    }
)
"""Antom's hosts by the merchant's region: Asia, North America, Europe."""

SANDBOX_PREFIX = "SANDBOX_"
_PRODUCTION, _SANDBOX = "/ams/api", "/ams/sandbox/api"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")


class Operation(StrEnum):
    """What Antom can be asked; the last part of the path."""

    CREATE_PAYMENT_SESSION = "createPaymentSession"
    INQUIRY_PAYMENT = "inquiryPayment"


def antom_origin(url: str, *, setting: str) -> str:
    """``url`` as ``scheme://host[:port]``, or the origin of a region: `SG`, `US`, `DE`.

    An origin only: a path would be signed wrongly (antom-api 11). `http://` leaves no doubt about
    who listens only on this machine: it is for the local emulator.

    Raises:
        ConfigurationError: it is no such origin; names ``setting``.
    """
    if url in REGION_ORIGINS:
        return REGION_ORIGINS[url]
    parts, port = _split(url)
    if parts is None or parts.scheme not in {"https", "http"}:
        raise ConfigurationError(
            setting, f"expected {', '.join(REGION_ORIGINS)} or an origin such as https://host"
        )
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            setting, "expected an origin without path, query or user: Antom's paths are known"
        )
    host = str(parts.hostname)
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigurationError(setting, "expected https://; http:// is only for loopback")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


def operation_path(operation: Operation, client_id: str) -> str:
    """The path that is called and signed for ``client_id``."""
    return sandbox_path(f"{_PRODUCTION}/v1/payments/{operation}", client_id)


def sandbox_path(path: str, client_id: str) -> str:
    """``path`` as a client id uses it: sandbox ids use `/ams/sandbox/api`. Idempotent."""
    if not is_sandbox(client_id):
        return path
    return path.replace(_PRODUCTION, _SANDBOX, 1)


def is_sandbox(client_id: str) -> bool:
    """Whether Antom's SDKs would use the sandbox for ``client_id`` (case-sensitive)."""
    return client_id.startswith(SANDBOX_PREFIX)


def check_environment(client_id: str, *, sandbox: bool | None, setting: str) -> None:
    """Refuse a client id of the other environment than the settings are for.

    Args:
        client_id: Antom's, as configured.
        sandbox: what the settings are for: True the sandbox, False production, None either.
        setting: where ``client_id`` comes from, for the error.

    Raises:
        ConfigurationError: a sandbox client id on production settings, or the reverse.
    """
    if sandbox is None or sandbox is is_sandbox(client_id):
        return
    if sandbox:
        expected = f"expected a client id that begins with {SANDBOX_PREFIX} on sandbox settings"
    else:
        expected = "expected a production client id, found one of the sandbox"
    raise ConfigurationError(setting, expected)


def _split(url: str) -> tuple[SplitResult | None, int | None]:
    """The URL's parts and port; None instead of parts when it has no sound host or port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, None
    bare = parts.netloc.rpartition("@")[2].removesuffix("" if port is None else f":{port}")
    if not _HOST.fullmatch(bare) or port == 0 or not url.isprintable():
        return None, None
    return parts, port


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
