"""A local Antom: for every developer without Antom credentials, and for tests.

It serves `createPaymentSession` and `inquiryPayment`, checks signatures as strictly as Antom,
refuses what Antom's documentation forbids and says why, signs its answers, and sends signed
notifications until they are acknowledged. The buyer and the merchant's dashboard are played over
HTTP, and much can go wrong on purpose. It keeps everything in memory, moves no money and needs no
network. docs/emulator.md has an example of each.

    from antom_payments.antom.signing import load_private_key, load_public_key
    from antom_payments.emulator import EmulatorOptions, server_config

    options = EmulatorOptions(
        antom_private_key=load_private_key(..., setting="antom"),
        merchant_public_keys={"SANDBOX_5X0000": [load_public_key(..., setting="merchant")]},
        default_notify_url="http://127.0.0.1:8080/antom/notify",
    )
    await uvicorn.Server(server_config(options, port=8443)).serve()

Point a client at it instead of at Antom's host: the paths are Antom's, `/ams/api/v1/...`, and
`/ams/sandbox/api/v1/...` for client ids that begin with `SANDBOX_`. The official SDKs insist on
TLS: give `server_config` a certificate.

Beneath `/emulator` is the emulator's own interface; bodies and answers are JSON, an error is
`{"error": {"code", "message"}}`.

- `POST /emulator/buyer/{paymentRequestId or paymentSessionId}` plays the buyer:
  `{"action": "approve"}`, `"decline"`, `"pending"` (has paid, the result is to come: approve or
  decline follows) or `"abandon"` (leaves on the way; the order closes). Optional: `card`, a sandbox
  card's number, which decides the outcome; `resultCode`, how a declined payment fails;
  `paymentMethodType`, where the session left the choice to the buyer; `capture`, with `order`
  (`PAYMENT_FIRST`, `CAPTURE_FIRST`, `SAME_INSTANT`), `delaySeconds` and `resultCode`, how the
  automatic capture goes.
- `POST /emulator/dashboard/cancel/{...}` (`force`) and `POST /emulator/dashboard/capture/{...}`
  (`captureRequestId`, `captureAmount`, `resultCode`, `inProcessSeconds`), by Antom's rules.
- `GET`, `POST` and `DELETE /emulator/faults`: what goes wrong, `{"answers", "notifications"}`, as
  `AnswerFault` and `NotificationFault` describe it.
- `GET /emulator/payments`, `GET /emulator/notifications` (each delivery, its attempts and why an
  answer was no acknowledgement); `?paymentRequestId=` narrows them.
- `POST /emulator/clock` with `{"advanceSeconds": 120}` moves Antom's time on and answers when all
  that fell due is done: resends, captures, closing orders, each at its own time. 0 only waits for
  what is due now. No test needs to sleep.
- `POST /emulator/reset` forgets everything. `GET /emulator/health`.

What decides outcomes: the cards of `cards.py` and the amounts of `amounts.py`. A session nobody
submits is closed 14 minutes after its expiry, with ORDER_IS_CLOSED. A card authorised with
`isAuthorization` and without `captureMode` MANUAL is captured by Antom itself. Time runs
`clock_scale` times as fast as outside; at 0 it stands until it is moved.

In the same process, drive `Emulator` without HTTP:

    async with Emulator(options).running() as antom:
        antom.play_buyer("order-1", BuyerAction(action=Step.APPROVE))
        await antom.timeline.settle()
"""

from antom_payments.emulator.app import emulator_app, server_config
from antom_payments.emulator.buyer import BuyerAction, CaptureWish, Step
from antom_payments.emulator.dashboard import Cancellation, ManualCapture
from antom_payments.emulator.emulator import Emulator
from antom_payments.emulator.faults import (
    AnswerFault,
    AnswerFaultKind,
    FaultPlan,
    NotificationFault,
    NotificationFaultKind,
    charged_but_no_answer,
)
from antom_payments.emulator.files import EmulatorFiles
from antom_payments.emulator.ledger import NotPossible
from antom_payments.emulator.options import BeforeSubmission, CaptureOrder, EmulatorOptions
from antom_payments.emulator.results import Refused

__all__ = [
    "AnswerFault",
    "AnswerFaultKind",
    "BeforeSubmission",
    "BuyerAction",
    "Cancellation",
    "CaptureOrder",
    "CaptureWish",
    "Emulator",
    "EmulatorFiles",
    "EmulatorOptions",
    "FaultPlan",
    "ManualCapture",
    "NotPossible",
    "NotificationFault",
    "NotificationFaultKind",
    "Refused",
    "Step",
    "charged_but_no_answer",
    "emulator_app",
    "server_config",
]
