"""What judges a run of `make chaos` finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys

from chaos.complaints import complaints
from processes import environment

_SAYS = """
from antom_payments import telemetry

telemetry.configure_logs("INFO", "json")
said = telemetry.logger("antom_payments.test")
said.info("all_is_well")
said.warning("database_trouble", exc_info=OSError())
said.warning("the event log cannot be read", error="StoreUnavailable")
said.error("antom_answer_untrusted", reason="unsigned")
said.error("contradiction")
said.error("notification", outcome="error", reason="store_unavailable")
print("{")
"""
_COMPLAINS = """
said.error("notification", outcome="error", reason="unexpected", exc_info=KeyError("hunter2"))
said.error("call_failed", rpc_method="/hunter2")
said.error("call_failed", rpc_method="/another")
said.warning("the event log cannot be read", error="KeyError", exc_info=KeyError())
raise KeyError
"""


def said_by(program: str) -> str:
    """What a process prints that says so much with the product's own loggers."""
    ended = subprocess.run(
        (sys.executable, "-c", program),
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout


def test_what_attacks_are_met_with_is_no_complaint() -> None:
    said = said_by(_SAYS)
    assert '"contradiction"' in said
    refused = "Traceback:\n  File\nantom_payments.errors.SchemaOutdated: the schema is too old\n"
    assert complaints({"a server": said + refused}, {}) == []


def test_errors_that_no_fault_explains_are_found_once_each_and_show_no_secret() -> None:
    found = complaints({"a server": said_by(_SAYS + _COMPLAINS)}, {"a password": "hunter2"})
    assert [one.partition(":")[0] for one in found] == [
        "a server said 1 times notification",
        "a server said 2 times call_failed",
        "a server said 1 times the event log cannot be read",
        "a server said 1 times what is no log line",
    ]
    assert "/(a password)" in found[1]
    assert "hunter2" not in "".join(found)
    assert found[-1].endswith("KeyError")
    assert max(map(len, found)) < 400
