"""The operator's commands, typed: what they do, say and leave in the audit."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from antom_payments.app import grpc_server
from antom_payments.emulator import AnswerFault, BuyerAction, FaultPlan, Step
from antom_payments.emulator.faults import AnswerFaultKind
from antom_payments.fact import OUTSIDE_WINDOW, FactKind, Notification
from antom_payments.money import Money
from antom_payments.operations import LONGEST_WHY
from antom_payments.payment import PaymentState, Source
from antom_payments.settings import PREFIX, Settings
from antom_payments.storage import payment_store, wall_clock
from antom_payments.store import Member, OrphanState, PaymentStore
from databases import SQLITE
from facts import a_capture, a_notification, a_payment_fact
from notifications.sidecars import message, seed_payment
from processes import Ended, Typed, as_environment, environment, run, typing
from stored import rows, whole_log
from whole import SessionWish, caller, local_antom, settings

BODY = message("03")
"""PAYMENT_RESULT of `paymentRequestId01`, for SGD 42.00."""
PAYMENT = "paymentRequestId01"
VISA = "4111 1111 1111 1111"
Types = Callable[..., Any]
ON_SQLITE = pytest.mark.parametrize("database_url", [SQLITE], indirect=True)
"""For what is the same whatever the database is."""


@pytest.fixture
def chosen(tmp_path: Path, database_url: str) -> Settings:
    return settings(tmp_path, database_url=database_url)


@pytest.fixture
async def shop(chosen: Settings) -> AsyncIterator[PaymentStore]:
    """The store that the commands work on."""
    async with payment_store(chosen, wall_clock) as store:
        yield store


@pytest.fixture
def types(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Types]:
    """Types a command with the settings of `shop`; the logs that it sets up end with it."""
    root, ours = logging.getLogger(), logging.getLogger("antom_payments")
    kept = root.handlers[:], root.level, ours.level
    for name, value in environment(as_environment(chosen)).items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    typed: Typed = typing(monkeypatch, capsys)

    async def type_(*arguments: str) -> Ended:
        return await asyncio.to_thread(typed, *arguments)

    yield type_
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    ours.setLevel(kept[2])


def came(body: bytes = BODY, *, ago: timedelta = timedelta(0)) -> Notification:
    """A verified notification, sent ``ago`` and received now."""
    now = datetime.now(UTC)
    sent = (now - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    return a_notification(body, request_time=sent, received_time=now)


async def set_aside(
    store: PaymentStore, notification: Notification, reason: str = "unsupported_type:NEWS"
) -> str:
    """Quarantine a notification, as a version that did not understand it did; its id."""
    await store.apply([Member(None, notification, reason)])
    return notification.notification_id


async def audited(types: Types) -> list[tuple[str, str]]:
    records = json.loads((await types("audit", "list", "--json")).out)
    return [(record["action"], record["subject_id"]) for record in records]


async def test_a_quarantined_notification_from_its_list_to_its_event(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC))
    one = await set_aside(shop, came())
    listed = await types("quarantine", "list")
    assert listed.code == 0
    [head, line] = listed.out.splitlines()
    assert head.startswith("MERCHANT_ACCOUNT  NOTIFICATION_ID")
    assert one in line
    assert "unsupported_type:NEWS" in line
    [as_json] = json.loads((await types("quarantine", "list", "--json")).out)
    shown = await types("quarantine", "show", one)
    assert shown.out.splitlines()[0].split() == ["notification_id", one]
    assert json.loads((await types("quarantine", "show", one, "--json")).out) == as_json
    assert PAYMENT not in shown.out + listed.out + json.dumps(as_json)
    assert (await types("quarantine", "show", one, "--body")).out == BODY.decode()

    replayed = await types("quarantine", "replay", one, "--actor", "ada")
    assert (replayed.code, replayed.err) == (0, "")
    [_, event] = await whole_log(shop)
    assert event.payment.state is PaymentState.AUTHORIZED
    assert replayed.out.splitlines()[1].split() == [
        *(one, "APPLIED", "PAYMENT_AUTHORIZED", PAYMENT, event.event_id)
    ]
    assert replayed.out.endswith("replayed: 1 APPLIED\n")
    assert (await types("quarantine", "list")).out == "none\n"
    again = await types("quarantine", "replay", one)
    assert (again.code, "NOT_QUARANTINED" in again.out) == (1, True)
    assert len(await whole_log(shop)) == 2
    assert await audited(types) == [
        ("quarantine list", ""),
        ("quarantine list", ""),
        ("quarantine show", one),
        ("quarantine show", one),
        ("quarantine show", one),
        ("quarantine replay", one),
        ("quarantine list", ""),
    ]
    records = await shop.back_office.audit(None, 10)
    assert [record.detail["body"] for record in records[2:5]] == [False, False, True]
    assert records[5].actor == "ada"
    assert records[0].actor == pwd.getpwuid(os.getuid()).pw_name


async def test_everything_is_replayed_at_once_and_counted(shop: PaymentStore, types: Types) -> None:
    await seed_payment(shop, datetime.now(UTC))
    await set_aside(shop, came())
    await set_aside(shop, came(BODY + b" "), "another")
    await set_aside(shop, came(b"not JSON"))
    some = json.loads(
        (await types("quarantine", "replay", "--all", "--reason", "another", "--json")).out
    )
    assert some["counts"] == {"APPLIED": 1}
    done = await types("quarantine", "replay", "--all", "--json")
    assert done.code == 0
    assert json.loads(done.out)["counts"] == {"DUPLICATE": 1, "QUARANTINED": 1}
    assert len(await whole_log(shop)) == 2
    [left] = await shop.back_office.quarantined("", 10, actor="ada")
    assert left.reason == "not_json"
    none = await types("quarantine", "replay", "--all", "--reason", "another")
    assert (none.code, none.out.splitlines()[-1]) == (0, "replayed: nothing was quarantined")


@ON_SQLITE
async def test_a_replay_says_what_contradicts_as_the_sidecar_does(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC), amount=Money("SGD", 9900))
    one = await set_aside(shop, came())
    replayed = await types("quarantine", "replay", one)
    assert replayed.code == 0
    assert replayed.out.splitlines()[1].split()[:3] == [one, "APPLIED", "AMOUNT_MISMATCH"]
    [line] = [line for line in replayed.err.splitlines() if "[error" in line]
    assert "contradiction" in line
    assert "event_type=AMOUNT_MISMATCH" in line


@ON_SQLITE
async def test_late_news_is_held_back_unless_the_operator_takes_it_on_himself(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC))
    late = await set_aside(shop, came(ago=timedelta(hours=26)))
    held = await types("quarantine", "replay", late)
    assert held.code == 1
    assert "HELD_BACK" in held.out
    assert "`inquire` its payment" in held.err
    [stored] = await shop.back_office.quarantined(OUTSIDE_WINDOW, 10, actor="ada")
    assert (stored.fact_kind, stored.fact_outcome) == ("PAYMENT", "SUCCEEDED")
    assert len(await whole_log(shop)) == 1
    everything = await types("quarantine", "replay", "--all")
    assert (everything.code, "1 HELD_BACK" in everything.out) == (0, True)
    taken = await types("quarantine", "replay", late, "--accept-late")
    assert (taken.code, "APPLIED" in taken.out) == (0, True)
    assert len(await whole_log(shop)) == 2


@ON_SQLITE
async def test_late_news_that_is_understood_by_now_is_released_by_an_inquiry(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC))
    late = await set_aside(shop, came(ago=timedelta(hours=26)))
    await types("quarantine", "replay", late)
    [stored] = await shop.back_office.quarantined("", 10, actor="ada")
    told = a_payment_fact(
        payment_id=stored.payment_id,
        fact_id=stored.fact_id,
        payment_request_id=PAYMENT,
        source=Source.INQUIRY,
    )
    await shop.apply([Member(told)])
    assert (await types("quarantine", "list")).out == "none\n"


@ON_SQLITE
async def test_what_is_discarded_says_why_and_nothing_that_must_not_be_kept(
    shop: PaymentStore, types: Types
) -> None:
    one = await set_aside(shop, came())
    for why in ("", " ", "x" * (LONGEST_WHY + 1), f"card {VISA}", "ask ada@example.com", "a\x1bb"):
        refused = await types("quarantine", "discard", one, "--why", why)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("error: the reason ")
        assert not why.strip() or why not in refused.err
    assert await shop.back_office.audit(None, 10) == []
    done = await types("quarantine", "discard", one, "--why", " settled by hand, see CASE-7 ")
    assert (done.code, done.out) == (0, f"discarded {one}\n")
    again = await types("quarantine", "discard", one, "--why", "again")
    assert (again.code, again.err) == (1, f"error: {one} is DISCARDED, not QUARANTINED\n")
    [record] = await shop.back_office.audit(None, 10)
    assert record.detail == {
        "why": "settled by hand, see CASE-7",
        "reason": "unsupported_type:NEWS",
    }


@ON_SQLITE
async def test_what_is_not_there_is_told_with_exit_code_1(shop: PaymentStore, types: Types) -> None:
    for arguments, told in (
        (("show", "nothing"), "there is no notification nothing"),
        (("discard", "nothing", "--why", "x"), "there is no notification nothing"),
    ):
        ended = await types("quarantine", *arguments)
        assert (ended.code, ended.err) == (1, f"error: {told}\n")
    replayed = await types("quarantine", "replay", "nothing")
    assert (replayed.code, "NOT_FOUND" in replayed.out) == (1, True)
    erased = await types("erase", "nothing")
    assert (erased.code, erased.err) == (1, "error: there is no such payment\n")
    inquired = await types("inquire", "nothing")
    assert (inquired.code, inquired.err) == (1, "error: there is no such payment\n")
    unknown = await types("inquire", "--payment-id", "antom-1")
    assert unknown.code == 1
    assert unknown.err.startswith("error: no payment is known by the payment_id antom-1; ")
    stranger = await types("inquire", PAYMENT, "--merchant-account", "music")
    assert (stranger.code, stranger.err) == (1, "error: there is no merchant account 'music'\n")
    assert await shop.back_office.audit(None, 10) == []


async def test_a_payment_is_erased_and_its_bodies_can_no_longer_be_seen(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC))
    one = await set_aside(shop, came())
    done = await types("erase", PAYMENT)
    assert (done.code, done.out) == (0, "erased: 1 session, 1 notification bodies\n")
    again = await types("erase", PAYMENT, "--merchant-account", "default", "--json")
    assert json.loads(again.out) == {"sessions": 0, "notifications": 0}
    shown = await types("quarantine", "show", one, "--body")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err == f"error: the body of {one} was erased\n"
    replayed = await types("quarantine", "replay", one)
    assert (replayed.code, "ERASED" in replayed.out) == (1, True)


@ON_SQLITE
async def test_orphans_are_listed_by_where_they_stand(shop: PaymentStore, types: Types) -> None:
    for n in range(3):
        fact = a_capture(capture_id=f"C-{n}", payment_id=f"P-{n}")
        await shop.apply([Member(fact, a_notification())])
    await shop.end_orphans("default", "P-1", OrphanState.FOREIGN)
    listed = await types("orphans", "list")
    assert [line.split()[2] for line in listed.out.splitlines()[1:]] == ["C-0", "C-1", "C-2"]
    [foreign] = json.loads((await types("orphans", "list", "--state", "FOREIGN", "--json")).out)
    assert (foreign["kind"], foreign["payment_id"]) == (FactKind.CAPTURE, "P-1")
    assert (await types("orphans", "list", "--state", "ADOPTED")).out == "none\n"
    first = await types("orphans", "list", "--limit", "2")
    assert first.err == "there may be more than 2: see --limit\n"


async def test_inquiries_are_scheduled_for_what_changed_since(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC) - timedelta(hours=3))
    for n in range(3):
        await seed_payment(shop, datetime.now(UTC), payment_request_id=f"pay-{n}")
    some = await types("reinquire", "--since", "2h", "--limit", "2", "--json")
    assert json.loads(some.out)["scheduled"] == 2
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert (await types("reinquire", "--since", since)).out == "scheduled 4 inquiries\n"
    mine = await types("reinquire", "--since", "1d", "--merchant-account", "music")
    assert mine.out == "scheduled 0 inquiries\n"
    assert await rows(shop, "SELECT DISTINCT kind, phase FROM inquiries") == [
        ("PAYMENT", "PRESSING")
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("reinquire",), "--since"),
        (("inquire",), "expected the payment_request_id or --payment-id"),
        (("inquire", "pay-1", "--payment-id", "1"), "and not both"),
        (("reinquire", "--since", "2026-03-02"), "expected 2026-03-02T09:30:00Z"),
        (("reinquire", "--since", "yesterday"), "expected 2026-03-02T09:30:00Z"),
        (("reinquire", "--since", "2999-01-01T00:00:00Z"), "lies in the future"),
        (("quarantine", "replay"), "expected ids, or --all"),
        (("quarantine", "replay", "n-1", "--all"), "expected ids, or --all"),
        (("quarantine", "replay", "n-1", "--reason", "x"), "expected ids, or --all"),
        (("quarantine", "show", "n-1", "--body", "--json"), "exact bytes"),
        (("quarantine", "discard", "n-1"), "--why"),
        (("orphans", "list", "--state", "LOST"), "--state"),
        (("orphans", "list", "--limit", "0"), "--limit"),
        (("quarantine", "list", "--actor", "a" * 129), "--actor"),
        (("quarantine", "list", "--actor", "a\nb"), "--actor"),
        (("reinquire", "--since", "1h", "--merchant-account", "m" * 65), "--merchant-account"),
    ],
)
def test_wrong_usage_of_an_operators_command_is_explained(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    ended = typing(monkeypatch, capsys)(*arguments)
    assert ended.code == 2
    assert told in ended.err


@pytest.mark.parametrize(
    "command",
    [
        ("quarantine", "list"),
        ("orphans", "list"),
        ("audit", "list"),
        ("erase", "pay-1"),
        ("inquire", "pay-1"),
        ("reinquire", "--since", "1h"),
        ("prune", "--dry-run"),
        ("rotate-data-key", "--check"),
    ],
)
@ON_SQLITE
async def test_a_database_that_is_not_there_is_neither_made_nor_taken_for_an_empty_one(
    types: Types, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    file = tmp_path / "wrong.db"
    monkeypatch.setenv(PREFIX + "DATABASE_URL", f"sqlite:///{file}")
    missing = await types(*command)
    assert (missing.code, missing.out) == (2, "")
    assert missing.err == (
        f"error: {PREFIX}DATABASE_URL: expected an existing database, there is no file {file}\n"
    )
    assert not file.exists()
    file.touch()
    empty = await types(*command)
    assert (empty.code, empty.out) == (1, "")
    assert empty.err.startswith("error: the database schema is empty, ")
    assert empty.err.endswith("run `antom-payments migrate`\n")


@ON_SQLITE
async def test_a_terminal_does_not_obey_what_antom_names_its_things(
    shop: PaymentStore, types: Types
) -> None:
    await shop.apply([Member(a_capture(capture_id="C\x1b[2J"), a_notification())])
    listed = await types("orphans", "list")
    assert "C\N{REPLACEMENT CHARACTER}[2J" in listed.out
    as_json = await types("orphans", "list", "--json")
    assert "\x1b" not in listed.out + as_json.out
    assert json.loads(as_json.out)[0]["fact_id"] == "C\x1b[2J"


@ON_SQLITE
async def test_a_user_without_a_name_is_recorded_by_number(
    shop: PaymentStore, types: Types, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_number: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    await types("orphans", "list")
    [record] = await shop.back_office.audit(None, 10)
    assert record.actor.startswith("uid-")


@ON_SQLITE
async def test_an_inquiry_that_finds_nobody_is_in_the_audit_all_the_same(
    shop: PaymentStore, types: Types
) -> None:
    await seed_payment(shop, datetime.now(UTC))
    ended = await types("inquire", PAYMENT)
    assert ended.code == 1
    assert ended.err.endswith("error: Antom cannot be reached\n")
    [record] = await shop.back_office.audit(None, 10)
    assert (record.action, record.subject_id) == ("inquire", PAYMENT)
    assert record.detail == {"state": "AWAITING_BUYER", "version": 1}


async def test_processes_of_their_own_ask_antom_and_look_after_the_quarantine(
    tmp_path: Path,
) -> None:
    """What Antom never told is found by `inquire`; codes and words reach the shell."""
    wish = SessionWish(
        payment_request_id="pay-1",
        minor_units=4200,
        currency_code="SGD",
        reference_order_id="order-1",
    )
    async with local_antom() as (antom, antom_url):
        chosen = settings(tmp_path, antom_url=antom_url)
        async with grpc_server(chosen) as server, caller(server.port) as payments:
            await payments.create_session(wish.request())
            antom.play_buyer("pay-1", BuyerAction(action=Step.APPROVE))
            await antom.timeline.advance(60)
            known = as_environment(chosen)
            inquired, listed, missing, usage = await asyncio.gather(
                run("inquire", "pay-1", "--json", "--actor", "ada", settings=known),
                run("quarantine", "list", "--json", settings=known),
                run("quarantine", "show", "nothing", settings=known),
                run("quarantine", "discard", "nothing", settings=known),
            )
        assert inquired.code == 0, inquired.err
        told = json.loads(inquired.out)
        assert told["before"]["state"] == "AWAITING_BUYER"
        assert told["after"]["state"] == "SUCCEEDED"
        by_antoms_id = ("inquire", "--payment-id", told["after"]["payment_id"])
        again = await run(*by_antoms_id, settings=known)
        assert again.out.splitlines()[-1] == "nothing new"
        lost = AnswerFault(fault=AnswerFaultKind.HTTP_500)
        antom.add_faults(FaultPlan(answers=(lost,)))
        silent = await run("inquire", "pay-1", settings=known | {"antom_budget_seconds": "1"})
        assert silent.code == 1
        assert silent.err.splitlines()[-1] == "error: Antom did not answer: try again"
        assert "antom_call_failed" in silent.err
        assert "{'" not in silent.err
    assert (listed.code, json.loads(listed.out), listed.err) == (0, [], "")
    assert (missing.code, usage.code) == (1, 2)
    assert missing.err == "error: there is no notification nothing\n"
    async with payment_store(chosen, wall_clock) as store:
        records = await store.back_office.audit(None, 10)
    assert sorted(record.action for record in records) == ["inquire"] * 3 + ["quarantine list"]
    assert "ada" in {record.actor for record in records}
