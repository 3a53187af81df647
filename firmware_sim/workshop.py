"""What all simulated devices of one process share: the decoder, the downloads, the streams, the tasks and the tally."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_sim.aftermath import Aftermath
from firmware_sim.downloader import Downloader
from firmware_sim.enroller import Office
from firmware_sim.faults import LineFaults
from firmware_sim.player import Player
from firmware_sim.relay_stream import Streams
from firmware_sim.trace import Trace


@dataclass(slots=True, kw_only=True)
class Workshop:
    """Handed to every device. `true_ms` is the machine's time, which stands for true time."""

    loop: asyncio.AbstractEventLoop
    tasks: asyncio.TaskGroup
    player: Player
    downloader: Downloader
    streams: Streams
    true_ms: Callable[[], int]
    uplink_faults: LineFaults = field(default_factory=LineFaults)
    downlink_faults: LineFaults = field(default_factory=LineFaults)
    spoilt_downloads: float = 0.0  # the share that brings nothing
    office: Office | None = None  # where devices with a claim code are certified
    tally: Counter[str] = field(default_factory=Counter)
    aftermath: Aftermath = field(default_factory=Aftermath)
    trace: Trace | None = None
