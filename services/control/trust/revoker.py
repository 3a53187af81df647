"""Makes revocations take effect: signs lists long before they run out, hands them to the broker, and throws out.

Whoever runs the broker fetches the list (`broker_config/follow-lists`), or takes it up as a file. Whether it has is not believed but
tried, with the list's canary. Only then are the revoked devices' live sessions ended, by taking over their client ids at
the services' door: earlier, they would simply come back. Every replica does this; the database sees to it that there is
one list.
"""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from services.control import enrolment_store, revocation_store
from services.control.delivery.connection import BrokerError, connected
from services.control.engine_settings import EnrolmentSettings
from services.control.metrics import ControlMetrics
from services.control.revocation_store import RevocationList
from services.control.trust import canaries, certificates
from services.control.trust.canaries import Answer
from services.control.trust.certificates import Revocation
from services.control.trust.issuer import Issuer
from services.control.turns import take_turns_listening
from services.shared.clock import utc_now
from services.shared.database.pool import Database
from services.shared.settings import BrokerSettings, DatabaseSettings

log = logging.getLogger(__name__)

TURN_EVERY = timedelta(seconds=30)
ASK_AGAIN = timedelta(seconds=0.5)  # while a list is on its way to the broker
TRY_EVERY = timedelta(hours=1)  # whether a list that was in force still is
HURRIED = 20  # times in a row; then the broker is asked once a turn
THROWN_OUT_AT_ONCE = 100


async def run_revoker(
    database: Database,
    *,
    listening: DatabaseSettings,
    broker: BrokerSettings,
    settings: EnrolmentSettings,
    issuer: Issuer,
    metrics: ControlMetrics,
) -> None:
    """Sign, hand over and throw out until cancelled."""
    revoker = Revoker(database, broker=broker, settings=settings, issuer=issuer, metrics=metrics)
    await take_turns_listening(
        "revocation",
        lambda: revoker.turn(now=utc_now()),
        every=TURN_EVERY,
        listening=listening,
        channels=[enrolment_store.CHANNEL],
        metrics=metrics,
    )


class Revoker:
    """One revoker of one process."""

    def __init__(
        self,
        database: Database,
        *,
        broker: BrokerSettings,
        settings: EnrolmentSettings,
        issuer: Issuer,
        metrics: ControlMetrics,
    ) -> None:
        self._database = database
        self._broker = broker
        self._settings = settings
        self._issuer = issuer
        self._metrics = metrics
        self._asked = 0
        self._tried = (0, datetime.min.replace(tzinfo=UTC))  # number of the list last seen in force, and when

    async def turn(self, *, now: datetime) -> bool:
        """Bring everything one step further; says whether it is worth asking again at once."""
        newest = await self._current_list(now=now)
        self._hand_over(newest)
        if self._is_known(newest, now=now):
            await self._throw_out(now=now)
            await self._measure(newest, Answer.IN_FORCE, now=now)
            return False
        answer = await self._ask(newest)
        if answer is Answer.IN_FORCE:
            self._tried = (newest.number, now)
            self._asked = 0
            async with self._database.transaction() as connection:
                await revocation_store.note_in_force(
                    connection, self._issuer.key_id, newest, _named(newest), at=utc_now()
                )
            await self._throw_out(now=now)
        await self._measure(newest, answer, now=now)
        if answer is Answer.IN_FORCE or self._asked >= HURRIED:
            return False
        self._asked += 1
        await asyncio.sleep(ASK_AGAIN.total_seconds())
        return True

    def _is_known(self, newest: RevocationList, *, now: datetime) -> bool:
        """Whether it was tried lately that this list is in force: each try is a refusal in the broker's log."""
        return self._tried[0] == newest.number and now - self._tried[1] < TRY_EVERY

    async def _current_list(self, *, now: datetime) -> RevocationList:
        key = self._issuer.key_id
        async with self._database.transaction() as connection:
            await revocation_store.lock(connection)
            await revocation_store.revoke_renewed(connection, overlap=self._settings.overlap, now=now)
            held = await revocation_store.newest(connection, key)
            entries = await revocation_store.revoked(connection, key, now=now)
            # By what it names, not by when: a revocation may be older than a list it was committed after.
            is_missing = held is None or not {each.serial for each in entries} <= set(_named(held))
            if held is not None and not is_missing and now - held.issued_at < self._settings.list_every:
                return held
            made = self._sign((held.number if held else 0) + 1, entries, now=now)
            await revocation_store.add(connection, key, made)
        self._asked = 0
        log.info("revocation_list_signed", extra={"number": made.number, "next_update": made.next_update.isoformat()})
        return made

    def _sign(self, number: int, entries: tuple[revocation_store.Revoked, ...], *, now: datetime) -> RevocationList:
        authority, validity = self._issuer.authority, self._settings.list_validity
        key = certificates.new_key()
        canary = certificates.issue_canary(authority, number, key.public_key(), now=now, valid_for=validity)
        listed = [Revocation(serial=int.from_bytes(each.serial, "big"), revoked_at=each.revoked_at) for each in entries]
        listed.append(Revocation(serial=canary.serial_number, revoked_at=now))
        signed = certificates.make_crl(authority, listed, now=now, next_update=now + validity, number=number)
        return RevocationList(
            number=number,
            list=certificates.crl_pem(signed).decode("ascii"),
            issued_at=now,
            next_update=now + validity,
            canary_serial=certificates.serial_as_stored(canary.serial_number),
            canary_certificate=certificates.certificate_pem(canary).decode("ascii"),
            canary_key=certificates.key_pem(key).decode("ascii"),
            in_force_at=None,
        )

    def _hand_over(self, newest: RevocationList) -> None:
        """Replace the file whole, unless it says the same already: a broker must never see half a list."""
        path = self._settings.list_file
        if path is None:
            return  # whoever runs the broker asks for it over HTTP
        try:
            if path.exists() and path.read_text("ascii", "replace") == newest.list:
                return
            fresh = path.with_name(path.name + ".new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with os.fdopen(descriptor, "w") as file:
                file.write(newest.list)
            fresh.replace(path)
        except OSError as error:
            log.warning("revocation_list_not_written", extra={"file": str(path), "reason": str(error)})

    async def _ask(self, newest: RevocationList) -> Answer:
        return await canaries.ask(
            self._broker.host,
            self._settings.probe_port or self._settings.broker_port,
            ca_file=Path(self._broker.ca_file),
            certificate=newest.canary_certificate,
            key=newest.canary_key,
        )

    async def _throw_out(self, *, now: datetime) -> None:
        key = self._issuer.key_id
        while True:
            async with self._database.connection() as connection:
                device_ids = await revocation_store.to_throw_out(connection, key, limit=THROWN_OUT_AT_ONCE, now=now)
            if not device_ids:
                return
            for device_id in device_ids:
                try:
                    await self._take_over(device_id)
                except BrokerError as error:
                    log.warning("session_not_ended", extra={"device": device_id, "reason": str(error)})
                    return
            async with self._database.transaction() as connection:
                await revocation_store.note_thrown_out(connection, key, device_ids, now=now, at=utc_now())
            log.warning("sessions_ended", extra={"devices": len(device_ids), "first": device_ids[0]})

    async def _take_over(self, device_id: str) -> None:
        """Client ids are one name space over both doors: whoever has it is thrown out."""
        async with connected(
            self._broker, client_id=device_id, inflight=1, publish_timeout=self._broker.connect_timeout
        ):
            pass

    async def _measure(self, newest: RevocationList, answer: Answer, *, now: datetime) -> None:
        async with self._database.connection() as connection:
            waiting, oldest = await revocation_store.pending(connection, self._issuer.key_id, now=now)
        self._metrics.revocation_list_seconds_left.set((newest.next_update - now).total_seconds())
        self._metrics.revocation_list_in_force.set(1 if answer is Answer.IN_FORCE else 0)
        self._metrics.revocations_waiting.set(waiting)
        self._metrics.revocation_oldest_seconds.set(max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)


def _named(made: RevocationList) -> tuple[bytes, ...]:
    """Serials of the certificates on a list."""
    listed = x509.load_pem_x509_crl(made.list.encode("ascii"))
    return tuple(certificates.serial_as_stored(each.serial_number) for each in listed)
