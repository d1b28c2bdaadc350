"""Tables of the documentation that are made from code; run this file to rewrite them in place.

A table stands between two comments, `<!-- NAME: made by make docs -->` and `<!-- NAME: end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from antom_fields import fields_rows
from antom_payments.money import Money
from antom_payments.payment import STEPS, EventType, Payment, PaymentState
from antom_payments.sdk_event import SdkEventCode, next_step
from antom_payments.settings import Settings, variable
from bench import report
from chart_docs import CHART, SCHEMA, rows_of_settings, rows_of_values, schema_text
from metrics_docs import rows_of_metrics
from mutants.broken import breakages
from mutants.mutation import TARGETS, file_of

ROOT = Path(__file__).parent.parent
FIGURES, PICTURE = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.svg"


def settings_table() -> str:
    """Every setting, its default and what it does."""
    rows = []
    for name, field in Settings.model_fields.items():
        shown = _default(field.get_default(call_default_factory=True))
        rows.append((f"`{variable(name)}`", f"`{shown}`" if shown else "", field.description or ""))
    return _table(("variable", "default", "meaning"), rows)


def steps_table() -> str:
    """Every step of the domain: the state after each news in each state."""
    states = list(PaymentState)
    rows = []
    for news in EventType:
        if news in STEPS:
            # A refusal of a payment that went on is no news of it.
            otherwise = "not told" if news is EventType.SESSION_REFUSED else "contradiction"
            cells = [_step(state, STEPS[news].get(state), otherwise) for state in states]
            rows.append((f"`{news}`", *cells))
    return _table(("news", *(f"in `{state}`" for state in states)), rows)


def fields_table() -> str:
    """Each field of Antom's createPaymentSession, and ours, or why there is none."""
    return _table(("Antom's field", "antom-api", "ours"), fields_rows())


def sdk_events_table() -> str:
    """What follows from each event code of Antom's client SDKs, by the state of the payment."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    states = {
        "before submitting": PaymentState.AWAITING_BUYER,
        "in `PROCESSING`": PaymentState.PROCESSING,
        "in `AUTHORIZED`, `SUCCEEDED`": PaymentState.SUCCEEDED,
        "in `FAILED`, `CANCELLED`, `EXPIRED`": PaymentState.FAILED,
    }
    payments = [
        Payment(
            merchant_account="",
            payment_request_id="",
            amount=Money("SGD", 1),
            reference_order_id="",
            payment_method_type="",
            capture_mode="",
            capture_expected=None,
            create_time=begin,
            update_time=begin,
            state=state,
            payment_session_expiry_time=begin + timedelta(hours=1),
        )
        for state in states.values()
    ]
    rows = [
        (
            f"`{code}`",
            "yes" if code.may_be_news else "",
            *(f"`{next_step(payment, code, begin)}`" for payment in payments),
        )
        for code in SdkEventCode
    ]
    return _table(("event code", "asked", *states), rows)


def metrics_table() -> str:
    """Every metric, its labels and what it is for."""
    head = ("name, and Prometheus' name", "kind", "unit", "labels", "meaning", "process", "alert")
    return _table(head, rows_of_metrics())


def chart_values_table() -> str:
    """Every value of the chart, its default and what it does."""
    rows = [(f"`{path}`", f"`{json.dumps(value)}`", told) for path, value, told in rows_of_values()]
    return _table(("value", "default", "meaning"), rows)


def chart_settings_table() -> str:
    """Every setting that the chart hands on and has no default of its own for."""
    rows = [(f"`{path}`", f"`{_default(value)}`", told) for path, value, told in rows_of_settings()]
    return _table(("value", "default of the service", "meaning"), rows)


def figures_table() -> str:
    """The figures that were published last, and what they were measured on."""
    return report.markdown(figures())


def figures() -> report.Results:
    """The results of `make bench` that `make bench-docs` published last."""
    results: report.Results = json.loads(FIGURES.read_text("utf-8"))
    return results


def breakages_table() -> str:
    """Every deliberate breakage of the core, and the test that catches it."""
    rows = [
        (f"`{one.name}`", one.breaks, one.promise, ", ".join(f"`{test}`" for test in one.tests))
        for one in breakages()
    ]
    return _table(("mutant", "what it breaks", "the promise", "caught by"), rows)


def modules_table() -> str:
    """Which modules are changed in small ways, and the tests that must notice."""
    rows = [
        (f"`{file_of(module).relative_to(ROOT)}`", ", ".join(f"`{test}`" for test in tests))
        for module, tests in TARGETS.items()
    ]
    return _table(("module", "tests"), rows)


TABLES: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    ROOT / "README.md": {"settings": settings_table},
    ROOT / "docs" / "benchmarks.md": {"figures": figures_table},
    ROOT / "docs" / "client-sdks.md": {"sdk-events": sdk_events_table},
    ROOT / "docs" / "fields.md": {"fields": fields_table},
    ROOT / "docs" / "metrics.md": {"metrics": metrics_table},
    ROOT / "docs" / "mutants.md": {"breakages": breakages_table, "modules": modules_table},
    ROOT / "docs" / "states.md": {"steps": steps_table},
    CHART / "README.md": {"values": chart_values_table, "settings": chart_settings_table},
}
"""Which file holds which tables."""


def with_tables(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """``text`` with its tables made anew. Raises LookupError when a table has no place in it."""
    for name, make in tables.items():
        begin, end = f"<!-- {name}: made by make docs -->", f"<!-- {name}: end -->"
        place = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
        if not place.search(text):
            raise LookupError(f"there is no place for the table {name}")
        fresh = f"{begin}\n{make()}\n{end}"
        text = place.sub(lambda _, fresh=fresh: fresh, text)
    return text


def _step(before: PaymentState, after: PaymentState | None, otherwise: str) -> str:
    if after is None:
        return otherwise
    return "stays" if after is before else f"→ `{after}`"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value in (None, ()) else str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def main() -> int:
    for file, tables in TABLES.items():
        file.write_text(with_tables(file.read_text("utf-8"), tables), "utf-8")
    SCHEMA.write_text(schema_text(), "utf-8")
    PICTURE.write_text(report.picture(figures()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
