"""A few faults on a real town: the harness of `make chaos` works, and the product holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc
import httpx
import pytest

from antom_payments.antom.signing import (
    SignatureInvalid,
    Signer,
    load_private_key,
    load_public_key,
)
from antom_payments.client import ClientError
from antom_payments.client.errors import CallFailed, Details
from antom_payments.emulator import BuyerAction, Emulator, EmulatorOptions, Step, emulator_app
from antom_payments.emulator.requests import SessionRequest
from chaos import books, load, report
from chaos.accepted import Accepted, ChangingVerifier
from chaos.asks import Asks
from chaos.board import Board
from chaos.campaign import Outcome, Tally, all_faults, run, schedule
from chaos.load import Load
from chaos.town import Town
from chaos.watch import lapsed_early
from keys import golden_pair
from whole import CLIENT_ID

SHORT = (
    "kill -9: server: before commit",
    "kill -9: sidecar: event inserted",
    "kill -9: sidecar: committed, Antom not answered",
    "kill -9: pruning: events deleted, not committed",
    "SIGTERM: server",
    "network: server and PostgreSQL: cut",
    "PostgreSQL: all sessions terminated",
    "Antom: answers lost, what was asked is done",
    "callers and strangers: forged notifications",
    "callers and strangers: a subscriber's program restarted",
    "clock: a sidecar's clock +240 s",
    "version: kill -9 in the middle of a migration",
)


def named(fault: Any) -> str:
    return f"{fault.group}: {fault.name}"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_town_under_attack_loses_doubles_and_invents_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [fault for fault in all_faults() if named(fault) in SHORT]
    assert len(chosen) == len(SHORT)
    outcome = await run(tmp_path, faults=chosen, seed=1, per_second=8.0, say=print)
    told = report.as_text(outcome) + capsys.readouterr().out
    assert outcome.all_violations == [], told
    assert outcome.not_injected == [], told
    assert outcome.injected == len(SHORT), told
    assert outcome.figures["payments"], told


def test_a_schedule_is_repeated_by_its_seed_and_leaves_no_kind_out() -> None:
    faults = all_faults()
    count = len(faults) + 7
    chosen = schedule(faults, count, Random(4))
    assert chosen == schedule(faults, count, Random(4))
    assert len(chosen) == count
    assert set(map(named, chosen)) == set(map(named, faults))


def test_every_fault_has_a_name_of_its_own() -> None:
    names = list(map(named, all_faults()))
    assert len(set(names)) == len(names)


PAGE = "Before.\n<!-- the last run -->\nold\n<!-- its end -->\nAfter.\n"


@pytest.mark.parametrize("of", [report.as_text, lambda outcome: report.as_page(outcome, PAGE)])
def test_a_report_names_what_did_not_hold(of: Callable[[Outcome], str]) -> None:
    fault = all_faults()[0]
    tally = Tally(fault, recoveries=[0.5, 2.0], violations=["I4: a gap"])
    outcome = Outcome(7, {named(fault): tally}, violations=["I1: lost"])
    told = of(outcome)
    assert "2 faults, 2 violations, 0 not injected, seed 7" in told
    assert "1 violations" in told
    assert "2.00" in told


def test_a_page_keeps_what_is_around_the_last_run() -> None:
    page = report.as_page(Outcome(7), PAGE)
    assert "old" not in page
    assert page.startswith("Before.\n")
    assert page.endswith("\nAfter.\n")
    assert report.as_page(Outcome(7), page) == page


def test_calls_to_antom_for_one_id_at_the_same_time_are_found(tmp_path: Path) -> None:
    lines = {
        "server-0": (
            *("both 1.0 2.0 0.0", "after 1.0 2.0 0.0", "leapt 1.0 2.0 0.0", "late 1.0 9.0 0.0"),
            *("third 1.0 3.9 0.0", "third 2.0 2.1 0.0"),
        ),
        "server-1": (
            *("both 1.5 2.5 0.0", "after 2.0 3.0 0.0", "leapt 1.5 2.5 240", "late 4.5 5.0 0.0"),
            "third 1.5 1.6 240",
        ),
    }
    for who, told in lines.items():
        (tmp_path / f"{who}.asks").write_text("\n".join(told))
    asks = Asks(tmp_path)
    assert asks.wrong([20.0]) == [
        "I5: both was asked for by server-0 and server-1 at the same time",
        # Not only by its neighbour, which a clock excuses.
        "I5: third was asked for by server-0 and server-0 at the same time",
    ]
    # A lease that was taken before all clocks leapt was over after it.
    assert asks.wrong([0.9]) == []


def test_antom_accepts_the_keys_that_it_is_told_to(tmp_path: Path) -> None:
    keys = [golden_pair(name) for name in ("merchant", "antom")]
    accepted = Accepted(tmp_path)
    verifier = ChangingVerifier(
        [load_public_key(key.public, setting="test") for key in keys], accepted
    )

    def verify(key: str) -> str:
        signer = Signer(load_private_key(key, setting="test"), "client")
        header = signer.signature_header("POST", "/a", "2026-01-01T00:00:00Z", b"{}")
        return verifier.verify(
            method="POST",
            uri="/a",
            client_id="client",
            time="2026-01-01T00:00:00Z",
            body=b"{}",
            signature_header=header,
        )

    assert len({verify(key.private) for key in keys}) == 2
    accepted.put([1])
    verify(keys[1].private)
    with pytest.raises(SignatureInvalid):
        verify(keys[0].private)


@dataclass
class Place:
    """A town of nothing but Antom."""

    town: Town
    antom: Emulator

    def opened(self, name: str) -> None:
        """A session at Antom, for an hour."""
        body = {
            "productCode": "CASHIER_PAYMENT",
            "paymentRequestId": name,
            "order": {"referenceOrderId": name, "orderDescription": "tea", "orderAmount": _TEA},
            "paymentAmount": _TEA,
            "paymentMethod": {"paymentMethodType": "GCASH"},
            "paymentRedirectUrl": "https://shop.example/return",
        }
        request = SessionRequest.model_validate(body)
        self.antom.create_payment_session(CLIENT_ID, request)

    def acts(self, name: str, step: Step) -> None:
        self.antom.play_buyer(name, BuyerAction(action=step))


_TEA = {"currency": "SGD", "value": "4200"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    nothing: Any = None
    town = Town(tmp_path, nothing, 1, Board(tmp_path / "board"), nothing)
    town.process("emulator", "emulator")
    merchant = load_public_key(golden_pair("merchant").public, setting="test")
    options = EmulatorOptions(
        antom_private_key=load_private_key(golden_pair("antom").private, setting="test"),
        merchant_public_keys={CLIENT_ID: [merchant]},
        clock=town.antom_now,
    )
    app = emulator_app(options)
    async with contextlib.AsyncExitStack() as parts:
        antom = await parts.enter_async_context(app.state.emulator.running())
        transport = httpx.ASGITransport(app)
        vars(town)["http"] = await parts.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://antom/emulator")
        )
        yield Place(town, antom)


def refusal(reason: str) -> ClientError:
    return CallFailed(grpc.StatusCode.FAILED_PRECONDITION, details=Details(reason=reason))


async def told_by(place: Place, name: str, reason: str) -> list[str]:
    """What is wrong with an answer that tells the caller of a payment to take another id."""
    nobody: Any = None
    callers = Load(place.town, nobody, Random(1), 1.0)
    await callers.sent_away(name, refusal(reason))
    assert callers.refused == {name: reason}
    return callers.unexpected


async def test_who_is_told_to_take_another_id_can_pay_no_more(place: Place) -> None:
    reason = "NEW_PAYMENT_REQUEST_ID_NEEDED"
    for name, step in (("over", Step.DECLINE), ("paid", Step.APPROVE), ("left", Step.ABANDON)):
        place.opened(name)
        place.acts(name, step)
    place.opened("open")

    assert await told_by(place, "over", reason) == []
    for name, stands in (
        ("paid", "SUCCESS"),
        ("left", "PROCESSING"),
        ("open", "not paid yet"),
        ("nothing", "not known"),
    ):
        assert await told_by(place, name, reason) == [f"{name} needs a new id, at Antom {stands}"]
    place.town.pass_time(3600 + 14 * 60)
    assert await told_by(place, "open", reason) == []
    assert await told_by(place, "left", reason) == []


@pytest.mark.parametrize("name", ["over", "nothing"])
async def test_no_session_is_refused_for_good_that_antom_never_refuses(
    place: Place, name: str
) -> None:
    place.opened("over")
    place.acts("over", Step.DECLINE)
    [wrong] = await told_by(place, name, "SESSION_REFUSED")
    assert (
        wrong == "create FAILED_PRECONDITION SESSION_REFUSED: FAILED_PRECONDITION SESSION_REFUSED"
    )


@pytest.mark.parametrize("operations", [0, 1])
async def test_a_slow_machine_is_not_taken_for_one_where_nothing_flows(
    place: Place, monkeypatch: pytest.MonkeyPatch, operations: int
) -> None:
    monkeypatch.setattr(load, "_FLOWING_SECONDS", 0.2)
    nobody: Any = None
    callers = Load(place.town, nobody, Random(1), 15.0)
    for _ in range(operations):
        asyncio.get_running_loop().call_soon(callers._count, "create")
    with contextlib.nullcontext() if operations else pytest.raises(TimeoutError):
        await callers.flowing()


class Refusing:
    """A service that tells each caller at once to take another id."""

    async def create_session(self, *_: Any, **__: Any) -> Any:
        raise refusal("NEW_PAYMENT_REQUEST_ID_NEEDED")


async def test_a_caller_with_an_answer_gave_up_never_however_slow_antoms_books_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.opened("over")
    place.acts("over", Step.DECLINE)
    # Whatever a caller waits for is too late for it, and Antom's books do not come at once.
    monkeypatch.setattr(load, "_TIRED_SECONDS", 0.0)
    place.town.http.event_hooks = {"request": [lambda _: asyncio.sleep(0)]}
    service: Any = Refusing()
    callers = Load(place.town, service, Random(1), 1.0)
    assert not await callers._create("over", "CARD")
    assert (callers.given_up, callers.unexpected) == ([], [])
    assert callers.refused == {"over": "NEW_PAYMENT_REQUEST_ID_NEEDED"}


async def test_what_may_yet_be_paid_has_not_lapsed(place: Place) -> None:
    for name in ("open", "paid", "pending", "declined"):
        place.opened(name)
    place.acts("paid", Step.APPROVE)
    place.acts("pending", Step.PENDING)
    place.acts("declined", Step.DECLINE)
    names = {"open", "paid", "pending", "declined", "nothing"}

    async def early() -> list[str]:
        pages = await books.pages(place.town.http)
        found = lapsed_early(names, pages, place.town.antom_now())
        return [one.split()[1] for one in found]

    assert await early() == ["open", "paid", "pending"]
    place.town.pass_time(3600 + 13 * 60)
    assert "open" in await early()
    place.town.pass_time(61)
    assert await early() == ["paid", "pending"]
