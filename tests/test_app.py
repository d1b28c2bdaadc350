"""The composition root: what it refuses to start with, and what settings do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from antom_payments.app import grpc_options, grpc_server, notification_receiver
from antom_payments.client import CallFailed, NotFound, terminal
from antom_payments.errors import ConfigurationError, SchemaOutdated, StoreUnavailable
from antom_payments.keygen import write_data_key, write_key_pair
from antom_payments.settings import PREFIX, Settings, variable
from antom_payments.storage import payment_store, wall_clock
from antom_payments.store import migrate
from clock import FrozenClock
from databases import Databases
from keys import golden_pair
from scripted_antom import SESSION, Held, scripted_antom, session
from stored import confirmed, rows
from whole import CLIENT_ID, PATH, Shop, caller, key_files, settings, shop_on, trust_one_authority

WISH = terminal.SessionWish(
    payment_request_id="pay-1",
    minor_units=4200,
    currency_code="SGD",
    reference_order_id="order-1",
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of whoever runs the tests."""
    trust_one_authority(monkeypatch, tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def started(process: str, folder: Path, **changes: Any) -> AsyncIterator[None]:
    chosen = settings(folder, **changes)
    start: Any = {"server": grpc_server, "sidecar": notification_receiver}[process]
    async with start(chosen):
        yield


async def refusal_of(process: str, folder: Path, **changes: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refusal:
        async with started(process, folder, **changes):
            pass
    return refusal.value


# What it refuses to start with


async def test_the_merchants_own_key_in_antoms_place_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(golden_pair("merchant").public)
    refusal = await refusal_of("server", tmp_path, antom_public_key_files=str(own))
    assert refusal.setting == PREFIX + "ANTOM_PUBLIC_KEY_FILES"
    assert "found the merchant's own" in refusal.expected


@pytest.mark.parametrize("process", ["server", "sidecar"])
@pytest.mark.parametrize(
    ("environment", "client_id", "expected"),
    [
        ("production", CLIENT_ID, "expected a production client id"),
        ("sandbox", "5J5XSU7Y2Y182W01981", "begins with SANDBOX_"),
    ],
)
async def test_a_client_id_of_the_other_environment_is_refused(
    tmp_path: Path, process: str, environment: str, client_id: str, expected: str
) -> None:
    refusal = await refusal_of(
        process, tmp_path, antom_environment=environment, client_id=client_id
    )
    assert refusal.setting == PREFIX + "CLIENT_ID"
    assert expected in refusal.expected


@pytest.mark.parametrize(
    ("process", "setting", "nothing"),
    [
        ("server", "client_id", ""),
        ("server", "merchant_private_key_file", None),
        ("server", "antom_public_key_files", ""),
        ("server", "data_key_file", None),
        ("server", "notify_url", ""),
        ("sidecar", "client_id", ""),
        ("sidecar", "antom_public_key_files", ""),
        ("sidecar", "data_key_file", None),
    ],
)
async def test_a_missing_setting_is_named(
    tmp_path: Path, process: str, setting: str, nothing: str | None
) -> None:
    refusal = await refusal_of(process, tmp_path, **{setting: nothing})
    assert refusal.setting == variable(setting)
    assert refusal.expected.startswith("expected ")


@pytest.mark.parametrize(
    ("process", "setting", "text"),
    [
        ("server", "merchant_private_key_file", "c2VjcmV0"),
        ("server", "merchant_private_key_file", golden_pair("merchant").public),
        ("server", "antom_public_key_files", golden_pair("merchant").private),
        ("sidecar", "antom_public_key_files", "not a key"),
        ("sidecar", "data_key_file", "c2VjcmV0"),
        ("sidecar", "data_key_file", "\n"),
    ],
)
async def test_a_file_without_the_right_key_is_named_and_never_quoted(
    tmp_path: Path, process: str, setting: str, text: str
) -> None:
    (tmp_path / "wrong").write_text(text)
    refusal = await refusal_of(process, tmp_path, **{setting: str(tmp_path / "wrong")})
    assert refusal.setting == variable(setting)
    assert not text.strip() or text.strip() not in str(refusal)


@pytest.mark.parametrize("process", ["server", "sidecar"])
async def test_a_data_key_that_does_not_open_what_is_stored_is_refused_at_start(
    tmp_path: Path, process: str
) -> None:
    chosen = settings(tmp_path)
    async with notification_receiver(chosen) as (_, port):
        assert await notified(chosen, f"http://127.0.0.1:{port}{PATH}") == 200
    other = write_data_key(tmp_path)
    refusal = await refusal_of(process, tmp_path, data_key_file=str(other))
    assert refusal.setting == PREFIX + "DATA_KEY_FILE"
    assert "no key of the file opens it" in refusal.expected


async def test_the_windows_of_retention_are_what_the_settings_say(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path,
        event_retention_days=3,
        notification_retention_days=5,
        private_data_window_seconds=1200,
    )
    async with payment_store(chosen, wall_clock) as store:
        windows = store.retention._windows
        assert (windows.events, windows.notifications) == (timedelta(days=3), timedelta(days=5))
        assert store._sessions._private_data_window == timedelta(seconds=1200)


async def test_a_server_erases_what_is_over_when_it_starts(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    async with payment_store(chosen, FrozenClock().now) as store:
        await confirmed(store)
        assert await rows(store, "SELECT 1 FROM private_data") == [(1,)]
    async with grpc_server(chosen), payment_store(chosen, wall_clock) as store:
        async with asyncio.timeout(20):
            while await rows(store, "SELECT 1 FROM private_data"):
                pass


async def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refusal = await refusal_of("server", tmp_path, merchant_private_key_file="/nowhere/key.txt")
    assert "/nowhere/key.txt: No such file" in refusal.expected


async def test_antom_without_tls_is_refused_beyond_this_machine(tmp_path: Path) -> None:
    refusal = await refusal_of("server", tmp_path, antom_url="http://open-sea-global.alipay.com")
    assert refusal.setting == PREFIX + "ANTOM_URL"
    assert "https://" in refusal.expected


@pytest.mark.parametrize(
    "notify_url", ["pay.example/notify", "https://", "https://p.example/n?a=1"]
)
async def test_a_notify_url_that_antom_could_not_call_is_refused(
    tmp_path: Path, notify_url: str
) -> None:
    refusal = await refusal_of("server", tmp_path, notify_url=notify_url)
    assert refusal.setting == PREFIX + "NOTIFY_URL"


@pytest.mark.parametrize(
    ("process", "setting"),
    [
        ("server", "grpc_address"),
        ("sidecar", "notification_address"),
        ("sidecar", "notification_admin_address"),
        ("server", "admin_address"),
    ],
)
async def test_an_address_that_is_taken_is_named_and_nothing_stays_open(
    tmp_path: Path, database_url: str, taken: str, process: str, setting: str
) -> None:
    refusal = await refusal_of(process, tmp_path, database_url=database_url, **{setting: taken})
    assert refusal.setting == variable(setting)
    assert "cannot be" in refusal.expected


@pytest.mark.parametrize("process", ["server", "sidecar"])
async def test_a_postgresql_without_our_schema_is_refused_with_the_remedy(
    tmp_path: Path, databases: Databases, process: str
) -> None:
    async with databases.fresh("postgres", migrated=False) as url:
        with pytest.raises(SchemaOutdated, match="run `antom-payments migrate`"):
            async with started(process, tmp_path, database_url=url):
                pass
        await migrate(url)
        async with started(process, tmp_path, database_url=url):
            pass


async def test_a_database_that_cannot_be_reached_is_an_error_at_start(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(StoreUnavailable):
        async with started("server", tmp_path, database_url=f"postgresql://127.0.0.1:{port}/none"):
            pass


# What starts


async def test_the_embedded_database_is_made_where_the_setting_says(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "payments.db"
    async with started("sidecar", tmp_path, database_url=f"sqlite:///{file}"):
        assert file.exists()


async def test_the_sidecar_needs_no_private_key_of_the_merchant(tmp_path: Path) -> None:
    async with started(
        "sidecar", tmp_path, merchant_private_key_file=None, antom_url="http://unused.example"
    ):
        pass


async def test_any_of_antoms_keys_is_believed(tmp_path: Path) -> None:
    key_files(tmp_path)
    _, public_file = write_key_pair(tmp_path, "next")
    both = f"{public_file},{tmp_path / 'antom_public_key_files'}"
    chosen = settings(tmp_path, antom_public_key_files=both)
    async with notification_receiver(chosen) as (_, port):
        assert await notified(chosen, f"http://127.0.0.1:{port}{PATH}") == 200
    chosen = settings(tmp_path, antom_public_key_files=str(public_file))
    async with notification_receiver(chosen) as (_, port):
        assert await notified(chosen, f"http://127.0.0.1:{port}{PATH}") == 401


async def notified(chosen: Settings, url: str) -> int:
    """Notify a sidecar of nothing it knows; the HTTP status."""
    nobody: Any = None
    shop = Shop(nobody, nobody, chosen.model_copy(update={"notify_url": url}))
    return await shop.notify({"notifyType": "SOMETHING_NEW"})


async def test_what_antom_signed_is_the_path_of_the_notify_url(tmp_path: Path) -> None:
    """A proxy may hand it on to another path of the sidecar."""
    chosen = settings(
        tmp_path, notify_url=f"https://pay.example{PATH}", notification_path="/inner/path"
    )
    async with notification_receiver(chosen) as (_, port):
        assert await notified(chosen, f"http://127.0.0.1:{port}/inner/path") == 200


async def test_the_sidecar_tells_its_health_on_a_listener_of_its_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        health = f"127.0.0.1:{free.getsockname()[1]}"
    chosen = settings(tmp_path, notification_admin_address=health)
    stopping = asyncio.Event()
    async with (
        notification_receiver(chosen, stopping=stopping) as (_, port),
        httpx.AsyncClient(trust_env=False) as http,
    ):
        assert (await http.get(f"http://{health}/livez")).status_code == 200
        async with asyncio.timeout(20):
            while (await http.get(f"http://{health}/readyz")).status_code != 200:
                pass
        for path in ("livez", "readyz"):
            assert (await http.get(f"http://127.0.0.1:{port}/{path}")).status_code == 404
        stopping.set()
        assert (await http.get(f"http://{health}/readyz")).status_code == 503
        assert (await http.get(f"http://{health}/livez")).status_code == 200
        assert await notified(chosen, f"http://127.0.0.1:{port}{PATH}") == 200


@pytest.mark.parametrize("offered", [True, False])
async def test_reflection_is_offered_when_asked_for(tmp_path: Path, offered: bool) -> None:
    async with (
        grpc_server(settings(tmp_path, grpc_reflection=offered)) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([asked]))
        if offered:
            answer = await call.read()
            names = [service.name for service in answer.list_services_response.service]
            assert "antom_payments.v1.PaymentService" in names
        else:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call.read()
            assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_left_for_antom_is_recorded_before_the_server_ends(
    tmp_path: Path,
) -> None:
    expiry = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    answer = Held(session(expiry=expiry))
    async with scripted_antom() as antom:
        antom.will(SESSION, answer)
        chosen = settings(tmp_path, antom_url=antom.origin)
        async with contextlib.AsyncExitStack() as serving:
            server = await serving.enter_async_context(grpc_server(chosen))
            address = f"127.0.0.1:{server.port}"
            async with terminal.connected(address) as payments:
                creating = asyncio.create_task(payments.create_session(WISH.request()))
                await antom.was_asked()
                ending = asyncio.create_task(serving.aclose())
                with pytest.raises(CallFailed):
                    await creating
            # Long enough to end, but for the call that is out.
            assert await asyncio.wait({ending}, timeout=0.5) == (set(), {ending})
            answer.go_on.set()
            await ending
        async with grpc_server(chosen) as server, caller(server.port) as payments:
            again = await payments.create_session(WISH.request())
        assert again.session.payment_session_id == "session-1"
        assert len(antom.asked) == 1


async def test_the_merchant_account_is_what_the_setting_says(tmp_path: Path) -> None:
    async with shop_on(
        f"sqlite:///{tmp_path / 'p.db'}", tmp_path, merchant_account="books"
    ) as shop:
        assert (await shop.create()).payment.merchant_account == "books"
        with pytest.raises(NotFound, match="music"):
            await shop.create("pay-2", merchant_account="music")


def test_settings_reach_the_grpc_server(tmp_path: Path) -> None:
    options = grpc_options(
        settings(
            tmp_path,
            grpc_address="[::1]:50052",
            grpc_streams=7,
            grpc_streams_per_peer=3,
            grpc_unary_in_flight=5,
            grpc_unary_timeout_seconds=4,
            stream_checkpoint_seconds=2,
            stream_life_seconds=100,
            stream_write_timeout_seconds=9,
            drain_delay_seconds=1,
            drain_grace_seconds=8,
        )
    )
    assert options.address == "[::1]:50052"
    assert (options.limits.streams, options.limits.streams_per_peer, options.limits.unary) == (
        7,
        3,
        5,
    )
    assert options.deadlines.unary_seconds == 4
    assert options.streams.checkpoint_seconds == 2
    assert options.streams.lifetime_seconds == (80, 100)
    assert options.streams.write_timeout_seconds == 9
    assert options.drain.endpoint_delay_seconds == 1
    assert options.drain.grace_seconds == 8
    assert options.drain.spread_seconds <= 4
