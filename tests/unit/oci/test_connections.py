"""A proxy that a sync names may be anywhere, except where only the machine itself has business."""

from __future__ import annotations

import gc
import socket
import sys
from types import FrameType
from typing import Any

import pytest

from ocisync.model.errors import Refused
from ocisync.oci import connections
from ocisync.oci.connections import ProxyGuard, _TimedResponse


@pytest.mark.parametrize("address", ["10.0.0.8", "192.168.1.1", "203.0.113.9", "127.0.0.1", "fd00::1"])
def test_a_named_proxy_may_be_dialled(address: str) -> None:
    ProxyGuard().check_peer("proxy.example", address)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "no address"])
def test_a_named_proxy_does_not_lead_to_the_metadata_service(address: str) -> None:
    with pytest.raises(Refused, match=r"proxy proxy\.example has the link-local"):
        ProxyGuard().check_peer("proxy.example", address)


def test_an_interruption_at_any_step_of_reading_an_answer_stays_one() -> None:
    step = 1
    gc.collect()
    gc.disable()  # readers of other tests, let go in the midst of a step, would be counted
    try:
        while interrupted_at(step):
            step += 1
    finally:
        gc.enable()
    assert step > 20


def interrupted_at(step: int) -> bool:
    """Read an answer, as `http.client` does, and be interrupted at this step; whether there was such a step."""
    ours, theirs = socket.socketpair()
    taken = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal taken
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_code.co_filename == connections.__file__:
            taken += 1
            if taken == step:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        answer = _TimedResponse(ours)
        sys.settrace(trace)
        try:
            answer.begin()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
            answer.close()
    return False
