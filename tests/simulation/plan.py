"""What is to happen in a run: steps at times, drawn from the seed, and fewer of them in a story.

A step is plain data, so that a run can be told, shortened and kept: the same seed with fewer steps
is another run that can be repeated as exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

CHAOS_SECONDS = 120.0
"""How long things go wrong; then everything is mended, and a day passes."""
_SILENT_FROM = 600.0
"""After everything is mended, and before any session's order is closed."""
SERVERS, SIDECARS = 2, 2
_METHODS = ("automatic", "automatic", "manual", "wallet", "hosted", "default")
_SDK_CODES = ("SDK_PAYMENT_SUCCESSFUL", "SDK_PAYMENT_CANCEL", "SDK_PAYMENT_ERROR")
_ANSWER_FAULTS = (
    *("DROP", "DROP", "DELAY", "HTTP_500", "HTTP_503", "UNKNOWN", "THROTTLED", "GARBAGE"),
    *("UNSIGNED", "BADLY_SIGNED", "WRONG_CLIENT_ID"),
)
_TAKE_EFFECT = {"DROP", "HTTP_500", "HTTP_503", "UNKNOWN", "GARBAGE"}
_NO_ANSWERS = ("DROP", "HTTP_503", "UNKNOWN", "THROTTLED", "UNSIGNED", "BADLY_SIGNED")
_NOTIFICATION_FAULTS = ("WITHHOLD", "DUPLICATE", "DELAY", "REORDER", "DROP", "BADLY_SIGNED")


@dataclass(frozen=True)
class Step:
    """Something that happens at a time, in seconds from the start."""

    at: float
    kind: str
    words: dict[str, Any] = field(default_factory=dict)

    def json(self) -> list[Any]:
        """As it is kept."""
        return [self.at, self.kind, self.words]

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.words.items())
        return f"{self.at:8.2f}  {self.kind} {words}"


Plan = Sequence[Step]


def plan_of(seed: int) -> Plan:
    """The steps of a seed, by time."""
    draw = _Draw(Random(f"plan {seed}"))
    for number in range(1, draw.random.choice((2, 3, 3, 4)) + 1):
        draw.payment(f"pay-{number}")
    draw.network()
    draw.crashes()
    draw.restore()
    draw.readers()
    draw.strangers()
    # Drawn apart, so that the steps before stay as they were.
    draw.random = Random(f"starts {seed}")
    draw.starts()
    draw.random = Random(f"amounts {seed}")
    draw.amounts()
    draw.random = Random(f"silence {seed}")
    draw.silence()
    draw.random = Random(f"next key {seed}")
    draw.next_key()
    draw.random = Random(f"clocks {seed}")
    draw.clocks()
    return sorted(draw.steps, key=lambda step: step.at)


class _Draw:
    """Draws steps."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.steps: list[Step] = []
        self.ids: list[str] = []

    def add(self, at: float, kind: str, **words: Any) -> None:
        self.steps.append(Step(round(at, 3), kind, words))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def time(self, begin: float = 0.0, end: float = CHAOS_SECONDS) -> float:
        return self.random.uniform(begin, end)

    def payment(self, name: str) -> None:
        """A payment's callers, its buyer, and what becomes of it at Antom."""
        random = self.random
        self.ids.append(name)
        merchant = random.choice(("shop-a", "shop-a", "shop-b"))
        method = random.choice(_METHODS)
        begin = self.time(2, 70)
        about: dict[str, Any] = {"id": name, "merchant": merchant, "method": method}
        about["life"] = random.choice((0, 0, 30, 300, 900))
        for call in range(random.choice((1, 1, 2, 3))):
            late = random.choice((0.0, 0.0, 0.02, 1.0, 40.0)) if call else 0.0
            patience = random.choice((20.0, 20.0, 20.0, 1.0, 0.02))
            other = bool(call) and self.chance(0.1)
            self.add(begin + late, "create", **about, patience=patience, other_amount=other)
        self._buyer(name, method, begin + random.choice((0.3, 3.0, 10.0, 40.0)))
        for _ in range(random.choice((0, 0, 1, 2))):
            self.add(self.time(begin), "read", id=name, merchant=merchant, fresh=self.chance(0.7))
        if self.chance(0.15):
            code = random.choice(_SDK_CODES)
            self.add(self.time(begin), "sdk event", id=name, merchant=merchant, code=code)
        self._faults(name)

    def _buyer(self, name: str, method: str, at: float) -> None:
        random = self.random
        action = random.choice(("approve",) * 6 + ("decline", "pending", "abandon", "nothing"))
        if action == "nothing":
            if self.chance(0.3):
                self.add(at, "cancel", id=name, force=False)
            return
        words: dict[str, Any] = {"id": name, "action": action}
        if action == "approve" and method == "automatic":
            order = random.choice(("PAYMENT_FIRST", "CAPTURE_FIRST", "SAME_INSTANT"))
            words["capture"] = {"order": order, "delay_seconds": random.choice((0.0, 1.0, 40.0))}
            if self.chance(0.15):
                words["capture"]["result_code"] = "PROCESS_FAIL"
        self.add(at, "buyer", **words)
        later = at + random.uniform(1, 60)
        if action == "pending" and self.chance(0.8):
            end = random.choice(("approve", "approve", "decline"))
            self.add(later, "buyer", id=name, action=end)
        self._dashboard(name, method, later)

    def _dashboard(self, name: str, method: str, at: float) -> None:
        random = self.random
        if method == "manual" and self.chance(0.8):
            parts = random.choice((1, 1, 1, 2))
            code = random.choice(("SUCCESS", "SUCCESS", "SUCCESS", "PROCESS_FAIL"))
            wait = random.choice((0, 0, 30))
            self.add(at, "capture", id=name, parts=parts, result_code=code, in_process_seconds=wait)
            if code != "SUCCESS" and self.chance(0.5):
                again = at + wait + random.uniform(1, 60)
                self.add(again, "capture", id=name, parts=1, result_code="SUCCESS")
        if self.chance(0.12):
            self.add(at + random.uniform(0, 90), "cancel", id=name, force=self.chance(0.5))

    def _faults(self, name: str) -> None:
        """What goes wrong at Antom, for this payment."""
        random = self.random
        for _ in range(random.choice((0, 0, 1, 2))):
            fault = random.choice(_ANSWER_FAULTS)
            words: dict[str, Any] = {"fault": fault, "times": random.choice((1, 1, 2, 6))}
            words["operation"] = random.choice(("createPaymentSession", "inquiryPayment"))
            if fault in _TAKE_EFFECT:
                words["takes_effect"] = self.chance(0.7)
            if fault == "DELAY":
                words["delay_seconds"] = random.choice((2.0, 6.0))
            self.add(self.time(0, 90), "answer fault", payment_request_id=name, **words)
        for _ in range(random.choice((0, 1, 1, 2))):
            fault = random.choice(_NOTIFICATION_FAULTS)
            words = {"fault": fault, "times": random.choice((1, 1, 3))}
            if fault == "DUPLICATE":
                words["copies"] = random.choice((1, 3))
            if fault in {"DELAY", "REORDER"}:
                words["delay_seconds"] = random.choice((1.0, 30.0, 4000.0))
            self.add(self.time(0, 60), "notification fault", payment_request_id=name, **words)

    def network(self) -> None:
        """Bad weather on the way to Antom, or from it."""
        for way in ("antom", "us"):
            if self.chance(0.6):
                share = self.random.choice((0.05, 0.2, 0.5))
                kinds = ("refused", "lost", "answer_lost", "twice", "slow")
                words = {kind: share for kind in kinds if self.chance(0.5)}
                begin, length = self.time(0, 90), self.random.choice((20, 60, 120))
                self.add(begin, "weather", way=way, seconds=length, **words)

    def crashes(self) -> None:
        """Kills between any two callbacks, orderly restarts, and databases that are away."""
        random = self.random
        names = [f"server-{n}" for n in range(SERVERS)] + [f"sidecar-{n}" for n in range(SIDECARS)]
        for _ in range(random.choice((0, 1, 2, 3, 5))):
            # Most things happen when payments do: a kill soon after one of their steps.
            at = random.choice(self.steps).at if self.chance(0.7) else self.time()
            turns = int(random.expovariate(1 / 60))
            away = random.choice((0.5, 5.0, 40.0))
            self.add(
                min(at, CHAOS_SECONDS - 1), "kill", who=random.choice(names), turns=turns, away=away
            )
        if self.chance(0.3):
            self.add(self.time(), "restart", who=random.choice(names))
        if self.chance(0.3):
            seconds = random.choice((1.0, 5.0, 25.0))
            self.add(self.time(), "database away", who=random.choice(names), seconds=seconds)

    def restore(self) -> None:
        """The database is brought back to an older point, by docs/restore.md."""
        if self.chance(0.25):
            taken = self.time(5, 80)
            self.add(taken, "dump")
            self.add(self.time(taken + 1), "restore", running=self.chance(0.3))

    def readers(self) -> None:
        """Subscribers, and a log that is pruned beneath them."""
        random = self.random
        for number in range(random.choice((1, 2, 3))):
            words: dict[str, Any] = {"name": f"reader-{number}"}
            words["start"] = random.choice(("earliest", "earliest", "latest"))
            words["filter"] = random.choice(("all", "all", "shop-a", "shop-b", "final", "one"))
            if words["filter"] == "one":
                words["id"] = random.choice(self.ids)
            words["drops"] = random.choice((0.0, 0.1, 0.4))
            words["naps"] = random.choice((0.0, 0.0, 20.0))
            self.add(self.time(0, 60), "reader", **words)
        if self.chance(0.35):
            for _ in range(random.choice((1, 2))):
                keep = random.choice((0.0, 20.0, 60.0))
                self.add(self.time(60), "prune", keep=keep)

    def strangers(self) -> None:
        """Forged news, and payments that were made elsewhere with the same client id."""
        if self.chance(0.25):
            self.add(self.time(), "forged", id=self.random.choice(self.ids))
        if self.chance(0.15):
            self.add(self.time(0, 100), "foreign", id="foreign-1", merchant="shop-a")

    def starts(self) -> None:
        """Subscribers that begin with payments or at a time, and lists that are walked through."""
        random = self.random
        busy = [step.at for step in self.steps if step.kind in {"create", "buyer", "capture"}]
        if self.chance(0.6):
            words: dict[str, Any] = {"name": "keeper", "start": "snapshot"}
            words["filter"] = random.choice(("all", "all", "shop-a", "final"))
            words["drops"] = random.choice((0.0, 0.3, 0.6))
            words["naps"] = random.choice((0.0, 10.0, 40.0))
            at = random.choice(busy)
            ends = [step.at for step in self.steps if step.kind in {"restore", "prune"}]
            if ends and self.chance(0.7):
                # Just before its log is cut, at either end.
                at = max(1.0, random.choice(ends) - self.time(0, 40))
            self.add(at, "reader", **words)
            if words["naps"] and self.chance(0.4):
                self.add(min(at + self.time(2, 60), CHAOS_SECONDS - 1), "prune", keep=0.0)
        if self.chance(0.35):
            words = {"name": "historian", "start": "at time", "filter": "all"}
            words["ago"] = random.choice((-5.0, 0.0, 20.0, 60.0, 200.0))
            words["drops"] = random.choice((0.0, 0.4))
            self.add(self.time(10), "reader", **words, naps=0.0)
        for _ in range(random.choice((0, 0, 1, 2))):
            order = random.choice(("CREATE_TIME_DESC", "UPDATE_TIME_ASC"))
            pause = random.choice((0.0, 10.0, 40.0))
            self.add(random.choice(busy), "walk", order=order, pause=pause)
        if self.chance(0.15):
            # Early enough to be over before everything is mended.
            self.add(self.time(5, 40), "rotate", pause=random.choice((5.0, 30.0)))

    def amounts(self) -> None:
        """News of an amount that nobody asked for, from Antom itself."""
        buyers = [step for step in self.steps if step.kind == "buyer"]
        if not buyers or self.chance(0.8):
            return
        before = self.random.choice(buyers)
        types = ("PAYMENT_RESULT", "PAYMENT_RESULT", "PAYMENT_PENDING", "CAPTURE_RESULT")
        words: dict[str, Any] = {"notify_type": self.random.choice(types), "times": 1}
        words["payment_request_id"] = before.words["id"]
        self.add(self.time(0, before.at), "other amount", **words)

    def silence(self) -> None:
        """Antom answers no question about a payment for hours, over the end of its session.

        No news tells whether its buyer pays in the last moment.
        """
        random = self.random
        if self.chance(0.8):
            return
        name, merchant = "pay-quiet", random.choice(("shop-a", "shop-b"))
        about: dict[str, Any] = {"id": name, "merchant": merchant, "method": "wallet"}
        about["life"] = random.choice((0, 0, 30, 300, 900))
        self.add(self.time(2, 70), "create", **about, patience=20.0, other_amount=False)
        # Of three looks of our processes or of one, when all else is mended.
        seconds = random.choice((9_000.0, 20_000.0))
        words = {"fault": random.choice(_NO_ANSWERS), "payment_request_id": name}
        self.add(_SILENT_FROM, "silence", **words, seconds=seconds)
        unheard = {"fault": "WITHHOLD", "payment_request_id": name, "times": 3}
        self.add(_SILENT_FROM, "notification fault", **unheard)
        if not about["life"] and self.chance(0.4):
            self.add(self.time(_SILENT_FROM + 1, 3_500), "buyer", id=name, action="approve")

    def next_key(self) -> None:
        """Antom signs with its next key by mistake, before or after our processes accept it."""
        random = self.random
        if self.chance(0.3):
            about: dict[str, Any] = {"payment_request_id": random.choice(self.ids)}
            about["operation"] = random.choice(("createPaymentSession", "inquiryPayment"))
            words = about | {"fault": "NEXT_KEY", "times": random.choice((1, 2, 6))}
            self.add(self.time(0, 90), "answer fault", **words)
        if self.chance(0.3):
            words = {"payment_request_id": random.choice(self.ids), "fault": "NEXT_KEY"}
            self.add(self.time(0, 60), "notification fault", **words, times=random.choice((1, 3)))

    def clocks(self) -> None:
        """One process's clock is far ahead, while payments are made: past the end of sessions."""
        random = self.random
        if self.chance(0.85):
            return
        who = random.choice(("server-0", "server-1", "server-0", "server-1", "sidecar-0"))
        creations = [step.at for step in self.steps if step.kind == "create"]
        at = max(1.0, random.choice(creations) + random.uniform(-10.0, 20.0))
        # Beyond the life of any session and Antom's closing time; within what a sidecar takes.
        words: dict[str, Any] = {"who": who, "ahead": random.choice((4_800.0, 4_800.0, 6_000.0))}
        self.add(
            min(at, CHAOS_SECONDS - 10), "clock", **words, seconds=random.choice((20, 60, 120))
        )
