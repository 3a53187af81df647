"""What the broker says of itself, asked by the stock C client."""

import asyncio
import shutil
import subprocess

from services.control.trust.certificates import ServiceName
from services.local.bench.chaos_site import ChaosSite
from services.local.bench.measurement import BenchFailed

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
TELLS_EVERY_S = 11.0  # ten seconds, and one more
_CLIENT = "monitor:bench"


async def dropped(site: ChaosSite) -> int:
    """Return how many messages the broker says it has dropped since its start; 0 where it says nothing."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        raise BenchFailed("mosquitto_sub is not installed; please install it: apt-get install mosquitto-clients")
    identity = site.pki.service(ServiceName.MONITOR)
    asking = await asyncio.create_subprocess_exec(
        program, "-h", site.broker.host, "-p", str(site.broker.service_port), "-V", "mqttv5", "-i", _CLIENT,
        "--cafile", str(site.pki.service_ca), "--cert", str(identity.certificate), "--key", str(identity.key),
        "-t", DROPPED_TOPIC, "-C", "1", "-W", str(round(TELLS_EVERY_S)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    said, _ = await asking.communicate()
    return int(said or 0)


async def tells_anew() -> None:
    """Wait until the broker has told its numbers anew."""
    await asyncio.sleep(TELLS_EVERY_S)
