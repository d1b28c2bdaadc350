"""Logs that give nothing away, and traces by the standard variables."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider

from antom_payments import telemetry
from antom_payments.errors import ConfigurationError, MerchantNotFound
from antom_payments.redaction import redact

CARD = "4111111111111111"
FULL_WIDTH = "\uff15" * 12 + "\uff14" * 4
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDK" * 4
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

log = telemetry.logger("antom_payments.test")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Run:
    """Run code in a process of its own: the providers of OpenTelemetry are set once a process."""

    def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        prelude = "from antom_payments import telemetry\n"
        return subprocess.run(
            [sys.executable, "-c", prelude + code],
            env={"PATH": "/usr/bin:/bin"} | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "text",
    [
        CARD,
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "3782 822463 10005",
        f"x{CARD}y",
        f'"{CARD}"',
        f"2026 {CARD}",
        "4111 1111 1111 1111 12/28",
        "4111 1111 1111 1111 123",
        FULL_WIDTH,
        "6212345678900000003",
    ],
)
def test_card_numbers_are_hidden_however_they_are_written(text: str) -> None:
    hidden = redact(f"card {text} declined")
    assert "[card]" in hidden
    assert not any(part in hidden for part in ("1111", "822463", FULL_WIDTH[:4], "34567890"))


@pytest.mark.parametrize(
    "text",
    [
        "20240101194010800100188820203660018",
        "1767225600000",
        "order-1001-pay-1",
        "2026-11-23 16:37:00.123456",
        "192.168.100.123 192.168.100.124",
        "4111111111111112",
        "AUv3Dn0-kX2q9T1mJbVhYcRzPwLs8eQoUaGtFiN5xKpE6M",
        "/usr/lib/python3.11/site-packages/antom_payments/store.py:120 apply",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ],
)
def test_ids_times_cursors_and_numbers_that_fail_luhn_stay_readable(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (PEM, KEY),
        (PEM.replace("\n", "\\n"), KEY),
        (PEM[:120], KEY[:40]),
        (KEY, KEY),
        ("key 3q2+7w8xZk1mVtYbNcLpQrSdUfGhJiKoAaEeIiOoUu0= loaded", "3q2+7w8x"),
        ("Authorization: Bearer abc.def-123", "abc.def"),
        ("token eyJhbGciOiJI.eyJzdWIiOiIx.SflKxw", "eyJzdWIi"),
        ("Signature: algorithm=RSA256,keyVersion=1,signature=Zm9vYmFy%2B", "Zm9vYmFy"),
        ("postgresql://pay:s3cret@db/payments", "s3cret"),
        ("buyer ada.lovelace@example.com paid", "ada.lovelace"),
    ],
)
def test_keys_tokens_signatures_and_addresses_are_hidden(text: str, secret: str) -> None:
    assert secret not in redact(text)


HOSTILE = ["a.", "a", "-----BEGIN ", "eyJ.", "1 ", "1-", "a@", "//", "signature=", "4111 ", "x@a."]


@pytest.mark.parametrize("unit", HOSTILE)
def test_long_hostile_texts_are_cut_before_they_keep_the_process_busy(unit: str) -> None:
    began = time.process_time()
    assert len(redact(unit * 200_000)) < 20_000
    assert time.process_time() - began < 1


@pytest.mark.parametrize("separator", [" ", ", ", "\n", ";"])
def test_a_thousand_card_numbers_are_hidden_also_where_the_text_is_cut(separator: str) -> None:
    for start in range(20):
        hidden = redact("x" * start + separator + f"{CARD}{separator}" * 1_000)
        assert "4111" not in hidden


@pytest.fixture
def untouched_logging() -> Any:
    """Gives logging back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("antom_payments")
    kept = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    ours.setLevel(kept[2])


Logged = Callable[[], list[dict[str, Any]]]


def written(log_format: str) -> io.StringIO:
    """What our handler writes from now on, as a process is configured."""
    telemetry.configure_logs("DEBUG", log_format)
    stream = io.StringIO()
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    return stream


@pytest.fixture
def logged(untouched_logging: None) -> Logged:  # noqa: ARG001 - a fixture for its effect
    """The lines so far."""
    stream = written("json")
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_logger_and_trace(logged: Logged) -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("work"):
        log.info("session_created", payment_request_id="order-1", amount=100)
    [line] = logged()
    assert line["event"] == "session_created"
    assert (line["level"], line["logger"]) == ("info", "antom_payments.test")
    assert (line["payment_request_id"], line["amount"]) == ("order-1", 100)
    assert line["time"].endswith("Z")
    assert len(line["trace_id"]) == 32
    assert len(line["span_id"]) == 16


def test_secrets_are_hidden_in_every_field_at_every_depth(logged: Logged) -> None:
    class Odd:
        def __str__(self) -> str:
            return KEY

    log.warning(
        CARD,
        note=f"{CARD} {KEY}",
        number=int(CARD),
        raw=CARD.encode(),
        nested={"deep": [{"body": f"x{CARD}", CARD: 1, "more": (CARD, {CARD})}]},
        signature="short",
        payment_session_data="s",
        error=ValueError(CARD),
        odd=Odd(),
    )
    [line] = logged()
    assert CARD not in json.dumps(line)
    assert KEY[:20] not in json.dumps(line)
    assert line["signature"] == line["payment_session_data"] == "[redacted]"
    assert line["error"] == "ValueError"


def test_an_exception_is_told_by_types_and_frames_never_by_its_text(logged: Logged) -> None:
    def inner() -> None:
        raise KeyError("Ada Lovelace, 12 St James Square")

    try:
        try:
            inner()
        except KeyError as error:
            raise ExceptionGroup("of Ada", [ValueError("Ada")]) from error
    except ExceptionGroup:
        log.exception("broke")
    [line] = logged()
    assert line["exception"] == "ExceptionGroup(ValueError) from KeyError"
    assert line["frames"][-1].endswith(" inner")
    assert "Ada" not in json.dumps(line)


def test_texts_of_our_own_errors_are_told(logged: Logged) -> None:
    log.error("refused", exc_info=MerchantNotFound("shop"))
    [line] = logged()
    assert str(MerchantNotFound("shop")) in line["exception"]


def test_other_libraries_pass_the_same_net_and_speak_from_warnings_on(logged: Logged) -> None:
    logging.getLogger("aiosqlite").debug("INSERT %s", "Ada")
    logging.getLogger("httpx").info("GET https://x")
    logging.getLogger("asyncio").error("future: ValueError(%r)", CARD)
    log.debug("ours")
    assert [line["event"] for line in logged()] == ["future: ValueError('[card]')", "ours"]


def test_our_loggers_redact_also_before_anything_is_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    telemetry.logger("antom_payments.early").error("card", number=CARD)
    assert "[card]" in caplog.text
    assert CARD not in caplog.text


@pytest.mark.usefixtures("untouched_logging")
def test_lines_for_people_are_redacted_as_well() -> None:
    stream = written("console")
    log.info("paid", number=CARD, state="SUCCEEDED")
    assert "SUCCEEDED" in stream.getvalue()
    assert CARD not in stream.getvalue()


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        ({"log_level": "LOUD"}, {}, "log_level"),
        ({"log_format": "xml"}, {}, "log_format"),
        ({}, {"OTEL_TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER"),
        ({}, {"OTEL_METRICS_EXPORTER": "statsd"}, "OTEL_METRICS_EXPORTER"),
        ({}, {"OTEL_METRICS_EXPORTER": "prometheus"}, "Prometheus reads the admin address"),
        (
            {},
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
    ],
)
def test_a_wrong_setting_is_named(
    arguments: dict[str, str],
    variables: dict[str, str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: None)
    with pytest.raises(ConfigurationError, match=named):
        telemetry.configure(service_name="test", **arguments)


SPAN = (
    "with telemetry.tracer.start_as_current_span('work') as span:\n"
    "    print(type(span).__name__, telemetry.current_traceparent())\n"
)


def test_nothing_is_exported_unless_it_is_configured_but_spans_have_ids(run: Run) -> None:
    process = run("stop = telemetry.configure(service_name='test')\n" + SPAN + "stop()\n")
    kind, traceparent = process.stdout.split()
    assert process.stderr == ""
    assert kind == "NonRecordingSpan"
    assert len(traceparent) == 55


@pytest.mark.parametrize(
    "variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": " TRUE "}]
)
def test_a_disabled_sdk_makes_no_spans(run: Run, variables: dict[str, str]) -> None:
    process = run("telemetry.configure(service_name='test')\n" + SPAN, **variables)
    assert process.stdout.split() == ["NonRecordingSpan"]


def test_the_console_exporter_shows_spans_with_the_service_and_its_version(run: Run) -> None:
    process = run(
        "stop = telemetry.configure(service_name='test')\n" + SPAN + "stop()\n",
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_TRACES_SAMPLER="always_on",
    )
    assert process.stdout.startswith("_Span")
    span = json.loads(process.stderr)
    assert span["name"] == "work"
    assert span["resource"]["attributes"]["service.name"] == "test"
    assert span["resource"]["attributes"]["service.version"]
    assert span["resource"]["schema_url"] in {"", telemetry.SCHEMA_URL}


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SERVICE_NAME": "theirs"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,team=pay"},
    ],
)
def test_an_operator_can_name_the_service(run: Run, variables: dict[str, str]) -> None:
    process = run(
        "stop = telemetry.configure(service_name='test')\n" + SPAN + "stop()\n",
        OTEL_TRACES_EXPORTER="console",
        OTEL_TRACES_SAMPLER="always_on",
        **variables,
    )
    assert json.loads(process.stderr)["resource"]["attributes"]["service.name"] == "theirs"


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "proto.http"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, "proto.http"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "proto.http"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "proto.grpc",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "proto.http",
        ),
    ],
)
def test_the_standard_variables_choose_the_exporter(
    run: Run, variables: dict[str, str], exporter: str
) -> None:
    process = run(
        "telemetry.configure(service_name='test')\n"
        "from opentelemetry import trace\n"
        "for processor in trace.get_tracer_provider()._active_span_processor._span_processors:\n"
        "    print(type(processor._exporting._batch_processor._exporter).__module__)\n",
        **variables,
    )
    assert exporter in process.stdout, process.stderr


def test_a_collector_that_does_not_answer_holds_up_nothing(run: Run) -> None:
    started = time.monotonic()
    process = run(
        "stop = telemetry.configure(service_name='test')\n" + SPAN + "stop()\nprint('over')\n",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="60",
    )
    assert process.returncode == 0
    assert process.stdout.endswith("over\n")
    assert time.monotonic() - started < 20


def test_spans_for_a_collector_that_is_away_wait_in_a_bounded_queue(run: Run) -> None:
    process = run(
        "from opentelemetry import trace\n"
        "stop = telemetry.configure(service_name='test')\n"
        "for _ in range(10_000):\n"
        "    telemetry.tracer.start_span('work').end()\n"
        "[processor] = trace.get_tracer_provider()._active_span_processor._span_processors\n"
        "print(len(processor._exporting._batch_processor._queue))\n"
        "stop()\n",
        OTEL_TRACES_SAMPLER="always_on",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert 0 < int(process.stdout) <= 2048


@pytest.mark.parametrize("name", ["sometimes", "jaeger_remote"])
def test_a_sampler_that_is_not_known_ends_the_start(run: Run, name: str) -> None:
    process = run(
        "telemetry.configure(service_name='test')\n",
        OTEL_TRACES_EXPORTER="console",
        OTEL_TRACES_SAMPLER=name,
    )
    assert process.returncode == 1
    assert "ConfigurationError" in process.stderr
    assert "OTEL_TRACES_SAMPLER" in process.stderr


def test_a_tracer_provider_that_is_already_there_is_kept(run: Run) -> None:
    process = run(
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "provider = TracerProvider()\n"
        "trace.set_tracer_provider(provider)\n"
        "telemetry.configure(service_name='test')\n"
        "print(trace.get_tracer_provider() is provider)\n",
        OTEL_TRACES_EXPORTER="console",
    )
    assert process.stdout == "True\n"
    assert process.stderr == ""


def test_a_meter_provider_that_is_already_there_gets_our_reader(run: Run) -> None:
    process = run(
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "provider, reader = MeterProvider(), InMemoryMetricReader()\n"
        "metrics.set_meter_provider(provider)\n"
        "stop = telemetry.configure(service_name='test', metric_readers=[reader])\n"
        "telemetry.meter.create_counter('tests').add(3)\n"
        "print(metrics.get_meter_provider() is provider)\n"
        "[resource] = reader.get_metrics_data().resource_metrics\n"
        "print(resource.scope_metrics[0].metrics[0].data.data_points[0].value)\n"
        "stop()\n"
    )
    assert process.stdout == "True\n3\n", process.stderr


def test_a_traceparent_leads_back_to_its_span() -> None:
    tracer = TracerProvider().get_tracer("test")
    assert telemetry.current_traceparent() == ""
    with tracer.start_as_current_span("work") as span:
        traceparent = telemetry.current_traceparent()
    [link] = telemetry.link_to(traceparent)
    assert (link.context.trace_id, link.context.span_id) == (
        span.get_span_context().trace_id,
        span.get_span_context().span_id,
    )
    assert link.context.trace_flags.sampled


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "00-0-0-01",
        TRACEPARENT.replace("4bf9", "zzzz"),
        "ff" + TRACEPARENT[2:],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        TRACEPARENT + "x" * 600,
        "\x00" * 55,
    ],
)
def test_garbage_links_to_nothing_and_has_no_children(
    garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert telemetry.link_to(garbage) == []
    parent = trace.get_current_span(telemetry.remote_parent(garbage))
    assert not parent.get_span_context().is_valid
    assert caplog.text == ""


def test_a_remote_parent_brings_its_ids_and_nothing_else() -> None:
    context = telemetry.remote_parent(TRACEPARENT)
    parent = trace.get_current_span(context).get_span_context()
    assert f"{parent.trace_id:032x}" == TRACEPARENT[3:35]
    assert parent.trace_state == trace.TraceState()
    assert baggage.get_all(context) == {}
