"""What the broker says it has dropped, as the stock C client hears it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.control.trust.certificates import ServiceName
from services.local.bench.chaos_site import ChaosSite
from services.local.bench.measurement import BenchFailed
from services.local.processes import running

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
TELLS_EVERY_S = 11.0  # ten seconds, and one more
_CLIENT = "monitor:bench"


class Drops:
    """The broker's count of dropped messages, as far as it has told."""

    def __init__(self, told: Path) -> None:
        self._told = told

    @property
    def count(self) -> int:
        """The last number told since the watch began; 0 before the first."""
        lines = self._told.read_text().split()
        return int(lines[-1]) if lines and lines[-1].isdigit() else 0


@asynccontextmanager
async def watching_drops(site: ChaosSite) -> AsyncIterator[Drops]:
    """Hear all the time: before Mosquitto 2.0.16 a number that does not change can no longer be asked for after a minute."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        raise BenchFailed("mosquitto_sub is not installed; please install it: apt-get install mosquitto-clients")
    identity = site.pki.service(ServiceName.MONITOR)
    told = site.folder / "dropped.log"
    command = [
        program, "-h", site.broker.host, "-p", str(site.broker.service_port), "-V", "mqttv5", "-i", _CLIENT,
        "--cafile", str(site.pki.service_ca), "--cert", str(identity.certificate), "--key", str(identity.key),
        "-t", DROPPED_TOPIC,
    ]  # fmt: skip
    async with running("mosquitto_sub", command, log=told):
        yield Drops(told)
