"""What a running product tells Prometheus is what docs/metrics.md says of it, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from antom.wires import free_port
from antom_payments.client import Earliest, NotFound
from antom_payments.emulator import Step
from antom_payments.instruments import CATALOGUE, Kind, Metric, Process
from made import NotMade, make
from metrics_docs import metrics_of, prometheus_labels, prometheus_name
from processes import PATIENCE, Running, as_environment, running
from whole import PATH, Shop, caller, local_antom, settings

PROCESSES = (Process.SERVER, Process.SIDECAR)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
REQUEST_ID = "pay-of-the-metrics-test"

pytestmark = pytest.mark.slow
each_process = pytest.mark.parametrize("process", PROCESSES)


@dataclass
class Scraped:
    """What a product told after one payment, and how it ended."""

    texts: dict[Process, str] = field(default_factory=dict)
    open_metrics: dict[Process, httpx.Response] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    draining: str = ""
    draining_readiness: int = 0
    exit_codes: dict[Process, int] = field(default_factory=dict)
    pushed: str = ""

    def families(self, process: Process) -> dict[str, Family]:
        """By name; `target_info` is the exporter's own."""
        found = {
            f"{one.name}_total" if one.type == "counter" else one.name: one
            for one in text_string_to_metric_families(self.texts[process])
        }
        del found["target_info"]
        return found


def value(text: str, name: str, **labels: str) -> float:
    """One sample."""
    [found] = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


@dataclass
class Product:
    """Server and sidecar as processes of their own, and where their admins ask."""

    shop: Shop
    processes: dict[Process, Running]
    admins: dict[Process, str]
    http: httpx.AsyncClient

    async def text(self, process: Process) -> str:
        answer = await self.http.get(f"{self.admins[process]}/metrics")
        assert answer.status_code == 200
        return answer.text

    async def until(self, process: Process, *names: str) -> str:
        """Scrape until these families have samples: some come with the process's pulse."""
        async with asyncio.timeout(PATIENCE):
            while True:
                text = await self.text(process)
                if all(f"# TYPE {name} " in text for name in names):
                    return text


@contextlib.asynccontextmanager
async def product(folder: Path) -> AsyncIterator[Product]:
    ports = {name: free_port() for name in ("grpc", "notification", "admin", "notification_admin")}
    addresses = {f"{name}_address": f"127.0.0.1:{port}" for name, port in ports.items()}
    async with contextlib.AsyncExitStack() as parts:
        antom, antom_url = await parts.enter_async_context(local_antom())
        chosen = settings(
            folder,
            **addresses,
            antom_url=antom_url,
            notify_url=f"http://127.0.0.1:{ports['notification']}{PATH}",
            stream_checkpoint_seconds=0.05,
            drain_delay_seconds=3,
        )
        told = as_environment(chosen)
        server = await parts.enter_async_context(
            running("serve", settings=told, OTEL_METRICS_EXPORTER="console")
        )
        sidecar = await parts.enter_async_context(running("notifications", settings=told))
        await server.line_with("grpc_serving")
        await sidecar.line_with("notifications_serving")
        payments = await parts.enter_async_context(caller(ports["grpc"]))
        yield Product(
            Shop(payments, antom, chosen, ports["grpc"]),
            {Process.SERVER: server, Process.SIDECAR: sidecar},
            {
                Process.SERVER: f"http://{addresses['admin_address']}",
                Process.SIDECAR: f"http://{addresses['notification_admin_address']}",
            },
            await parts.enter_async_context(httpx.AsyncClient(trust_env=False)),
        )


async def take_a_payment(shop: Shop, ids: set[str]) -> None:
    """One card payment with a subscriber, and one question about a payment that is not."""
    async with shop.following(Earliest()) as follower:
        await follower.until_caught_up()
        await shop.create(REQUEST_ID)
        await shop.buyer(Step.APPROVE, REQUEST_ID)
        await follower.until(3)
        await follower.one_more()
        ids |= {event.event_id for event in follower.events}
        ids |= {cursor for cursor, _ in follower.cursors}
    with pytest.raises(NotFound):
        await shop.read("no-such-payment")
    ids |= {REQUEST_ID, "no-such-payment", "order-1", shop.payment_id(REQUEST_ID)}


@pytest.fixture(scope="module")
async def scraped(tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    told = Scraped()
    async with product(tmp_path_factory.mktemp("metrics")) as running_product:
        admins, http = running_product.admins, running_product.http
        await take_a_payment(running_product.shop, told.ids)
        lag = "antom_payments_event_loop_lag_seconds"
        ended = "antom_payments_stream_duration_seconds"
        told.texts = {
            Process.SERVER: await running_product.until(Process.SERVER, lag, ended),
            Process.SIDECAR: await running_product.until(Process.SIDECAR, lag),
        }
        for process, admin in admins.items():
            told.open_metrics[process] = await http.get(
                f"{admin}/metrics", headers={"accept": OPEN_METRICS}
            )
        server = running_product.processes[Process.SERVER]
        # Somebody who connects and says nothing holds up no exit.
        idle = await asyncio.open_connection("127.0.0.1", int(admins[Process.SERVER].split(":")[2]))
        server.process.send_signal(signal.SIGTERM)
        await server.line_with("grpc_draining")
        told.draining = await running_product.text(Process.SERVER)
        told.draining_readiness = (await http.get(f"{admins[Process.SERVER]}/readyz")).status_code
        for process, one in running_product.processes.items():
            told.exit_codes[process] = await one.end(signal.SIGTERM)
        idle[1].close()
        told.pushed = "".join(server.lines)
    return told


@each_process
def test_every_metric_that_is_exposed_is_documented_and_the_other_way_round(
    scraped: Scraped, process: Process
) -> None:
    assert set(scraped.families(process)) == set(metrics_of(process))


@each_process
def test_kinds_meanings_and_labels_are_as_documented(scraped: Scraped, process: Process) -> None:
    documented = metrics_of(process)
    for name, family in scraped.families(process).items():
        metric = documented[name]
        assert (family.type, family.documentation) == (metric.kind.value, metric.description)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= prometheus_labels(metric), name
        assert labels or not metric.labels, name


@each_process
def test_labels_have_the_documented_values_only(scraped: Scraped, process: Process) -> None:
    documented = metrics_of(process)
    for name, family in scraped.families(process).items():
        known = {
            label.replace(".", "_"): {*map(str, values), ""}
            for label, values in documented[name].labels.items()
            if not isinstance(values, str)
        }
        for sample in family.samples:
            assert all(sample.labels.get(label, "") in known[label] for label in known), name


@each_process
def test_no_id_is_in_a_metric(scraped: Scraped, process: Process) -> None:
    assert len(scraped.ids) > 5
    for one in scraped.ids:
        assert one not in scraped.texts[process]


def test_the_figures_are_those_of_the_payment(scraped: Scraped) -> None:
    server, sidecar = (scraped.texts[process] for process in PROCESSES)
    assert value(sidecar, "antom_payments_notifications_total", outcome="accepted") == 2
    appended = "antom_payments_log_appended_total"
    assert value(server, appended, event_type="SESSION_CREATED") == 1
    assert value(sidecar, appended, event_type="PAYMENT_AUTHORIZED") == 1
    assert value(sidecar, appended, event_type="CAPTURE_SUCCEEDED") == 1
    assert value(server, "antom_payments_log_head_sequence") == 3
    assert value(server, "antom_payments_log_tail_lag_seconds") == 0
    assert value(server, "antom_payments_stream_events_total") == 3
    assert value(server, "antom_payments_stream_delivery_delay_seconds_count") >= 1
    assert value(server, "antom_payments_stream_duration_seconds_count", ended_by="caller") == 1
    calls = "rpc_server_call_duration_seconds_count"
    for method, code in (("CreateSession", "OK"), ("GetPayment", "NOT_FOUND")):
        labels = {
            "rpc_method": f"antom_payments.v1.PaymentService/{method}",
            "rpc_response_status_code": code,
        }
        assert value(server, calls, **labels) == 1
    antom = "antom_payments_antom_call_duration_seconds_count"
    asked = {"antom_operation": "createPaymentSession", "result": "answered"}
    assert value(server, antom, **asked) == 1
    assert value(server, "antom_payments_database_pool_size") == 8
    assert value(server, "antom_payments_ready") == value(sidecar, "antom_payments_ready") == 1


@each_process
def test_who_asks_for_open_metrics_gets_them(scraped: Scraped, process: Process) -> None:
    answer = scraped.open_metrics[process]
    assert answer.headers["content-type"].startswith(OPEN_METRICS)
    counted = {one.name for one in open_metrics_families(answer.text) if one.name != "target"}
    assert counted == {name.removesuffix("_total") for name in metrics_of(process)}


def test_metrics_are_told_while_the_process_drains_and_it_ends_all_the_same(
    scraped: Scraped,
) -> None:
    assert value(scraped.draining, "antom_payments_ready") == 0
    assert scraped.draining_readiness == 503
    assert set(scraped.exit_codes.values()) == {0}


def test_they_are_pushed_and_scraped_at_once(scraped: Scraped) -> None:
    for name in ("rpc.server.call.duration", "antom_payments.stream.events"):
        assert f'"{name}"' in scraped.pushed


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Never skipped: without it the test fails, and says what to do."""
    try:
        make("promtool")
    except NotMade as reason:
        pytest.fail(str(reason), pytrace=False)
    return Path(sys.prefix) / "promtool" / "promtool"


@each_process
def test_promtool_finds_nothing_to_improve(
    scraped: Scraped, process: Process, promtool: Path
) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=scraped.texts[process],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# The rules, without Prometheus


@pytest.fixture(params=sorted(CATALOGUE))
def metric(request: pytest.FixtureRequest) -> Metric:
    return CATALOGUE[request.param]


def test_a_metric_follows_the_rules_of_naming(metric: Metric) -> None:
    assert re.fullmatch(r"(antom_payments|rpc)(\.[a-z][a-z_]*)+", metric.name)
    assert metric.unit in {"", "s"} or re.fullmatch(r"\{[a-z_]+\}", metric.unit)
    assert metric.description.endswith(".")
    name = prometheus_name(metric)
    if metric.unit == "s":
        assert name.endswith("_seconds")
    if metric.kind is not Kind.COUNTER:
        assert not re.search("_(total|count|sum|bucket)$", name)
    assert "info" not in name.split("_")[:-1]


def test_a_metric_has_few_series(metric: Metric) -> None:
    """Labels that only words describe have one value for each merchant or fault."""
    combinations = 1
    for label, values in metric.labels.items():
        assert re.fullmatch(r"[a-z][a-z._]*", label)
        assert label not in {"payment_request_id", "payment_id", "event_id", "notification_id"}
        known = ["in words"] if isinstance(values, str) else list(values)
        assert len(set(known)) == len(known)
        combinations *= len(known) if label != "error.type" else 1
    assert combinations <= 128


def test_a_name_is_declared_once() -> None:
    from antom_payments import instruments

    with pytest.raises(ValueError, match="declared twice"):
        instruments.counter("antom_payments.notifications", "", "Again.")
