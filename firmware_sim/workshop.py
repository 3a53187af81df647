"""What all simulated devices of one process share: the decoder, the downloads, the streams, the tasks and the tally."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_sim.downloader import Downloader
from firmware_sim.faults import UplinkFaults
from firmware_sim.player import Player
from firmware_sim.relay_stream import Streams


@dataclass(slots=True, kw_only=True)
class Workshop:
    """Handed to every device. `true_ms` is the machine's time, which stands for true time."""

    loop: asyncio.AbstractEventLoop
    tasks: asyncio.TaskGroup
    player: Player
    downloader: Downloader
    streams: Streams
    true_ms: Callable[[], int]
    uplink_faults: UplinkFaults = field(default_factory=UplinkFaults)
    tally: Counter[str] = field(default_factory=Counter)
