"""Keeps a device certified: enrols it with its claim code, renews before the certificate ends, and takes up a new code.

The code is the one in the manifest, or what somebody has typed since: the file `claim-code` in the device's folder, which
is deleted once it was used or refused. A code that was refused is not tried again: somebody has to give another one. Until
there is an identity the device does not start; afterwards its journal, media and orders stay, whatever its certificate.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware_sim import backoff, enrolment
from firmware_sim.downloader import Downloader
from firmware_sim.enrolment import Ask, Identity
from firmware_sim.errors import DownloadFailed, NotOurs
from schemas.fields import ClockState

ANSWER_BYTES = 32 * 1024
REFUSED = frozenset({400, 401, 403, 404, 409, 413, 422})  # asking the same again will not help

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Where certificates come from: control's address, and a client that trusts nobody but the installation's CA."""

    url: str
    client: Downloader
    look_every_s: float  # for a code that was typed, and for a certificate that is due
    backoff_base_ms: int
    backoff_cap_ms: int
    lost_answers: float = 0.0  # the share that a scenario loses on the way back


class Papers:
    """What a device keeps of itself on flash. Every file is replaced whole and nobody else's to read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.for_tls = folder / "identity.pem"

    def identity(self) -> Identity | None:
        """What was adopted last. The file for TLS is made again from it: the two are never apart."""
        content = self._read("identity.json")
        identity = None if content is None else enrolment.load(content)
        if identity is not None:
            self._write(self.for_tls.name, identity.for_tls)
        return identity

    def adopt(self, identity: Identity) -> None:
        """Live by it from now on."""
        self._write("identity.json", identity.dump())
        self._write(self.for_tls.name, identity.for_tls)
        (self._folder / "identity.next").unlink(missing_ok=True)

    def next_key(self) -> str:
        """The key to ask with; made once, and kept until it is certified."""
        content = self._read("identity.next")
        if content is None:
            content = enrolment.new_key().encode()
            self._write("identity.next", content)
        return content.decode("ascii")

    def code(self, printed: str | None) -> str | None:
        """A code that was neither used nor refused: what was typed last, else what was printed on the device."""
        spent = (self._read("claims") or b"").decode("ascii").split()
        for code in (self._typed(), printed):
            if code and enrolment.code_name(code) not in spent:
                return code
        return None

    def spend(self, code: str) -> None:
        """Never use this code again."""
        self._write("claims", (self._read("claims") or b"") + f"{enrolment.code_name(code)}\n".encode())
        if self._typed() == code:
            (self._folder / "claim-code").unlink(missing_ok=True)

    def _typed(self) -> str | None:
        content = self._read("claim-code")
        return None if content is None else content.decode("utf-8", "replace").strip()[:64]

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        beside = self._folder / f".{name}.new"
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        beside.replace(self._folder / name)


class Enroller:
    """Keeps one device certified."""

    def __init__(
        self,
        device: str,
        folder: Path,
        printed_code: str | None,
        office: Office,
        *,
        read_clock: Callable[[], tuple[int, ClockState]],
        draw: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._device = device
        self._papers = Papers(folder)
        self._printed_code = printed_code
        self._office = office
        self._read_clock = read_clock
        self._draw = draw
        self._tell = tell
        self._failures = 0
        self._may_renew = True
        self._asked_with: str | None = None  # the code last asked with
        self._wait_until = 0.0  # of the loop's clock: not before, except with another code
        self.identity = self._papers.identity()

    @property
    def for_tls(self) -> Path:
        """The file with key and certificate, once there is an identity."""
        return self._papers.for_tls

    async def run(self, adopted: Callable[[Identity | None, Identity], None]) -> None:
        """Enrol, renew and enrol again, for ever; `adopted` is told the identity before and the new one."""
        loop = asyncio.get_running_loop()
        while True:
            code = self._papers.code(self._printed_code)
            is_due = code is not None or self._is_due()
            if is_due and (loop.time() >= self._wait_until or code != self._asked_with):
                self._failures = self._failures if code == self._asked_with else 0
                self._asked_with = code
                self._wait_until = loop.time() + await self._attend(code, adopted)
            wait_s = self._wait_until - loop.time()
            await asyncio.sleep(min(wait_s, self._office.look_every_s) if wait_s > 0 else self._office.look_every_s)

    async def _attend(self, code: str | None, adopted: Callable[[Identity | None, Identity], None]) -> float:
        """Ask for a certificate, with a code or with the present one; returns the seconds before the next attempt."""
        key = self._papers.next_key()
        if code is not None:
            ask = enrolment.with_code(code, key)
        else:
            assert self.identity is not None  # or nothing would be due
            ask = enrolment.with_present(self.identity, key)
        try:
            status, retry_after_s, content = await self._ask(ask)
            if status == 201:
                identity = enrolment.read(content, device=self._device, key=key)
            elif status in REFUSED:
                return self._refused(code, f"HTTP {status}: {content[:200].decode('utf-8', 'replace')}")
            else:
                return self._failed(f"HTTP {status}", at_least_s=retry_after_s)
        except DownloadFailed as error:
            return self._failed(str(error))
        except NotOurs as error:
            return self._refused(code, str(error))
        self._failures = 0
        self._may_renew = True
        before, self.identity = self.identity, identity
        self._papers.adopt(identity)
        if code is not None:
            self._papers.spend(code)
        self._tell("enrolments" if code is not None else "renewals")
        log.info("certificate_adopted", extra={"device": self._device, "renewal": code is None})
        adopted(before, identity)
        return 0.0

    def _is_due(self) -> bool:
        """Whether the certificate is to be renewed, by a clock that knows the time."""
        at_ms, clock = self._read_clock()
        return (
            self.identity is not None
            and self._may_renew
            and clock is not ClockState.UNSYNCHRONISED
            and at_ms >= self.identity.renew_after_ms
        )

    async def _ask(self, ask: Ask) -> tuple[int, float, bytes]:
        answer = await self._office.client.post(self._office.url + ask.path, ask.body, limit=ANSWER_BYTES)
        if self._draw() < self._office.lost_answers:
            self._tell("enrolment_answers_lost")
            raise DownloadFailed("the answer was lost")
        return answer

    def _failed(self, why: str, *, at_least_s: float = 0.0) -> float:
        self._failures += 1
        wait_ms = backoff.delay_ms(
            self._failures, base_ms=self._office.backoff_base_ms, cap_ms=self._office.backoff_cap_ms, draw=self._draw()
        )
        log.debug("enrolment_failed", extra={"device": self._device, "reason": why[:200]})
        return max(wait_ms / 1_000, at_least_s)

    def _refused(self, code: str | None, why: str) -> float:
        """Give up what will not do however often it is asked: somebody has to give another code."""
        self._tell("enrolments_refused")
        log.warning("enrolment_refused", extra={"device": self._device, "renewal": code is None, "reason": why[:300]})
        if code is not None:
            self._papers.spend(code)
        else:
            self._may_renew = False
        return 0.0
