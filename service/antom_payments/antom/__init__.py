"""Antom's side of the service: only these modules know Antom's JSON, HTTP and signatures.

`signing` and `messages` are pure and shared by client, notification receiver and emulator;
`endpoints` knows hosts and paths; `wire` sends one request; `breaker` says when Antom is left
alone; `client` asks, verifies and repeats.
"""

from antom_payments.antom.breaker import BreakerOptions
from antom_payments.antom.client import AntomClient, open_client
from antom_payments.antom.messages import InquiryAnswer, SessionPolicy, session_body

__all__ = [
    "AntomClient",
    "BreakerOptions",
    "InquiryAnswer",
    "SessionPolicy",
    "open_client",
    "session_body",
]
