"""Settings: read from the environment, wrong ones named, secrets kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from antom_payments import settings
from antom_payments.app import grpc_options
from antom_payments.errors import ConfigurationError
from antom_payments.settings import PREFIX, Address, Settings, load, secret_text, shown, variable


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of whoever runs the tests."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


def test_every_setting_has_a_default_and_a_description() -> None:
    assert load().database_url.get_secret_value() == settings.EMBEDDED_DATABASE_URL
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GRPC_ADDRESS": "[::]:50052",
        "GRPC_REFLECTION": "true",
        "ANTOM_PUBLIC_KEY_FILES": "/keys/new.txt, /keys/old.txt",
        "MERCHANT_PRIVATE_KEY_FILE": "/keys/merchant.txt",
        "NOTIFICATION_ADMIN_ADDRESS": "0.0.0.0:8081",
        "DRAIN_DELAY_SECONDS": "0",
        "ANTOM_BUDGET_SECONDS": "2.5",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    read = load()
    assert read.grpc_address == Address("::", 50052)
    assert str(read.grpc_address) == "[::]:50052"
    assert read.grpc_reflection
    assert read.antom_public_key_files == (Path("/keys/new.txt"), Path("/keys/old.txt"))
    assert read.merchant_private_key_file == Path("/keys/merchant.txt")
    assert str(read.notification_admin_address) == "0.0.0.0:8081"
    assert read.drain_delay_seconds == 0
    assert read.antom_budget_seconds == 2.5


def test_what_code_says_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "MERCHANT_ACCOUNT", "books")
    assert load().merchant_account == "books"
    assert load(merchant_account="music").merchant_account == "music"


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "GRPC_ADDRESS", "")
    monkeypatch.setenv(PREFIX + "NOTIFICATION_ADMIN_ADDRESS", "")
    assert load() == load(grpc_address="127.0.0.1:50051")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "mysql://db/payments", "postgresql://user:password@host/database"),
        ("DATABASE_URL", "payments.db", "sqlite:///path/to/file.db"),
        ("DATABASE_URL", "postgresql://u:p@db:port/payments", "postgresql://user:password@host"),
        ("DATABASE_POOL_SIZE", "0", "greater than 0"),
        ("DATABASE_STATEMENT_CACHE_SIZE", "-1", "greater than or equal to 0"),
        ("MERCHANT_ACCOUNT", "m" * 65, "at most 64 characters"),
        ("CLIENT_ID", "SANDBOX 5X", "should match pattern"),
        ("ANTOM_ENVIRONMENT", "staging", "'any', 'production' or 'sandbox'"),
        ("ANTOM_KEY_VERSION", "1,2", "should match pattern"),
        ("ANTOM_IN_FLIGHT", "many", "valid integer"),
        ("ANTOM_READ_TIMEOUT_SECONDS", "nan", "finite number"),
        ("REFUSE_CHINESE_CHARACTERS", "perhaps", "valid boolean"),
        ("GRPC_ADDRESS", "50051", "host:port, as in 127.0.0.1:50051"),
        ("GRPC_ADDRESS", "localhost:port", "host:port"),
        ("GRPC_ADDRESS", "localhost:65536", "host:port"),
        ("GRPC_ADDRESS", ":50051", "host:port"),
        ("NOTIFICATION_ADMIN_ADDRESS", "8081", "host:port"),
        ("STREAM_LIFE_SECONDS", "1141", "less than or equal to 1140"),
        ("STREAM_CHECKPOINT_SECONDS", "inf", "finite number"),
        ("DRAIN_DELAY_SECONDS", "-1", "greater than or equal to 0"),
        ("NOTIFICATION_PATH", "antom/notify", "a path without query"),
        ("NOTIFICATION_PATH", "/antom/notify?key=1", "a path without query"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ConfigurationError) as refusal:
        load()
    assert refusal.value.setting == PREFIX + name
    assert expected in refusal.value.expected
    assert str(refusal.value).startswith(f"{PREFIX}{name}: ")


def test_the_longest_life_of_a_stream_fits_into_its_connections() -> None:
    grpc_options(load(stream_life_seconds=1140))


@pytest.mark.parametrize(
    ("url", "visible"),
    [
        ("postgresql://teller:s3cr3t@db:5432/payments", "postgresql://teller:***@db:5432/payments"),
        ("postgresql://teller:s3@cr3t@db/payments", "postgresql://teller:***@db/payments"),
        ("postgresql://db/p?user=teller&password=s3cr3t&x=1", None),
        ("postgresql://db/p?PassFile=s3cr3t", None),
        ("postgresql://teller@db/payments", "postgresql://teller@db/payments"),
        ("sqlite:////var/lib/payments.db", "sqlite:////var/lib/payments.db"),
    ],
)
def test_what_is_shown_holds_no_password(url: str, visible: str | None) -> None:
    chosen = load(database_url=url)
    told = shown(chosen)
    assert "cr3t" not in f"{told} {chosen!r} {chosen}"
    if visible:
        assert told[PREFIX + "DATABASE_URL"] == visible


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/payments",
        "postgresql+asyncpg://teller:a:b/c#d@db:5432/payments?ssl=require",
        "postgresql://teller@[::1]/payments",
        "postgresql://teller@[::1]:5432/payments",
        "sqlite:///payments.db",
        "sqlite:////var/lib/a:b/payments.db",
    ],
)
def test_both_kinds_of_database_are_taken(url: str) -> None:
    assert load(database_url=url).database_url.get_secret_value() == url


def test_a_refused_database_url_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load(database_url="mysql://teller:s3cr3t@db/payments")
    assert "s3cr3t" not in str(refusal.value)


def test_the_database_url_is_read_from_a_file_as_it_is_from_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://teller:s3cr3t@db/payments\n")
    monkeypatch.setenv(PREFIX + "DATABASE_URL_FILE", str(file))
    read = load()
    assert read.database_url.get_secret_value() == "postgresql://teller:s3cr3t@db/payments"
    assert shown(read)[PREFIX + "DATABASE_URL"] == "postgresql://teller:***@db/payments"
    assert shown(read)[PREFIX + "DATABASE_URL_FILE"] == str(file)


def test_two_databases_are_one_too_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://db/payments")
    monkeypatch.setenv(PREFIX + "DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv(PREFIX + "DATABASE_URL", "postgresql://db/other")
    with pytest.raises(ConfigurationError, match="expected no ANTOM_PAYMENTS_DATABASE_URL"):
        load()


@pytest.mark.parametrize("text", [None, "", "mysql://teller:s3cr3t@db/payments"])
def test_a_database_url_file_without_a_database_url_is_refused(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "url"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError) as refusal:
        load(database_url_file=file)
    assert refusal.value.setting.startswith(PREFIX + "DATABASE_URL")
    assert "s3cr3t" not in str(refusal.value)


def test_everything_is_shown_by_the_name_of_its_variable() -> None:
    told = shown(load(antom_public_key_files="/keys/new.txt,/keys/old.txt"))
    assert set(told) == {variable(field) for field in Settings.model_fields}
    assert told[PREFIX + "ANTOM_PUBLIC_KEY_FILES"] == "/keys/new.txt,/keys/old.txt"
    assert told[PREFIX + "GRPC_ADDRESS"] == "127.0.0.1:50051"
    assert told[PREFIX + "DATA_KEY_FILE"] == ""


def test_unknown_variables_are_told_with_the_setting_that_was_likely_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PREFIX + "ANTOM_PUBLIC_KEY_FILE", "/keys/antom.txt")
    monkeypatch.setenv(PREFIX + "DATABASE", "sqlite:///payments.db")
    unknown = settings.unknown_variables()
    assert unknown[PREFIX + "ANTOM_PUBLIC_KEY_FILE"] == PREFIX + "ANTOM_PUBLIC_KEY_FILES"
    assert unknown[PREFIX + "DATABASE"] == PREFIX + "DATABASE_URL"


def test_the_health_address_of_before_is_never_taken_for_the_public_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its letters the listener that strangers reach is nearer."""
    monkeypatch.setenv(PREFIX + "NOTIFICATION_HEALTH_ADDRESS", "0.0.0.0:8081")
    unknown = settings.unknown_variables()
    assert unknown[PREFIX + "NOTIFICATION_HEALTH_ADDRESS"] == PREFIX + "NOTIFICATION_ADMIN_ADDRESS"


def test_the_variables_that_kubernetes_sets_for_a_service_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = load()
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_50051_TCP", "PORT_50051_TCP_ADDR"):
        monkeypatch.setenv(PREFIX + name, "tcp://10.0.0.1:50051")
        assert settings.unknown_variables()[PREFIX + name] == ""
    assert load() == usual


def test_a_key_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("the key\n")
    assert secret_text(tmp_path / "key", "data_key_file") == "the key\n"


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    faults = {
        None: "expected the path of a file, is not set",
        tmp_path / "missing": f"expected a readable file at {tmp_path / 'missing'}: No such file",
        tmp_path: "Is a directory",
        tmp_path / "binary": "not a text file",
    }
    for path, expected in faults.items():
        with pytest.raises(ConfigurationError) as refusal:
            secret_text(path, "data_key_file")
        assert refusal.value.setting == PREFIX + "DATA_KEY_FILE"
        assert expected in refusal.value.expected
