"""Signing a request, against the official SDK."""

from __future__ import annotations

from antom_payments.antom.endpoints import Operation, operation_path
from bench.child import Child, OperationFailed
from bench.rig import Rig
from bench.rounds import Line, Sample, interleave
from notifications.sidecars import CLIENT_ID
from stored import REQUEST

OURS, THEIRS = 1_500, 30
"""Signatures of a round."""
MESSAGE = {
    "method": "POST",
    "uri": operation_path(Operation.CREATE_PAYMENT_SESSION, CLIENT_ID),
    "client_id": CLIENT_ID,
    "date": "2026-03-02T09:30:00Z",
    "body": REQUEST.decode(),
}


async def measure(rig: Rig) -> list[Line]:
    """Both sign the same request, and must come to the same signature."""
    line = Line(
        key="signing",
        title="Signing a request",
        unit="signatures/s",
        ours="`Signer`, its key loaded once",
        peer="the official SDK's `sign`, which loads the key each time",
        floor=50,
    )
    signatures = set()

    async def sign(process: Child, count: int) -> Sample:
        done = await process.ask("sign", message=MESSAGE, count=count)
        signatures.add(done["signature"])
        if len(signatures) != 1:
            raise OperationFailed("the two signatures differ")
        return Sample.rate(count, done["seconds"], done["cpu_seconds"])

    async with (
        rig.script("signer", measured=True) as ours,
        rig.official_signer() as theirs,
    ):
        return [
            await interleave(
                line,
                rig.rounds,
                lambda: sign(ours, rig.count(OURS)),
                lambda: sign(theirs, rig.count(THEIRS)),
            )
        ]
