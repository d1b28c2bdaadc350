"""The emulator's own interface, beneath /emulator: buyer, dashboard, faults, clock, and a look."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from antom_payments.emulator.buyer import BuyerAction
from antom_payments.emulator.dashboard import Cancellation, ManualCapture
from antom_payments.emulator.delivery import Delivery
from antom_payments.emulator.emulator import Emulator
from antom_payments.emulator.faults import ActiveFault, FaultPlan
from antom_payments.emulator.ledger import NotPossible
from antom_payments.emulator.payments import Payment
from antom_payments.emulator.requests import faults_of
from antom_payments.emulator.results import Refused
from antom_payments.emulator.times import time_text

_Json = dict[str, Any]

_LONGEST_ADVANCE_SECONDS = 366 * 86_400

# What is not possible is a bad request, except for these.
_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "PAYMENT_NOT_FOUND": 404,
        "PAYMENT_AMBIGUOUS": 409,
        "PAYMENT_FINISHED": 409,
        "PAYMENT_PENDING": 409,
        "SESSION_EXPIRED": 409,
    }
)


class ClockMove(BaseModel):
    """How far to move the clock on; 0 waits until all that is due now is done."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    advance_seconds: Annotated[float, Field(ge=0, le=_LONGEST_ADVANCE_SECONDS)]


class Control:
    """The endpoints; what goes wrong is raised, and `told` by the application."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def routes(self) -> Mount:
        """All of /emulator."""
        return Mount(
            "/emulator",
            routes=[
                Route("/buyer/{reference:path}", self.play_buyer, methods=["POST"]),
                Route("/dashboard/cancel/{reference:path}", self.cancel, methods=["POST"]),
                Route("/dashboard/capture/{reference:path}", self.capture, methods=["POST"]),
                Route("/faults", self.faults, methods=["GET"]),
                Route("/faults", self.add_faults, methods=["POST"]),
                Route("/faults", self.clear_faults, methods=["DELETE"]),
                Route("/payments", self.payments, methods=["GET"]),
                Route("/notifications", self.notifications, methods=["GET"]),
                Route("/clock", self.move_clock, methods=["POST"]),
                Route("/reset", self.reset, methods=["POST"]),
                Route("/health", self.health, methods=["GET"]),
            ],
        )

    async def play_buyer(self, request: Request) -> Response:
        """Let the buyer act; answer with the payment after it."""
        action = BuyerAction.model_validate_json(await request.body())
        payment = self._emulator.play_buyer(request.path_params["reference"], action)
        return JSONResponse(_payment(payment))

    async def cancel(self, request: Request) -> Response:
        """Cancel in the dashboard; answer with the payment after it."""
        wish = Cancellation.model_validate_json(await request.body() or b"{}")
        payment = self._emulator.cancel_payment(request.path_params["reference"], wish)
        return JSONResponse(_payment(payment))

    async def capture(self, request: Request) -> Response:
        """Capture in the dashboard; answer with the payment after it."""
        wish = ManualCapture.model_validate_json(await request.body() or b"{}")
        payment = self._emulator.capture_payment(request.path_params["reference"], wish)
        return JSONResponse(_payment(payment))

    async def faults(self, _request: Request) -> Response:
        """What goes wrong, and how often it did."""
        return self._faults()

    async def add_faults(self, request: Request) -> Response:
        """Let more go wrong."""
        self._emulator.add_faults(FaultPlan.model_validate_json(await request.body()))
        return self._faults()

    async def clear_faults(self, _request: Request) -> Response:
        """Let everything go right."""
        self._emulator.faults.clear()
        return self._faults()

    async def payments(self, request: Request) -> Response:
        """All payments, or those with one `paymentRequestId`."""
        wanted = request.query_params.get("paymentRequestId")
        shown = [
            _payment(one)
            for one in self._emulator.payments
            if wanted in {None, one.payment_request_id}
        ]
        return JSONResponse({"payments": shown})

    async def notifications(self, request: Request) -> Response:
        """The log of deliveries, whole or of one `paymentRequestId`."""
        wanted = request.query_params.get("paymentRequestId")
        shown = [
            _delivery(one)
            for one in self._emulator.deliveries
            if wanted in {None, one.payment_request_id}
        ]
        return JSONResponse({"notifications": shown})

    async def move_clock(self, request: Request) -> Response:
        """Move the clock on; answer when all that fell due is done."""
        move = ClockMove.model_validate_json(await request.body())
        await self._emulator.timeline.advance(move.advance_seconds)
        return self._time()

    async def reset(self, _request: Request) -> Response:
        """Forget everything."""
        await self._emulator.reset()
        return self._time()

    async def health(self, _request: Request) -> Response:
        """Tell that the emulator serves, and its time."""
        return self._time()

    def _faults(self) -> Response:
        faults = self._emulator.faults
        return JSONResponse(
            {
                "seed": faults.seed,
                "answers": [_fault(one) for one in faults.answers],
                "notifications": [_fault(one) for one in faults.notifications],
            }
        )

    def _time(self) -> Response:
        return JSONResponse({"status": "UP", "time": time_text(self._emulator.timeline.now())})


async def told(_request: Request, error: Exception) -> Response:
    """The JSON answer that tells ``error``; of unexpected ones only that they happened."""
    match error:
        case NotPossible():
            return _error(_STATUS.get(error.code, 400), error.code, str(error))
        case Refused():
            return _error(409, error.result.code, error.result.message)
        case ValidationError():
            return _error(400, "WORDS_NOT_UNDERSTOOD", faults_of(error))
        case HTTPException():
            code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP")
            return _error(error.status_code, code, error.detail, error.headers)
        case _:
            return _error(500, "INTERNAL", "the emulator failed; its log says where")


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(
        {"error": {"code": code, "message": message}}, status_code=status, headers=headers
    )


def _payment(payment: Payment) -> _Json:
    return {
        "clientId": payment.client_id,
        "paymentRequestId": payment.payment_request_id,
        "paymentId": payment.payment_id,
        "paymentSessionIds": [session.session_id for session in payment.sessions],
        "paymentAmount": payment.amount.json_form(),
        "paymentMethodType": payment.payment_method_type or payment.request.payment_method_type,
        "paymentStatus": payment.status,
        "paymentResultCode": payment.result.code if payment.result else None,
        "authExpiryTime": time_text(payment.auth_expiry_time) if payment.auth_expiry_time else None,
        "closingTime": time_text(payment.closing_time) if payment.closing_time else None,
        "captures": [
            {
                "captureId": capture.capture_id,
                "captureRequestId": capture.capture_request_id,
                "captureAmount": capture.amount.json_form(),
                "resultCode": capture.result.code if capture.result else None,
            }
            for capture in payment.captures
        ],
    }


def _fault(active: ActiveFault[Any]) -> _Json:
    described = active.fault.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"number": active.number, **described, "struck": active.struck}


def _delivery(delivery: Delivery) -> _Json:
    due = delivery.next_attempt_time
    return {
        "number": delivery.number,
        "clientId": delivery.client_id,
        "paymentRequestId": delivery.payment_request_id,
        "notifyType": delivery.notification["notifyType"],
        "notifyUrl": delivery.url,
        "state": delivery.state,
        "spoilt": delivery.spoilt,
        "attempts": [
            {
                "time": time_text(one.time),
                "httpStatus": one.status,
                "fault": one.fault or None,
                "spoilt": one.spoilt,
            }
            for one in delivery.attempts
        ],
        "nextAttemptTime": time_text(due) if due else None,
        "notification": delivery.notification,
    }
