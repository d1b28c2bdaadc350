"""Own admission control, by class of call."""

from __future__ import annotations

import asyncio

import pytest

from antom_payments.errors import LimitReached
from antom_payments.grpc_api.limits import Admission, CallLimits, address_of


def test_each_class_has_a_limit_of_its_own() -> None:
    admission = Admission(CallLimits(streams=1, streams_per_peer=1, unary=1))
    admission.enter_unary()
    admission.enter_stream("ipv4:10.0.0.1:1")
    with pytest.raises(LimitReached, match="unary_in_flight"):
        admission.enter_unary()
    with pytest.raises(LimitReached, match="streams"):
        admission.enter_stream("ipv4:10.0.0.2:1")


def test_one_peer_cannot_take_all_streams() -> None:
    admission = Admission(CallLimits(streams=10, streams_per_peer=2))
    for port in (1, 2):
        admission.enter_stream(f"ipv4:10.0.0.1:{port}")
    with pytest.raises(LimitReached, match="streams_per_peer"):
        admission.enter_stream("ipv4:10.0.0.1:3")
    admission.enter_stream("ipv4:10.0.0.2:1")
    assert admission.streams == 3


def test_a_slot_given_back_twice_is_given_back_once() -> None:
    admission = Admission(CallLimits(streams=1, streams_per_peer=1))
    slot = admission.enter_stream("ipv4:10.0.0.1:1")
    slot.release()
    slot.release()
    assert admission.streams == 0
    admission.enter_stream("ipv4:10.0.0.1:1")
    assert admission.streams == 1


async def test_idle_is_when_the_last_call_is_gone() -> None:
    admission = Admission(CallLimits())
    await admission.idle()
    slots = [admission.enter_unary(), admission.enter_stream("ipv4:10.0.0.1:1")]
    waiting = asyncio.create_task(admission.idle())
    for slot in slots:
        await asyncio.sleep(0)
        assert not waiting.done()
        slot.release()
    await waiting


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:41234", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:41234", "ipv6:%5B::1%5D"),
        ("unix:/run/payments.sock", "unix:/run/payments.sock"),
        ("", ""),
    ],
)
def test_a_peer_is_known_by_its_address(peer: str, address: str) -> None:
    assert address_of(peer) == address
