"""Sounds made and measured once for all tests of a process: the real processes make them, and each costs half a second."""

from __future__ import annotations

import hashlib
from pathlib import Path

from services.control.alerting.renderer import Renderer
from services.control.alerting.rendering import Job
from services.control.measurement import Limits, Measures
from services.control.measurer import Measurer

_sounds: dict[tuple[Limits, Job], bytes] = {}
_measures: dict[tuple[Limits, bytes], Measures] = {}


class RememberingRenderer(Renderer):
    """The real one, asked once for each job; a job with a recording is made anew, the file may be another one."""

    async def render(self, job: Job) -> bytes:
        """The file."""
        if job.recording is not None:
            return await super().render(job)
        key = (self._limits, job)
        if key not in _sounds:
            _sounds[key] = await super().render(job)
        return _sounds[key]


class RememberingMeasurer(Measurer):
    """The real one, asked once for each content that it measured; what it refuses it is asked again."""

    async def measure(self, path: Path) -> Measures:
        """What was measured of the file."""
        key = (self._limits, hashlib.sha256(path.read_bytes()).digest())
        if key not in _measures:
            _measures[key] = await super().measure(path)
        return _measures[key]
