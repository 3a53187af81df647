"""When a simple receiver notes a message: at once, or once it has verified it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mqtt5
import pytest

from firmware_sim.trust import Held, Trust
from services.local.bench.emergency_receivers import Board, Receiver, open_board
from tests.unit.firmware_sim.builders import PLATFORM, ROOT, STRANGER, a_key_set, an_alert, public, signed


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: Any) -> None:
        self.written += data


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with open_board(tmp_path / "board", 2) as board:
        yield board


async def noted(board: Board, payload: bytes) -> int:
    """How many receivers have noted what came to the second of them, which acknowledges it in any case."""
    keys = a_key_set()
    believed = Trust(root=public(ROOT), keys=Held(raw=signed(keys, ROOT), order=keys))
    receiver, wire = Receiver(1, "raw-0001", (), board, believed), Wire()
    receiver.connection_made(wire)
    wire.written.clear()
    receiver.data_received(
        mqtt5.PublishPacket("area", payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=7).write(),
    )
    assert bytes(wire.written) == mqtt5.PubAckPacket(7).write()
    return len(board.since(1))


GENUINE, FORGED = signed(an_alert(), PLATFORM), signed(an_alert(), STRANGER)
ALTERED = GENUINE[:-1] + bytes([GENUINE[-1] ^ 1])  # the last byte is one of the signature


@pytest.mark.parametrize("payload", [GENUINE, FORGED, ALTERED], ids=["genuine", "forged", "altered"])
async def test_whoever_does_not_verify_notes_everything(board: Board, payload: bytes) -> None:
    assert await noted(board, payload) == 1


@pytest.mark.parametrize(
    ("payload", "counted"), [(GENUINE, 1), (FORGED, 0), (ALTERED, 0)], ids=["genuine", "forged", "altered"]
)
async def test_whoever_verifies_notes_what_is_genuine(board: Board, payload: bytes, counted: int) -> None:
    board.is_verifying = True
    assert await noted(board, payload) == counted


def test_a_board_is_one_for_both_sides(tmp_path: Path) -> None:
    with open_board(tmp_path / "board", 2) as ours, open_board(tmp_path / "board", 2) as theirs:
        ours.is_verifying = True
        theirs.subscribed()
        theirs.came(1, 50)
        assert (theirs.is_verifying, ours.ready) == (True, 1)
        assert (ours.since(50), ours.since(51)) == ([50], [])
