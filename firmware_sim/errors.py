"""Operational failures of the simulator; everything else that is raised is a bug and ends the process."""

from __future__ import annotations


class SimulatorError(Exception):
    """Base of everything `firmware_sim` raises on purpose."""


class InvalidInput(SimulatorError):
    """Settings, manifest or scenario cannot be used; `problems` names each field and the mend, one line each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class DownloadFailed(SimulatorError):
    """A media file could not be fetched this time; trying again is sensible."""


class NotServed(DownloadFailed):
    """The server is there and answered with something else than the file."""


class NotOurs(SimulatorError):
    """An answer to an enrolment that is not for this device and its key; nothing of it was taken."""


class WrongHash(SimulatorError):
    """A media file arrived whole and is not the file that was signed; it has been deleted."""


class NotPlayable(SimulatorError):
    """The media library cannot decode a file."""
