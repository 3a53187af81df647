"""Makes the sound of alerts in processes of their own: a few at a time, bounded in time and memory, without our secrets."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from services.control.alerting import rendering
from services.control.alerting.rendering import Job, Unrenderable
from services.control.measurement import Limits

log = logging.getLogger(__name__)

_CONCURRENT = 2
_GRACE_S = 10  # beyond the processor time allowed, for a machine that is busy


class Renderer:
    """Runs `services.control.alerting.rendering` on one job after another."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turn = asyncio.Semaphore(_CONCURRENT)

    async def render(self, job: Job) -> bytes:
        """The file. Raises `Unrenderable` with a code of the catalogue, also when the process crashed or took too much."""
        async with self._turn:
            status, output = await self._run(job)
        if status == rendering.TOLD:
            raise Unrenderable(output.decode("ascii", "replace"))
        if status != 0 or not output:
            log.warning("alert_sound_not_made", extra={"status": status})
            raise Unrenderable("alert_speech_failed" if job.recording is None else "alert_sound_unreadable")
        return output

    async def _run(self, job: Job) -> tuple[int, bytes]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.control.alerting.rendering",
            str(self._limits.max_cpu_s),
            str(self._limits.max_memory_mib),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # The rest of the environment holds passwords; a speech engine has no business with them.
            env={name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")},
        )
        output = b""
        try:
            async with asyncio.timeout(self._limits.max_cpu_s * 2 + _GRACE_S):
                output, _ = await process.communicate(job.as_json().encode())
        except TimeoutError:
            log.warning("alert_sound_took_too_long")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode if process.returncode is not None else -1, output
