"""Cutting a connection in place of an answer, which ASGI has no word for."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "antom_payments.sever"


class SeverableProtocol(HttpToolsProtocol):
    """uvicorn's own, which lets the application cut its connection."""

    def on_message_begin(self) -> None:
        """Tell the application how to."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"abort": self.transport.abort}}


async def sever(scope: Scope, receive: Receive, _send: Send) -> None:
    """Answer nothing: the client sees its connection closed. An ASGI application.

    Raises KeyError where another protocol serves.
    """
    scope["extensions"][_EXTENSION]["abort"]()
    # Until the server knows, or it would answer in our place.
    while (await receive())["type"] != "http.disconnect":
        continue
