"""What people do with alerts prepared beforehand: make one, change one, take one out of use.

The sound is made before anything is stored, so a template that is there can be heard; and what is changed goes to the
devices below its unit with their next configuration, so that it lies there when it is needed.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.identifiers import UnitId
from services.control import audit
from services.control.alerting import template_store
from services.control.alerting.rendering import Job, Unrenderable
from services.control.alerting.sounds import Workshop
from services.control.alerting.template import Template, TemplateText
from services.control.alerting.tones import Tone
from services.control.audit import Entry
from services.control.errors import Conflict, Fault, Invalid
from services.control.permissions import Actor
from services.control.sensing import rule_store
from services.control.units import UnitTree
from services.shared.database.pool import Connection, Database

# Sounds of an alert whose words nobody prepared, in the order in which they are the first a device fetches.
BARE_TONES = (Tone.WARNING, Tone.EVACUATE, Tone.NOTICE, Tone.TEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """Who does it, from where, and when."""

    actor: Actor | None  # None: the installation itself
    origin: str | None
    now: datetime

    @property
    def account_id(self) -> uuid.UUID | None:
        """The account, where it is a person's."""
        return self.actor.account_id if self.actor is not None else None


async def voiced(
    database: Database, workshop: Workshop, wanted: Template, *, before: Template | None, hand: Hand
) -> Template:
    """The template with a sound for each text. Raises `Invalid`, naming the text there is none to be made for.

    A text that is as it was keeps its sound. The tone is heard once, before the first text.
    """
    _check_languages(wanted)
    known = _known(before)
    texts = []
    faults = []
    for number, text in enumerate(wanted.texts):
        tone = wanted.tone if number == 0 else Tone.NONE
        try:
            texts.append(await _voiced(database, workshop, text, tone, known, hand=hand))
        except Unrenderable as reason:
            faults.append(Fault(f"texts[{number}]", str(reason)))
    if faults:
        raise Invalid(*faults)
    return replace(wanted, texts=tuple(texts))


def _check_languages(wanted: Template) -> None:
    seen: set[str] = set()
    for number, text in enumerate(wanted.texts):
        if text.language in seen:
            raise Invalid(Fault(f"texts[{number}].language", "alert_language_twice", {"language": text.language}))
        seen.add(text.language)


_Sounding = tuple[Tone, str, str, bytes | None]


def _sounding(text: TemplateText, tone: Tone) -> _Sounding:
    return (tone, text.language, text.words, text.recording_sha256)


def _known(before: Template | None) -> dict[_Sounding, bytes]:
    """The sounds there are, by what is to be heard in them."""
    if before is None:
        return {}
    return {
        _sounding(text, before.tone if number == 0 else Tone.NONE): text.media_sha256
        for number, text in enumerate(before.texts)
        if text.media_sha256 is not None
    }


async def _voiced(
    database: Database,
    workshop: Workshop,
    text: TemplateText,
    tone: Tone,
    known: dict[_Sounding, bytes],
    *,
    hand: Hand,
) -> TemplateText:
    if (there := known.get(_sounding(text, tone))) is not None:
        return replace(text, media_sha256=there)
    if tone is Tone.NONE and not text.words and text.recording_sha256 is None:
        return replace(text, media_sha256=None)  # for boards only
    recording = None
    if text.recording_sha256 is not None:
        async with database.connection() as connection:
            if await workshop.recording(connection, text.recording_sha256) is None:
                raise Unrenderable("alert_recording_unknown")
        recording = str(workshop.files.path(text.recording_sha256))
    job = Job(tone=tone, language=text.language, words=text.words, recording=recording)
    made = await workshop.make(database, job, by=hand.account_id, now=hand.now)
    return replace(text, media_sha256=made.sha256)


async def create(connection: Connection, template: Template, tree: UnitTree, *, hand: Hand) -> Template:
    """Store a new template that has its sounds."""
    await template_store.add(connection, template)
    return await _changed(connection, "alert_template_created", None, template.template_id, tree, hand=hand)


async def change(connection: Connection, stored: Template, wanted: Template, tree: UnitTree, *, hand: Hand) -> Template:
    """Put another in its place, with its sounds. Raises `Conflict` when it is out of use, `Invalid` for another unit."""
    _check_in_use(stored)
    if wanted.unit_id != stored.unit_id:
        raise Invalid(Fault("unit_id", "owning_unit_is_fixed"))
    await template_store.replace(connection, wanted)
    return await _changed(connection, "alert_template_changed", stored, stored.template_id, tree, hand=hand)


async def retire(connection: Connection, stored: Template, tree: UnitTree, *, hand: Hand) -> Template:
    """Take a template out of use; alerts that were made of it stay what they are.

    Raises `Conflict` if it is already, and while a rule on readings proposes it.
    """
    _check_in_use(stored)
    rule = await rule_store.name_of_user(connection, stored.template_id)
    if rule is not None:
        raise Conflict("alert_template_of_a_rule", facts={"name": stored.name, "rule": rule})
    await template_store.retire(connection, stored.template_id, by=hand.account_id, at=hand.now)
    return await _changed(connection, "alert_template_retired", stored, stored.template_id, tree, hand=hand)


async def lay_out_tones(database: Database, workshop: Workshop, tree: UnitTree, *, hand: Hand) -> bool:
    """Make the bare tones that are missing and have every device fetch them; returns whether any was."""
    async with database.connection() as connection:
        there = await template_store.tones(connection)
    missing = [tone for tone in BARE_TONES if tone not in there]
    made = {tone: await workshop.make(database, Job(tone=tone), by=hand.account_id, now=hand.now) for tone in missing}
    if not made:
        return False
    async with database.transaction() as connection:
        for tone, media in made.items():
            await template_store.put_tone(connection, tone, media.sha256)
        await template_store.ask_to_issue(connection, _everywhere(tree), at=hand.now)
    return True


def _everywhere(tree: UnitTree) -> tuple[UnitId, ...]:
    return tuple(unit_id for root in tree.roots for unit_id in tree.subtree(root.unit_id))


def _check_in_use(stored: Template) -> None:
    if stored.retired_at is not None:
        raise Conflict("alert_template_retired", facts={"name": stored.name})


async def _changed(
    connection: Connection,
    action: str,
    before: Template | None,
    template_id: uuid.UUID,
    tree: UnitTree,
    *,
    hand: Hand,
) -> Template:
    after = await template_store.template(connection, template_id)
    await audit.record(
        connection,
        Entry(
            action=action,
            subject=f"alert_template:{template_id}",
            unit_id=after.unit_id,
            before=before.described() if before is not None else None,
            after=after.described(),
        ),
        actor=hand.actor,
        origin=hand.origin,
        at=hand.now,
    )
    await template_store.ask_to_issue(connection, tree.subtree(after.unit_id), at=hand.now)
    return after
