"""The composition root: settings in, a running process out, closed in reverse order.

Each process is an asynchronous context manager, which tests enter with their own settings; `serve`,
`receive_notifications` and `emulate` run one until SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from antom_payments import telemetry
from antom_payments.admin import Readiness, admin_listener
from antom_payments.antom import BreakerOptions, SessionPolicy, open_client
from antom_payments.antom.endpoints import antom_origin, check_environment
from antom_payments.antom.signing import (
    Signer,
    Verifier,
    load_private_key,
    load_public_key,
    refuse_own_key,
)
from antom_payments.antom.wire import Budgets
from antom_payments.background import running, stop_signal
from antom_payments.emulator import CaptureOrder, EmulatorFiles, server_config
from antom_payments.errors import ConfigurationError
from antom_payments.event_stream import EventStream
from antom_payments.exposition import Exposition
from antom_payments.grpc_api.convert import encode
from antom_payments.grpc_api.health import Health, HealthOptions
from antom_payments.grpc_api.limits import CallLimits
from antom_payments.grpc_api.server import DrainOptions, GrpcOptions, GrpcServer
from antom_payments.grpc_api.servicer import Deadlines
from antom_payments.grpc_api.stream import StreamOptions
from antom_payments.housekeeping import keep_house
from antom_payments.inquiry import Inquirer
from antom_payments.instruments import Process
from antom_payments.notifications import (
    Counts,
    HttpLimits,
    NotificationApp,
    Sender,
    notification_app,
    serving,
    uvicorn_config,
)
from antom_payments.pulse import keep_pulse
from antom_payments.reconcile import ReconcileOptions, Reconciler
from antom_payments.service import Merchant, PaymentService
from antom_payments.settings import (
    Address,
    Settings,
    parse_address,
    secret_text,
    unknown_variables,
    variable,
)
from antom_payments.storage import payment_store, wall_clock
from antom_payments.store import PaymentStore, Rate

_STREAM_LIFE_SPREAD = 0.8
_log = telemetry.logger(__name__)


@contextlib.asynccontextmanager
async def grpc_server(
    settings: Settings,
    *,
    now: Callable[[], datetime] = wall_clock,
    look_seconds: float = 1.0,
    exposition: Exposition | None = None,
) -> AsyncIterator[GrpcServer]:
    """The gRPC server, serving while the block runs; leaving it drains.

    ``look_seconds`` is how often it looks for what Antom is to be asked about, ``exposition`` what
    the admin listener shows of the metrics.

    Raises ConfigurationError, SchemaOutdated, StoreUnavailable.
    """
    async with contextlib.AsyncExitStack() as parts:
        readiness = Readiness()
        with _named("admin_address"):
            admin = admin_listener(settings.admin_address, readiness, exposition)
            await parts.enter_async_context(admin)
        store = await parts.enter_async_context(payment_store(settings, now, listens=True))
        merchant = await parts.enter_async_context(merchant_of(settings, now))
        service = PaymentService(
            store,
            {merchant.merchant_account: merchant},
            now=now,
            call_budget_seconds=settings.antom_budget_seconds,
            antom_in_flight=settings.antom_in_flight,
        )
        parts.push_async_callback(service.drain)
        stream = EventStream(
            store.log,
            encode=encode,
            ring_events=settings.stream_ring_events,
            page_reads=max(1, settings.database_pool_size // 2),
        )
        await parts.enter_async_context(running(stream.run()))
        await parts.enter_async_context(running(keep_house(store.retention, now=now)))
        reconciler = _reconciler(
            settings, store, service.inquirer, merchant, now=now, look_seconds=look_seconds
        )
        await parts.enter_async_context(running(reconciler.run()))
        server = GrpcServer(
            service, stream, check=store.ping, options=grpc_options(settings), now=now
        )
        readiness.follow(lambda: server.health.is_ready)
        pulse = keep_pulse(Process.SERVER, readiness, stream.measures.look)
        await parts.enter_async_context(running(pulse))
        with _named("grpc_address"):
            await parts.enter_async_context(server)
        yield server


@contextlib.asynccontextmanager
async def notification_receiver(
    settings: Settings,
    *,
    now: Callable[[], datetime] = wall_clock,
    stopping: asyncio.Event | None = None,
    exposition: Exposition | None = None,
) -> AsyncIterator[tuple[NotificationApp, int]]:
    """The sidecar, serving while the block runs; its application and its port.

    Once ``stopping`` is set it says that it is not ready, and goes on working. ``exposition`` is
    what the admin listener shows of the metrics.

    Raises ConfigurationError, SchemaOutdated, StoreUnavailable.
    """
    async with contextlib.AsyncExitStack() as parts:
        readiness = Readiness()
        with _named("notification_admin_address"):
            admin = admin_listener(settings.notification_admin_address, readiness, exposition)
            await parts.enter_async_context(admin)
        store = await parts.enter_async_context(payment_store(settings, now))
        counts = Counts()
        app = notification_app(
            PaymentService(store, {}, now=now),
            {settings.client_id: _sender(settings)},
            path=settings.notification_path,
            public_path=(urlsplit(settings.notify_url).path or "/") if settings.notify_url else "",
            clock=now,
            max_in_flight=settings.notification_in_flight,
            counts=counts,
        )
        health, is_told = Health(store.ping, HealthOptions()), stopping or asyncio.Event()
        await parts.enter_async_context(running(health.follow()))
        readiness.follow(lambda: health.is_ready and not is_told.is_set())
        await parts.enter_async_context(running(keep_pulse(Process.SIDECAR, readiness)))
        config = uvicorn_config(app, limits=HttpLimits(), count_refusal=counts.malformed)
        host, port = settings.notification_address
        with _named("notification_address"):
            port = await parts.enter_async_context(serving(config, host=host, port=port))
        yield app, port


async def serve(settings: Settings) -> None:
    """Run the gRPC server until it is told to stop."""
    with _telemetry(settings, "antom-payments", settings.admin_address) as exposition:
        stop = stop_signal()
        async with grpc_server(settings, exposition=exposition):
            _spare_the_collector()
            await stop.wait()


async def receive_notifications(settings: Settings) -> None:
    """Run the sidecar until it is told to stop; it works on while load balancers take notice."""
    address = settings.notification_admin_address
    with _telemetry(settings, "antom-payments-notifications", address) as exposition:
        stop = stop_signal()
        receiving = notification_receiver(settings, stopping=stop, exposition=exposition)
        async with receiving as (app, port):
            _log.info("notifications_serving", port=port, path=settings.notification_path)
            signed = urlsplit(settings.notify_url).path or "/"
            if settings.notify_url and signed != settings.notification_path:
                # Right behind a proxy that rewrites the path; every notification is lost otherwise.
                _log.warning(
                    "notify_url_has_another_path", signed=signed, served=settings.notification_path
                )
            await stop.wait()
            await asyncio.sleep(settings.drain_delay_seconds)
            await app.drain()


async def emulate(
    files: EmulatorFiles,
    *,
    address: str,
    notify_url: str,
    clock_scale: float,
    capture_order: CaptureOrder,
    seed: int | None,
) -> None:
    """Run a local Antom until it is told to stop. Raises ConfigurationError."""
    try:
        host, port = parse_address(address)
    except ValueError as error:
        raise ConfigurationError("--address", str(error)) from None
    config = server_config(
        replace(
            files.options(),
            default_notify_url=notify_url,
            clock_scale=clock_scale,
            capture_order=capture_order,
            seed=seed,
        ),
        host=host,
        port=port,
        certificate_file=files.tls_certificate,
        private_key_file=files.tls_private_key,
    )
    close_telemetry = telemetry.configure(service_name="antom-emulator", log_format="console")
    stop = stop_signal()
    try:
        async with serving(config, host=host, port=port) as chosen:
            _log.info("emulator_serving", host=host, port=chosen)
            await stop.wait()
    except OSError as error:
        raise ConfigurationError(
            "--address", f"{address} cannot be used: {error.strerror}"
        ) from None
    finally:
        close_telemetry()


def grpc_options(settings: Settings) -> GrpcOptions:
    """The gRPC server's options, from the settings."""
    life = settings.stream_life_seconds
    return GrpcOptions(
        address=str(settings.grpc_address),
        reflection=settings.grpc_reflection,
        limits=CallLimits(
            streams=settings.grpc_streams,
            streams_per_peer=settings.grpc_streams_per_peer,
            unary=settings.grpc_unary_in_flight,
        ),
        deadlines=Deadlines(unary_seconds=settings.grpc_unary_timeout_seconds),
        streams=replace(
            StreamOptions(),
            checkpoint_seconds=settings.stream_checkpoint_seconds,
            write_timeout_seconds=settings.stream_write_timeout_seconds,
            lifetime_seconds=(_STREAM_LIFE_SPREAD * life, life),
        ),
        drain=DrainOptions(
            endpoint_delay_seconds=settings.drain_delay_seconds,
            spread_seconds=min(3.0, settings.drain_grace_seconds / 2),
            grace_seconds=settings.drain_grace_seconds,
        ),
    )


def _reconciler(
    settings: Settings,
    store: PaymentStore,
    inquirer: Inquirer,
    merchant: Merchant,
    *,
    now: Callable[[], datetime],
    look_seconds: float,
) -> Reconciler:
    """What asks Antom about whatever stays open."""
    return Reconciler(
        store,
        inquirer,
        {merchant.merchant_account: merchant},
        now=now,
        call_budget_seconds=settings.antom_budget_seconds,
        options=ReconcileOptions(
            rate=Rate.of(settings.inquiries_per_second),
            adopt_foreign=settings.adopt_foreign,
            look_seconds=look_seconds,
        ),
    )


@contextlib.asynccontextmanager
async def merchant_of(settings: Settings, now: Callable[[], datetime]) -> AsyncIterator[Merchant]:
    """The configured merchant, with its way to Antom."""
    _check_client_id(settings)
    private_key = load_private_key(
        secret_text(settings.merchant_private_key_file, "merchant_private_key_file"),
        setting=variable("merchant_private_key_file"),
    )
    public_keys = _antom_keys(settings)
    refuse_own_key(private_key, public_keys, setting=variable("antom_public_key_files"))
    _require_notify_url(settings)
    budgets = Budgets(
        connect=settings.antom_connect_timeout_seconds,
        read=settings.antom_read_timeout_seconds,
        total=settings.antom_budget_seconds,
    )
    signer = Signer(private_key, settings.client_id, settings.antom_key_version)
    origin = antom_origin(settings.antom_url, setting=variable("antom_url"))
    policy = SessionPolicy(
        notify_url=settings.notify_url,
        refuse_chinese=settings.refuse_chinese_characters,
        require_authorization_for_card=settings.require_authorization_for_card,
    )
    breaker = BreakerOptions(
        failures=settings.antom_breaker_failures,
        open_seconds=settings.antom_breaker_open_seconds,
    )
    async with open_client(
        origin, signer, Verifier(public_keys), budgets=budgets, breaker=breaker, now=now
    ) as antom:
        yield Merchant(settings.merchant_account, antom, policy)


def _sender(settings: Settings) -> Sender:
    """Whose notifications are taken, and what verifies them."""
    _check_client_id(settings)
    return Sender(settings.merchant_account, Verifier(_antom_keys(settings)))


def _antom_keys(settings: Settings) -> list[RSAPublicKey]:
    setting = variable("antom_public_key_files")
    if not settings.antom_public_key_files:
        raise ConfigurationError(setting, "expected at least one file with Antom's public key")
    return [
        load_public_key(secret_text(path, "antom_public_key_files"), setting=setting)
        for path in settings.antom_public_key_files
    ]


def _check_client_id(settings: Settings) -> None:
    """Both processes refuse a client id of the other environment: the sandbox pays with nothing."""
    if not settings.client_id:
        raise ConfigurationError(variable("client_id"), "expected Antom's client id, is not set")
    check_environment(
        settings.client_id,
        sandbox={"sandbox": True, "production": False}.get(settings.antom_environment),
        setting=variable("client_id"),
    )


def _require_notify_url(settings: Settings) -> None:
    """Without a notify URL Antom tells nothing (antom-api 3.1)."""
    parts = urlsplit(settings.notify_url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query:
        raise ConfigurationError(
            variable("notify_url"),
            "expected the sidecar's public URL without a query, as in https://pay.example/antom/notify",
        )


def _spare_the_collector() -> None:
    """Have cycles looked for less often, and never in what the start has made.

    By default each 700 new objects start a look, which goes through the event ring, too (measured:
    a tenth of CreateSession).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@contextlib.contextmanager
def _named(setting: str) -> Iterator[None]:
    """Name the setting that is at fault when what it sets cannot be had."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(variable(setting), error.expected) from None
    except OSError as error:
        raise ConfigurationError(variable(setting), f"cannot be used: {error.strerror}") from None


@contextlib.contextmanager
def _telemetry(
    settings: Settings, service_name: str, admin_address: Address | None
) -> Iterator[Exposition | None]:
    """Logs, traces and metrics while the block runs; what the admin listener is to show."""
    exposition = Exposition() if admin_address and telemetry.is_enabled() else None
    close = telemetry.configure(
        service_name=service_name,
        log_level=settings.log_level,
        log_format=settings.log_format,
        metric_readers=[exposition.reader] if exposition else [],
    )
    for name, meant in unknown_variables().items():
        if meant:
            _log.warning("setting_unknown", setting=name, meant=meant)
    try:
        yield exposition
    finally:
        close()
