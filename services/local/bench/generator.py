"""The load: gateways that publish as fast as they are allowed to. A process: `python -m services.local.bench.generator`.

All messages are made and encrypted before anything is measured. Then each gateway, over its own TLS session with its own
certificate, sends chunks of them as long as two bounds allow: how many of its messages the broker has not acknowledged
(a device's manners), and how many may have been sent in all (`Slot.ALLOWED`, moved on by whoever measures, so that the
load follows what is being taken instead of drowning it). When each chunk was sent is kept for the end.

It shares the cores with what it measures, so it looks around every few milliseconds instead of whenever something moves:
1.3 µs of CPU for a message, where an event loop that encrypted each message as it went took 6.
"""

import array
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from services.local.bench.gateway import CHUNK, Gateway
from services.local.bench.population import Population
from services.local.bench.scoreboard import Scoreboard, Slot, State, open_scoreboard
from services.local.bench.traffic import Profile, Traffic
from services.shared.clock import utc_now

LOOK_EVERY_S = 0.005  # at what has been answered, and what may be sent
LAST_ANSWERS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a generator is told, as a JSON file."""

    host: str
    port: int
    ca_file: str
    certificates: Sequence[tuple[str, str]]  # by gateway: certificate and key
    devices: int
    profile: str
    messages: int  # made for each gateway; a multiple of CHUNK
    in_flight: int  # of one gateway, not acknowledged by the broker
    scoreboard: str
    ledger: str  # where to leave the times of sending

    def write(self, path: Path) -> None:
        """Write them down."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what was written down."""
        written = json.loads(path.read_text())
        return cls(**written | {"certificates": [(certificate, key) for certificate, key in written["certificates"]]})


class Load:
    """All gateways together, and what they may send."""

    def __init__(self, board: Scoreboard, gateways: Sequence[Gateway]) -> None:
        self._board = board
        self._gateways = gateways
        self._promised = 0
        self._turn = 0

    def run(self) -> None:
        """Send until told to stop, or until there is nothing left. Raises what ended a session."""
        board, looked_at = self._board, time.monotonic_ns()
        while board[Slot.GO] == 1:
            allowed = board[Slot.ALLOWED]
            self._promise(allowed)
            self._turn_over()
            now = time.monotonic_ns()
            if self._promised + CHUNK > allowed:
                board[Slot.HELD_NS] += now - looked_at
            looked_at = now
            if all(gateway.is_exhausted for gateway in self._gateways):
                board[Slot.STATE] = State.EXHAUSTED
            time.sleep(LOOK_EVERY_S)
        until = time.monotonic() + LAST_ANSWERS_S
        while any(gateway.unacknowledged for gateway in self._gateways) and time.monotonic() < until:
            self._turn_over()
            time.sleep(LOOK_EVERY_S)

    def _promise(self, allowed: int) -> None:
        """Share out what may be sent, chunk by chunk to one gateway after the other."""
        refused = 0
        while self._promised + CHUNK <= allowed and refused < len(self._gateways):
            gateway = self._gateways[self._turn]
            self._turn = (self._turn + 1) % len(self._gateways)
            if gateway.may_promise():
                gateway.promise()
                self._promised += CHUNK
                refused = 0
            else:
                refused += 1

    def _turn_over(self) -> None:
        """Send and hear what there is, and make known how far we are."""
        for gateway in self._gateways:
            gateway.push()
        for gateway in self._gateways:
            gateway.hear()
        board, answers = self._board, [gateway.answers for gateway in self._gateways]
        board[Slot.SENT] = CHUNK * sum(gateway.sent for gateway in self._gateways)
        board[Slot.ACKNOWLEDGED] = sum(each.acknowledged for each in answers)
        board[Slot.UNHEARD] = sum(each.unheard for each in answers)
        board[Slot.REFUSED] = sum(each.refused for each in answers)


def run(orders: Orders, board: Scoreboard) -> None:
    """Make the messages, wait for the word, send. Raises what ended a session."""
    with ExitStack() as stack:
        gateways = []
        profile = Profile(orders.profile)
        population = Population.of(orders.devices, profile.mix)
        for which, certificate in enumerate(orders.certificates):
            gateways.append(
                Gateway.connect(
                    population.gateway_id(which),
                    orders.host,
                    orders.port,
                    ca_file=orders.ca_file,
                    certificate=certificate,
                    in_flight=orders.in_flight,
                )
            )
            stack.callback(gateways[-1].close)
        base_ms = round(utc_now().timestamp() * 1000)
        traffic = Traffic(population=population, profile=profile, base_ms=base_ms)
        for which, gateway in enumerate(gateways):
            for first in range(0, orders.messages, CHUNK):
                gateway.prepare(traffic.packets(which, range(first, first + CHUNK)))
        board[Slot.BASE_MS] = base_ms
        board[Slot.STATE] = State.READY
        while board[Slot.GO] == 0:
            time.sleep(LOOK_EVERY_S)
        board[Slot.STATE] = State.SENDING
        Load(board, gateways).run()
        write_sent_times(Path(orders.ledger), [gateway.sent_at for gateway in gateways])
        board[Slot.STATE] = State.DONE


def write_sent_times(path: Path, times: "Sequence[array.array[float]]") -> None:
    """Keep, by gateway, when each chunk was written."""
    with path.open("wb") as file:
        for of_gateway in times:
            array.array("q", [len(of_gateway)]).tofile(file)
            of_gateway.tofile(file)


def read_sent_times(path: Path) -> "list[array.array[float]]":
    """Return, by gateway, when each chunk was written (monotonic seconds)."""
    times = []
    with path.open("rb") as file:
        while header := file.read(8):
            of_gateway = array.array("d")
            of_gateway.fromfile(file, array.array("q", header)[0])
            times.append(of_gateway)
    return times


def main(path: str) -> None:
    """Follow the orders in the file `path`."""
    orders = Orders.read(Path(path))
    with open_scoreboard(Path(orders.scoreboard)) as board:
        run(orders, board)


if __name__ == "__main__":
    main(sys.argv[1])
