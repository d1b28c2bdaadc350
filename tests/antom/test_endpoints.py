"""Where Antom is, and which environment a client id belongs to."""

from __future__ import annotations

import pytest

from antom_payments.antom.endpoints import (
    REGION_ORIGINS,
    Operation,
    antom_origin,
    check_environment,
    is_sandbox,
    operation_path,
    sandbox_path,
)
from antom_payments.errors import ConfigurationError

SANDBOX, LIVE = "SANDBOX_5X00000000000000", "5J5XSU7Y2Y182W01981"


def test_each_region_has_its_host() -> None:
    assert dict(REGION_ORIGINS) == {
        "SG": "https://open-sea-global.alipay.com",
        "US": "https://open-na-global.alipay.com",
        "DE": "https://open-de-global.alipay.com",
    }
    for region, origin in REGION_ORIGINS.items():
        assert antom_origin(region, setting="S") == origin
        assert antom_origin(origin, setting="S") == origin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://antom.example", "https://antom.example"),
        ("https://antom.example/", "https://antom.example"),
        ("https://Antom.Example:8443", "https://antom.example:8443"),
        ("http://localhost:8900", "http://localhost:8900"),
        ("http://127.0.0.1:8900/", "http://127.0.0.1:8900"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:8900", "http://[::1]:8900"),
    ],
)
def test_an_origin_is_taken(url: str, origin: str) -> None:
    assert antom_origin(url, setting="S") == origin


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "an origin such as"),
        ("sg", "an origin such as"),
        ("antom.example", "an origin such as"),
        ("ftp://antom.example", "an origin such as"),
        ("https://", "an origin such as"),
        ("https:///ams", "an origin such as"),
        ("https://antom.example:99999", "an origin such as"),
        ("https://antom.example:0", "an origin such as"),
        ("https://antom.example:", "an origin such as"),
        ("https://antom example", "an origin such as"),
        ("https://antom.example\n", "an origin such as"),
        ("https://[::1", "an origin such as"),
        ("https://antom.example/ams/api", "without path"),
        ("https://antom.example?x=1", "without path"),
        ("https://antom.example#x", "without path"),
        ("https://user:secret@antom.example", "without path"),
        ("http://localhost@antom.example", "without path"),
        ("http://antom.example", "only for loopback"),
        ("http://0.0.0.0:8900", "only for loopback"),
        ("http://127.0.0.1.antom.example", "only for loopback"),
        ("http://localhost.antom.example", "only for loopback"),
    ],
)
def test_what_is_no_safe_origin_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        antom_origin(url, setting="ANTOM_URL")
    assert str(refused.value).startswith("ANTOM_URL: expected")
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_sandbox_client_id_uses_the_sandbox_path() -> None:
    create = Operation.CREATE_PAYMENT_SESSION
    assert operation_path(create, LIVE) == "/ams/api/v1/payments/createPaymentSession"
    assert operation_path(create, SANDBOX) == "/ams/sandbox/api/v1/payments/createPaymentSession"
    assert operation_path(Operation.INQUIRY_PAYMENT, LIVE) == "/ams/api/v1/payments/inquiryPayment"


def test_the_rewrite_is_idempotent_and_touches_the_first_prefix_only() -> None:
    once = sandbox_path("/ams/api/v1/x/ams/api", SANDBOX)
    assert once == "/ams/sandbox/api/v1/x/ams/api"
    assert sandbox_path("/ams/sandbox/api/v1/x", SANDBOX) == "/ams/sandbox/api/v1/x"
    assert sandbox_path("/ams/api/v1/x", LIVE) == "/ams/api/v1/x"


def test_the_sandbox_prefix_is_case_sensitive() -> None:
    assert is_sandbox(SANDBOX)
    assert not is_sandbox("sandbox_5X00000000000000")
    assert not is_sandbox("5X_SANDBOX_")


@pytest.mark.parametrize(
    ("client_id", "sandbox"), [(SANDBOX, True), (LIVE, False), (SANDBOX, None), (LIVE, None)]
)
def test_a_client_id_of_the_same_environment_is_taken(client_id: str, sandbox: bool | None) -> None:
    check_environment(client_id, sandbox=sandbox, setting="CLIENT_ID")


def test_a_sandbox_client_id_on_production_settings_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="CLIENT_ID: expected a production client id"):
        check_environment(SANDBOX, sandbox=False, setting="CLIENT_ID")


def test_a_production_client_id_on_sandbox_settings_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="CLIENT_ID: expected a client id that begins"):
        check_environment(LIVE, sandbox=True, setting="CLIENT_ID")
