"""What devices say themselves about alerts: reads the traces of simulated fleets, and judges them. Pure.

See `firmware_sim.trace` for the lines. Instants are microseconds since 1970 on the machine's clock, which the devices of
this bench share.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Span = tuple[int, int]
STILL_UP = 2**62
TOLD_OF = 5


@dataclass(slots=True)
class AlertTrace:
    """One alert, by device."""

    came_us: dict[str, int] = field(default_factory=dict)  # the first packet
    started: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)  # when; occurrence and content
    handled: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)  # when; version and result

    def first_starts(self) -> dict[str, int]:
        """When each device began it first."""
        return {device: min(each[0] for each in starts) for device, starts in self.started.items()}

    def results(self, version: int) -> Counter[str]:
        """How many devices said what about a version."""
        words = (word for told in self.handled.values() for word in told)
        return Counter(result for _, said, result in words if said == version)

    def told_at(self, version: int, result: str) -> list[int]:
        """When devices said this of a version."""
        words = (word for told in self.handled.values() for word in told)
        return [at_us for at_us, said, what in words if (said, what) == (version, result)]


@dataclass(slots=True)
class FleetTrace:
    """Everything that was traced."""

    alerts: dict[str, AlertTrace] = field(default_factory=dict)
    links: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)  # when; whether it came up

    def take(self, lines: Iterable[str]) -> None:
        """Take in whole lines; raises `ValueError` for one that is none."""
        for line in lines:
            match line.split("\t"):
                case ["up" | "down" as what, device, at_us]:
                    self.links.setdefault(device, []).append((int(at_us), what == "up"))
                case ["came", device, at_us, alert]:
                    self._alert(alert).came_us.setdefault(device, int(at_us))
                case ["handled", device, at_us, alert, version, result]:
                    word = int(at_us), int(version), result
                    self._alert(alert).handled.setdefault(device, []).append(word)
                case ["started", device, at_us, alert, occurrence, item]:
                    start = int(at_us), int(occurrence), int(item)
                    self._alert(alert).started.setdefault(device, []).append(start)
                case ["ended", *_]:
                    pass
                case _:
                    raise ValueError(f"{line[:100]!r} is no line of a trace")

    def alert(self, alert_id: str) -> AlertTrace:
        """What was traced of an alert so far."""
        return self.alerts.get(alert_id, AlertTrace())

    def _alert(self, alert_id: str) -> AlertTrace:
        return self.alerts.setdefault(alert_id, AlertTrace())

    def was_up(self, device: str, span: Span) -> bool:
        """Whether a device had an uplink at any instant of a span."""
        begin, end = span
        up_since: int | None = None
        for at_us, is_up in [*self.links.get(device, ()), (STILL_UP, False)]:
            if is_up:
                up_since = at_us if up_since is None else up_since
            elif up_since is not None:
                if up_since < end and at_us > begin:
                    return True
                up_since = None
        return False

    def deeds(self, alert_id: str, device: str, *, since_us: int) -> dict[str, list[str]]:
        """What a device did about an alert, and when its uplink came and went, in seconds since an instant."""
        alert = self.alert(alert_id)

        def seconds(at_us: int) -> str:
            return f"{(at_us - since_us) / 1e6:.2f}"

        return {
            "uplink": [f"{seconds(at_us)} {'up' if up else 'down'}" for at_us, up in self.links.get(device, ())],
            "started": [seconds(each[0]) for each in alert.started.get(device, ())],
            "handled": [f"{seconds(at_us)} {what}" for at_us, _, what in alert.handled.get(device, ())],
        }

    def dropped(self, devices: Iterable[str], span: Span) -> int:
        """How many of these lost their uplink within a span."""
        begin, end = span
        return sum(
            any(not is_up and begin <= at_us < end for at_us, is_up in self.links.get(device, ())) for device in devices
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounded:
    """How often an alert sounded on each device that had an uplink while it was valid."""

    online: int  # devices that had an uplink in time
    once: int  # of these: each repetition that was due sounded, and sounded once
    never: int
    twice: int  # a repetition sounded twice, or the next one began before its time
    skipped: int  # a repetition that was due did not sound
    repetitions: int  # that sounded, all together
    others: Mapping[str, Mapping[str, object]]  # up to five of those that did not sound it once, and what they did

    @property
    def is_exact(self) -> bool:
        """Whether everybody sounded everything once."""
        return self.once == self.online and not self.never and not self.twice and not self.skipped


def sounded(
    trace: FleetTrace, alert_id: str, devices: Sequence[str], *, valid: Span, margin_us: int, period_us: int | None
) -> Sounded:
    """Judge an alert of one content that was in force in `valid`.

    Who had an uplink only within `margin_us` before its end is not held to having heard it. `period_us` is from the
    beginning of one repetition to that of the next; None: it sounds once.
    """
    alert, (begin, end) = trace.alert(alert_id), valid
    online = {device for device in devices if trace.was_up(device, (begin, end - margin_us))}
    verdicts = {
        device: _verdict([each[0] for each in alert.started.get(device, ())], end - margin_us, period_us)
        for device in online
    }
    said = Counter(verdicts.values())
    strangers = set(alert.started) - online  # heard it at the last moment: may sound, and once
    late = Counter(_verdict([each[0] for each in alert.started[device]], 0, period_us) for device in strangers)
    others = sorted(device for device, verdict in verdicts.items() if verdict != "once")[:TOLD_OF]
    return Sounded(
        online=len(online),
        once=said["once"],
        never=said["never"],
        twice=said["twice"] + late["twice"],
        skipped=said["skipped"],
        repetitions=sum(map(len, alert.started.values())),
        others={
            device: {"verdict": verdicts[device], **trace.deeds(alert_id, device, since_us=begin)} for device in others
        },
    )


def _verdict(starts: Sequence[int], until_us: int, period_us: int | None) -> str:
    """Return once, never, twice or skipped for the instants at which a device began an alert."""
    if not starts:
        return "never"
    if period_us is None:
        return "once" if len(starts) == 1 else "twice"
    ordered = sorted(starts)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ordered)]
    if any(gap < period_us // 2 for gap in gaps):
        return "twice"
    if any(gap > period_us * 3 // 2 for gap in gaps) or ordered[-1] + period_us * 3 // 2 < until_us:
        return "skipped"
    return "once"


def whole_lines(text: str) -> tuple[list[str], int]:
    """Return the whole lines of what was read, and how many characters they are."""
    end = text.rfind("\n") + 1
    return text[:end].splitlines(), end


def spread(values: Mapping[str, int], since: Mapping[str, int]) -> list[float]:
    """Return milliseconds from one instant to another, ascending, of everybody who has both."""
    return sorted((at_us - since[device]) / 1_000 for device, at_us in values.items() if device in since)
