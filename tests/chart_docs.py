"""What of the chart is made from code and values: its tables, and its schema of the settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from antom_payments.settings import Settings

CHART = Path(__file__).parent.parent / "deploy" / "helm" / "antom-payments"
VALUES, SCHEMA = CHART / "values.yaml", CHART / "values.schema.json"

OF_THE_CHART = frozenset(
    {
        *("database_url", "database_url_file", "data_key_file", "merchant_private_key_file"),
        *("antom_public_key_files", "grpc_address", "notification_address"),
        *("admin_address", "notification_admin_address", "notification_path"),
    }
)
"""Settings that the chart sets from its Secrets and ports: `settings` refuses them."""

_KEPT = (
    *("type", "enum", "pattern", "description", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum"),
)


def value_of(setting: str) -> str:
    """The key of a setting below `settings`: drain_delay_seconds is drainDelaySeconds."""
    first, *rest = setting.split("_")
    return first + "".join(word.capitalize() for word in rest)


def rows_of_values() -> Iterator[tuple[str, object, str]]:
    """Path, default and comment of each value that has a comment `# -- …`, in their order."""
    path: list[str] = []
    comment = ""
    for line in VALUES.read_text("utf-8").splitlines():
        if found := re.fullmatch(r"\s*# -- (.+)", line):
            comment = found[1]
        elif found := re.match(r"( *)(\w+):", line):
            path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield ".".join(path), value_at(tuple(path)), comment
                comment = ""


def value_at(path: tuple[str, ...]) -> object:
    """The default of a value."""
    value: Any = yaml.safe_load(VALUES.read_text("utf-8"))
    for key in path:
        value = value[key]
    return value


def rows_of_settings() -> Iterator[tuple[str, object, str]]:
    """Key, default and meaning of each setting that values.yaml leaves to the service."""
    named = value_at(("settings",))
    assert isinstance(named, dict)
    for name, field in Settings.model_fields.items():
        if name not in OF_THE_CHART and value_of(name) not in named:
            yield f"settings.{value_of(name)}", field.default, field.description or ""


def schema_text() -> str:
    """values.schema.json with the settings of today."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    fields = Settings.model_json_schema()["properties"]
    schema["properties"]["settings"]["properties"] = {
        value_of(name): {key: field[key] for key in _KEPT if key in field}
        for name, field in fields.items()
        if name not in OF_THE_CHART
    }
    return json.dumps(schema, indent=2) + "\n"
