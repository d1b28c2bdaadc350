"""What can go wrong between Antom and a merchant, on purpose: described, counted and drawn.

A fault names what it spoils (an operation's answers, or a type of notifications), for which
payment, how many times and how probably. Whether it strikes is drawn from the seed, its own number,
the payment and how often it met it: one seed repeats one run, also when calls overtake each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

_LONGEST_DELAY_SECONDS = 7 * 86_400
_MOST_COPIES = 100


class AnswerFaultKind(StrEnum):
    """How an answer goes wrong."""

    DROP = "DROP"
    """The connection is cut in place of the answer."""
    DELAY = "DELAY"
    """The answer leaves later, by Antom's clock."""
    HTTP_500 = "HTTP_500"
    HTTP_503 = "HTTP_503"
    UNKNOWN = "UNKNOWN"
    """A signed U, UNKNOWN_EXCEPTION."""
    THROTTLED = "THROTTLED"
    """A signed U, REQUEST_TRAFFIC_EXCEED_LIMIT."""
    GARBAGE = "GARBAGE"
    """HTTP 200 with a page that some proxy made."""
    UNSIGNED = "UNSIGNED"
    """The true answer without a signature, S included."""
    BADLY_SIGNED = "BADLY_SIGNED"
    """The true answer with a signature of something else."""
    NEXT_KEY = "NEXT_KEY"
    """The true answer, signed with the key that Antom rotates to."""
    WRONG_CLIENT_ID = "WRONG_CLIENT_ID"
    """The true answer, signed in the name of another client."""


_A = AnswerFaultKind
_IN_PLACE_OF_THE_ANSWER = frozenset(
    {_A.DROP, _A.HTTP_500, _A.HTTP_503, _A.UNKNOWN, _A.THROTTLED, _A.GARBAGE}
)


class NotificationFaultKind(StrEnum):
    """How a notification goes wrong."""

    WITHHOLD = "WITHHOLD"
    """It is never sent."""
    DUPLICATE = "DUPLICATE"
    """Copies leave with it, each until it is acknowledged."""
    DELAY = "DELAY"
    """It leaves later, by Antom's clock."""
    REORDER = "REORDER"
    """It waits until the next notification of its payment was tried."""
    OTHER_AMOUNT = "OTHER_AMOUNT"
    """It names ten times the payment's amount, under Antom's own signature."""
    DROP = "DROP"
    """An attempt is lost on its way; the next one comes by Antom's schedule."""
    BADLY_SIGNED = "BADLY_SIGNED"
    """An attempt has a signature of something else."""
    NEXT_KEY = "NEXT_KEY"
    """An attempt is signed with the key that Antom rotates to."""


_N = NotificationFaultKind
OF_THE_SENDING = frozenset({_N.WITHHOLD, _N.DUPLICATE, _N.DELAY, _N.REORDER, _N.OTHER_AMOUNT})
"""Strike once per notification."""
OF_AN_ATTEMPT = frozenset({_N.DROP, _N.BADLY_SIGNED, _N.NEXT_KEY})
"""Strike at each attempt to deliver it."""


class _Fault(BaseModel):
    """What faults have in common.

    `payment_request_id` is the only payment it strikes (all, when it is not given), `times` how
    often it strikes in all (always, when it is not given), `probability` how likely it does each
    time, from 0 to 1.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    payment_request_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0


class AnswerFault(_Fault):
    """A fault of answers. `operation` is the only one it strikes.

    `takes_effect` is whether Antom did what was asked before the answer was lost or replaced; a
    spoilt or late answer always tells of something done. `delay_seconds` belongs to DELAY.
    """

    fault: AnswerFaultKind
    operation: Literal["createPaymentSession", "inquiryPayment"] | None = None
    takes_effect: bool = False
    delay_seconds: Annotated[float, Field(gt=0, le=_LONGEST_DELAY_SECONDS)] | None = None

    @property
    def replaces_the_answer(self) -> bool:
        """Whether the true answer is not seen at all."""
        return self.fault in _IN_PLACE_OF_THE_ANSWER

    @model_validator(mode="after")
    def _has_no_idle_words(self) -> AnswerFault:
        _require(self.delay_seconds, "delaySeconds", is_needed=self.fault is _A.DELAY)
        if self.takes_effect and not self.replaces_the_answer:
            raise ValueError(f"takesEffect: {self.fault} always does")
        if self.takes_effect and self.fault is _A.THROTTLED:
            raise ValueError("takesEffect: a throttled call never does")
        return self


class NotificationFault(_Fault):
    """A fault of notifications. `notify_type` is the only one it strikes.

    `copies` belongs to DUPLICATE: how many more than one. `delay_seconds` belongs to DELAY; for
    REORDER it is the longest wait for the next notification.
    """

    fault: NotificationFaultKind
    notify_type: Literal["PAYMENT_RESULT", "PAYMENT_PENDING", "CAPTURE_RESULT"] | None = None
    copies: Annotated[int, Field(ge=1, le=_MOST_COPIES)] | None = None
    delay_seconds: Annotated[float, Field(gt=0, le=_LONGEST_DELAY_SECONDS)] | None = None

    @model_validator(mode="after")
    def _has_no_idle_words(self) -> NotificationFault:
        _require(self.copies, "copies", is_needed=self.fault is _N.DUPLICATE)
        late = self.fault in {_N.DELAY, _N.REORDER}
        _require(self.delay_seconds, "delaySeconds", is_needed=late)
        return self


class FaultPlan(BaseModel):
    """Faults to come: what `/emulator/faults` takes, and what a file for `--faults` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    answers: tuple[AnswerFault, ...] = ()
    notifications: tuple[NotificationFault, ...] = ()

    @property
    def needs_the_next_key(self) -> bool:
        """Whether a fault signs with the key that Antom rotates to."""
        of_answers = any(one.fault is _A.NEXT_KEY for one in self.answers)
        return of_answers or any(one.fault is _N.NEXT_KEY for one in self.notifications)


def charged_but_no_answer(payment_request_id: str | None = None) -> FaultPlan:
    """Sessions are made and buyers charged, and the merchant gets neither answer nor notification.

    Only inquiryPayment tells it. Of one payment, or of all.
    """
    return FaultPlan(
        answers=(
            AnswerFault(
                fault=AnswerFaultKind.DROP,
                operation="createPaymentSession",
                takes_effect=True,
                payment_request_id=payment_request_id,
            ),
        ),
        notifications=(
            NotificationFault(
                fault=NotificationFaultKind.WITHHOLD, payment_request_id=payment_request_id
            ),
        ),
    )


Fault = TypeVar("Fault", AnswerFault, NotificationFault)


@dataclass(slots=True)
class ActiveFault(Generic[Fault]):
    """A fault and what it has done."""

    number: int
    """From 1, in the order of adding; answers and notifications share the numbers."""
    fault: Fault
    struck: int = 0
    _met: Counter[tuple[str, str]] = field(default_factory=Counter)

    def strikes(self, seed: int, payment_request_id: str, what: str) -> bool:
        """Draw whether it strikes now, and count it."""
        if self.fault.payment_request_id not in {None, payment_request_id}:
            return False
        if self.fault.times is not None and self.struck >= self.fault.times:
            return False
        self._met[payment_request_id, what] += 1
        met = self._met[payment_request_id, what]
        drawn = Random(f"{seed} {self.number} {payment_request_id} {what} {met}").random()
        strikes = drawn < self.fault.probability
        self.struck += strikes
        return strikes


class Faults:
    """The faults of an emulator; of several that fit, the first that strikes is the one.

    Args:
        plan: what is there from the start, and again after `reset`.
        seed: decides what is left to probability; None draws one.
    """

    def __init__(self, plan: FaultPlan, seed: int | None) -> None:
        self.seed = Random().getrandbits(32) if seed is None else seed
        self.answers: list[ActiveFault[AnswerFault]] = []
        self.notifications: list[ActiveFault[NotificationFault]] = []
        self._plan = plan
        self._numbers = 0
        self.add(plan)

    def add(self, plan: FaultPlan) -> None:
        """Add faults to those that are there."""
        for answer in plan.answers:
            self.answers.append(ActiveFault(self._number(), answer))
        for notification in plan.notifications:
            self.notifications.append(ActiveFault(self._number(), notification))

    def clear(self) -> None:
        """Let everything go right from now on."""
        self.answers.clear()
        self.notifications.clear()

    def reset(self) -> None:
        """Begin again, with the plan of the start."""
        self.clear()
        self._numbers = 0
        self.add(self._plan)

    def of_answer(self, operation: str, payment_request_id: str) -> AnswerFault | None:
        """How the answer to this call goes wrong; None when it does not."""
        fitting = [one for one in self.answers if one.fault.operation in {None, operation}]
        return self._first(fitting, payment_request_id, operation)

    def of_notification(
        self, notify_type: str, payment_request_id: str, kinds: Collection[NotificationFaultKind]
    ) -> NotificationFault | None:
        """How this notification goes wrong, in one of the ways ``kinds``; None when it does not."""
        fitting = [
            one
            for one in self.notifications
            if one.fault.fault in kinds and one.fault.notify_type in {None, notify_type}
        ]
        return self._first(fitting, payment_request_id, notify_type)

    def _first(
        self, fitting: Sequence[ActiveFault[Fault]], payment_request_id: str, what: str
    ) -> Fault | None:
        for active in fitting:
            if active.strikes(self.seed, payment_request_id, what):
                return active.fault
        return None

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def _require(value: object, name: str, *, is_needed: bool) -> None:
    """Refuse a word that is missing, or that would have no effect: it would hide a mistake."""
    if is_needed and value is None:
        raise ValueError(f"{name}: Field required")
    if value is not None and not is_needed:
        raise ValueError(f"{name}: has no effect on this fault")
