"""The sidecar: receives Antom's signed notifications over HTTP.

    verify the raw bytes → understand → commit → acknowledge

Run it in a process of its own::

    counts = Counts()
    app = notification_app(service, senders, path="/antom/notify", clock=now, counts=counts)
    config = uvicorn_config(app, limits=HttpLimits(), count_refusal=counts.malformed)
    async with serving(config, host="127.0.0.1", port=8080):
        ...  # until told to stop: readiness off, the endpoint delay, then
        await app.drain()
"""

from antom_payments.notifications.app import (
    ACKNOWLEDGEMENT,
    AppliesNotifications,
    NotificationApp,
    notification_app,
)
from antom_payments.notifications.http_limits import HttpConfig, HttpLimits
from antom_payments.notifications.outcomes import Counts, Outcome
from antom_payments.notifications.request_time import Window
from antom_payments.notifications.server import serving, uvicorn_config
from antom_payments.notifications.understanding import understand
from antom_payments.notifications.verification import Sender

__all__ = [
    "ACKNOWLEDGEMENT",
    "AppliesNotifications",
    "Counts",
    "HttpConfig",
    "HttpLimits",
    "NotificationApp",
    "Outcome",
    "Sender",
    "Window",
    "notification_app",
    "serving",
    "understand",
    "uvicorn_config",
]
