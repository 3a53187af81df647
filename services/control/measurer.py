"""Measures files of strangers in processes of their own: a few at a time, bounded in time and memory, without our secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

from services.control.measurement import Limits, Measures, Refusal, Refused

log = logging.getLogger(__name__)

_CONCURRENT = 2
_GRACE_S = 10  # beyond the processor time allowed, for a machine that is busy


class Measurer:
    """Runs `services.control.measurement` on one file after another."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turn = asyncio.Semaphore(_CONCURRENT)

    async def measure(self, path: Path) -> Measures:
        """What was measured of the file. Raises `Refused`, also when the decoder crashed or took too much."""
        async with self._turn:
            status, output = await self._run(path)
        if status != 0:
            log.warning("media_unmeasurable", extra={"status": status})
            raise Refused(Refusal.UNMEASURABLE, f"status {status}")
        answer = json.loads(output)
        if "refused" in answer:
            raise Refused(Refusal(answer["refused"]), answer["detail"])
        return Measures(**answer)

    async def _run(self, path: Path) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.control.measurement",
            str(path),
            json.dumps(asdict(self._limits)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # decoders talk about every torn frame
            # The rest of the environment holds passwords; a decoder has no business with them.
            env={name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")},
        )
        output = b""
        try:
            # Wall-clock time: a busy machine may give the process only half a core.
            async with asyncio.timeout(self._limits.max_cpu_s * 2 + _GRACE_S):
                output, _ = await process.communicate()
        except TimeoutError:
            log.warning("media_measuring_took_too_long")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode if process.returncode is not None else -1, output
