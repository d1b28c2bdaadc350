"""Sends one request to Antom and reads one answer, or says whether anything was sent.

httpx over aiohttp: a seventh of the CPU of httpx's own transport. Its mapping of errors is not
trusted, though: it calls a connection cut *after* the request was sent a `ConnectTimeout`, and lets
some of aiohttp's exceptions through as they are. So failures are told apart by aiohttp's own
classes, found in the exception or its `__cause__`: only a failed connect means that nothing was
sent. Everything else leaves the outcome unknown.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from antom_payments.errors import AntomUnavailable, OutcomeUnknown

MAX_ANSWER_BYTES = 1 << 20
"""Antom's answers are a few kilobytes; its longest documented field has 20,000 characters."""

# Raised before the request leaves: the name, the socket, TLS and its certificate, a full pool.
_NOTHING_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_WITHOUT_COOKIES = DefaultCookiePolicy(allowed_domains=[])


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds that one request may take; each is cut to what the caller has left.

    Attributes:
        connect: name, connection and TLS, and waiting for a free place in the pool.
        read: between two pieces of the answer.
        total: from the start to the last byte, however it dribbles.
    """

    connect: float = 5.0
    read: float = 10.0
    total: float = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: HTTP 200, headers by any case, the exact bytes that were signed."""

    headers: httpx.Headers
    body: bytes


class WireFailure(Exception):
    """No answer to read.

    ``error`` is what to raise, ``cause`` a bounded word for logs, ``timed_out`` whether time ran
    out rather than that something went wrong, ``status_code`` the HTTP status when it was not 200.
    """

    def __init__(
        self,
        error: AntomUnavailable | OutcomeUnknown,
        cause: str,
        *,
        timed_out: bool = False,
        status_code: int = 0,
    ) -> None:
        self.error = error
        self.cause = cause
        self.timed_out = timed_out
        self.status_code = status_code
        super().__init__(cause)


class Wire:
    """A pool of connections to one origin."""

    def __init__(self, http: httpx.AsyncClient, budgets: Budgets) -> None:
        """Take a client from `open_wire`; ``budgets`` bound each request."""
        self._http = http
        self._budgets = budgets
        self.origin = str(http.base_url).removesuffix("/")
        self.host = http.base_url.host
        self.port = http.base_url.port or {"https": 443}.get(http.base_url.scheme, 80)

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, seconds: float
    ) -> Answer:
        """Send ``body`` to ``path``; return what HTTP 200 brings.

        Args:
            path: origin form, as it was signed.
            body: the exact bytes that were signed.
            headers: those of the signature.
            seconds: what the caller has left.

        Raises:
            WireFailure: nothing was sent, or nobody knows what became of it.
        """
        total = min(seconds, self._budgets.total)
        # At most half for connecting: when the total is over, the request had left.
        connect = min(total / 2, self._budgets.connect)
        read = min(total, self._budgets.read)
        timeout = httpx.Timeout(connect=connect, pool=connect, read=read, write=read)
        try:
            async with (
                asyncio.timeout(total),
                self._http.stream(
                    "POST", path, content=body, headers=dict(headers), timeout=timeout
                ) as response,
            ):
                return await _answer(response)
        except WireFailure:
            raise
        # The stack lets many classes out, garbage as much as OSErrors; whichever it is, the request
        # may have left. Its text stays out of the chain: it may quote what came over the wire.
        except Exception as exception:  # noqa: BLE001
            raise _failure(exception) from None


@asynccontextmanager
async def open_wire(
    origin: str,
    *,
    budgets: Budgets | None = None,
    ca_file: str | None = None,
    connections: int = 100,
) -> AsyncIterator[Wire]:
    """A pool of connections to ``origin`` (of `endpoints.antom_origin`), closed on leaving.

    TLS certificates are always verified, by the system's store (SSL_CERT_FILE, SSL_CERT_DIR) or by
    ``ca_file`` alone. Proxy variables of the environment are not read: a payment takes the way that
    was configured, or none. Redirects are not followed and cookies not kept.

    Args:
        origin: scheme, host and port.
        budgets: of each request.
        ca_file: PEM file of the only authorities to trust.
        connections: most at one time; a call that waits for one spends its connect budget.
    """
    tls = ssl.create_default_context(cafile=ca_file)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    # The transport's own session would keep cookies.
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=tls, keepalive_timeout=15),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
    # `verify` belongs to the transport: httpx ignores it beside one.
    transport = AiohttpTransport(verify=tls, trust_env=False, client=session)
    headers = {
        "Accept": "application/json",
        # The signature is over the bytes as they come: nothing may unpack them on the way.
        "Accept-Encoding": "identity",
        "User-Agent": f"antom-payments/{version('antom-payments')}",
    }
    async with httpx.AsyncClient(
        base_url=origin,
        transport=transport,
        headers=headers,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(_WITHOUT_COOKIES),
    ) as http:
        yield Wire(http, budgets or Budgets())


async def _answer(response: httpx.Response) -> Answer:
    """The answer in HTTP 200; Antom answers every business result with it (antom-api 1.8)."""
    if response.status_code != httpx.codes.OK:
        code = response.status_code
        raise WireFailure(OutcomeUnknown(), f"http_{code}", status_code=code)
    received = bytearray()
    async for piece in response.aiter_raw():
        received += piece
        if len(received) > MAX_ANSWER_BYTES:
            raise WireFailure(OutcomeUnknown(), "answer_too_large")
    return Answer(response.headers, bytes(received))


def _failure(exception: Exception) -> WireFailure:
    """What ``exception`` says about the request."""
    cause = exception.__cause__ if isinstance(exception, httpx.HTTPError) else exception
    name = type(cause or exception).__name__
    # aiohttp's own timeouts are TimeoutErrors too.
    timed_out = isinstance(cause, TimeoutError)
    if isinstance(cause, _NOTHING_SENT):
        return WireFailure(AntomUnavailable(), name, timed_out=timed_out)
    return WireFailure(OutcomeUnknown(), name, timed_out=timed_out)
