"""What a verified notification tells, and whether it may be applied."""

from __future__ import annotations

from antom_payments.antom.messages import NotUnderstood, parse_notification
from antom_payments.fact import OUTSIDE_WINDOW, Fact, Notification
from antom_payments.notifications.request_time import Window


def understand(notification: Notification, window: Window) -> tuple[Fact | None, str]:
    """The fact that it tells, and why it must not be applied, if so.

    The time that counts is that of its receipt: a notification that is read again later is as
    timely as it was.
    """
    try:
        fact = parse_notification(notification.body, merchant_account=notification.merchant_account)
    except NotUnderstood as not_understood:
        return None, not_understood.reason
    is_timely = window.holds(notification.request_time, notification.received_time)
    return fact, "" if is_timely else OUTSIDE_WINDOW
