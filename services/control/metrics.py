"""Every metric that control exports, declared once.

One object per process, handed to whoever counts; there is no global registry, so tests and several services in one
process do not meet.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
# Occurrences are planned days ahead: what matters is whether plans are out in seconds or in minutes.
DELIVERY_SECONDS = (0.05, 0.2, 1.0, 5.0, 30.0, 120.0, 600.0)
AUTOMATIC_RELEASE = "automatic_release"  # what sensors released with nobody asked, among `alerts_issued`

# From a person's word to a sound: goal 0.5 s (p99).
ALERT_SECONDS = (0.005, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0)


class ControlMetrics:
    """The metrics of one control process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # --- planning
        self.planning_turns = Counter(
            "control_planning_turns_total", "Turns of the planner, by how they ended", ["result"], registry=registry
        )
        self.planning_seconds = Histogram(
            "control_planning_seconds", "Time one turn took that planned something", buckets=SECONDS, registry=registry
        )
        self.planned_emissions = Counter(
            "control_planned_emissions_total", "Emissions by what planning did with them", ["change"], registry=registry
        )
        self.planning_problems = Counter(
            "control_planning_problems_total", "Problems that planning found, by kind", ["kind"], registry=registry
        )
        self.issued_orders = Counter(
            "control_issued_orders_total", "Orders signed for devices, by kind", ["kind"], registry=registry
        )
        # --- delivery
        self.broker_connected = Gauge(
            "control_broker_connected", "Whether the dispatcher is connected to the broker", registry=registry
        )
        self.outbox_waiting = Gauge("control_outbox_waiting", "Messages in the outbox", registry=registry)
        self.outbox_oldest_seconds = Gauge(
            "control_outbox_oldest_seconds", "Age of the oldest message in the outbox", registry=registry
        )
        self.published = Counter(
            "control_published_messages_total", "Messages the broker has taken, by kind", ["kind"], registry=registry
        )
        self.publish_failures = Counter(
            "control_publish_failures_total", "Publishes that failed, by how", ["failure"], registry=registry
        )
        self.abandoned = Counter(
            "control_abandoned_messages_total",
            "Messages given up, by kind and reason",
            ["kind", "reason"],
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "control_delivery_seconds",
            "Time from the decision to the broker's confirmation",
            buckets=DELIVERY_SECONDS,
            registry=registry,
        )
        self.republished = Counter(
            "control_republished_orders_total",
            "Orders sent again because the device did not show them, by kind",
            ["kind"],
            registry=registry,
        )
        self.serials_repaired = Counter(
            "control_repaired_serials_total",
            "Serials raised because a device had a higher one than we remember",
            registry=registry,
        )
        # --- alerts
        self.alert_lane_connected = Gauge(
            "control_alert_lane_connected", "Whether the lane of alerts is connected to the broker", registry=registry
        )
        self.alert_publish_seconds = Histogram(
            "control_alert_publish_seconds",
            "Time from the decision on an alert to the broker's confirmation",
            buckets=ALERT_SECONDS,
            registry=registry,
        )
        self.alerts_republished = Counter(
            "control_republished_alerts_total", "Alerts that hold, sent to the broker once more", registry=registry
        )
        self.alerts_issued = Counter(
            "control_issued_alerts_total",
            "Versions of alerts signed, by what they ask for",
            ["purpose"],
            registry=registry,
        )
        self.alerts_issued.labels(AUTOMATIC_RELEASE)  # the first one is an increase, too
        self.alerts_refused = Counter(
            "control_refused_alerts_total",
            "Attempts to issue, change or end an alert that were refused, by why",
            ["action", "code"],
            registry=registry,
        )
        self.alerts_in_force = Gauge(
            "control_alerts_in_force",
            "Alerts, tests and silences in force, by what they ask for",
            ["purpose"],
            registry=registry,
        )
        self.alert_unreached = Gauge(
            "control_alert_unreached_devices",
            "Devices that alerts in force have not reached, by why",
            ["reason"],
            registry=registry,
        )
        self.alert_commands = Counter(
            "control_alert_commands_total",
            "Alerts told to single devices by command because they said nothing to the area's",
            registry=registry,
        )
        self.alert_tests = Counter(
            "control_alert_tests_total",
            "Times at which a test of alerts was due, by what became of it",
            ["purpose", "outcome"],
            registry=registry,
        )
        self.alert_test_results = Counter(
            "control_alert_test_results_total",
            "What tests of alerts came to on devices",
            ["purpose", "outcome"],
            registry=registry,
        )
        self.alert_test_failing = Gauge(
            "control_alert_test_failing_devices",
            "Devices that failed the last two tests of alerts, or more",
            registry=registry,
        )
        self.requests_waiting = Gauge(
            "control_operation_requests_waiting",
            "Operations that wait for a second person's word",
            registry=registry,
        )
        self.glass_broken = Gauge(
            "control_broken_glass_unacknowledged",
            "Operations that one person carried out alone, unknown to anybody else so far",
            registry=registry,
        )
        self.alerts_proposed = Counter(
            "control_proposed_alerts_total",
            "Alerts laid before a person, by what proposed them",
            ["origin"],
            registry=registry,
        )
        self.proposals_waiting = Gauge(
            "control_alert_proposals_waiting",
            "Proposed alerts about which nobody has decided, by what proposed them",
            ["origin"],
            registry=registry,
        )
        self.proposals_overdue = Gauge(
            "control_alert_proposals_overdue",
            "Of those, the ones that have waited longer than they should",
            ["origin"],
            registry=registry,
        )
        self.sensor_alarms = Gauge(
            "control_sensor_alarms", "Alarms of rules on readings that last, by kind", ["kind"], registry=registry
        )
        self.sensor_alarms_raised = Counter(
            "control_raised_sensor_alarms_total", "Alarms of rules on readings, by kind", ["kind"], registry=registry
        )
        # --- proof
        self.followed_events = Counter(
            "control_followed_events_total", "Committed events read, by kind", ["kind"], registry=registry
        )
        self.event_lag_seconds = Gauge(
            "control_event_lag_seconds", "Age of the newest event read, when it was read", registry=registry
        )
        self.play_reports = Counter(
            "control_play_reports_total", "Reports about plays, by who sent them", ["standing"], registry=registry
        )
        self.unplanned_plays = Counter(
            "control_unplanned_plays_total", "Emissions reported that are not on record", registry=registry
        )
        self.verdicts = Counter(
            "control_verdicts_total", "Emissions weighed, by outcome", ["outcome", "evidence"], registry=registry
        )
        self.overdue_emissions = Gauge(
            "control_overdue_emissions", "Emissions without a verdict 15 minutes after their slot", registry=registry
        )
        # --- quarantine
        self.quarantine_inbox = Gauge(
            "control_quarantine_inbox",
            "Uplinks in quarantine about which nobody has decided, by reason",
            ["reason"],
            registry=registry,
        )
        self.quarantine_oldest_seconds = Gauge(
            "control_quarantine_oldest_seconds", "How long the oldest of them has waited", registry=registry
        )
        self.quarantine_decisions = Counter(
            "control_quarantine_decisions_total",
            "Quarantined uplinks corrected, replayed or discarded by somebody",
            ["decision"],
            registry=registry,
        )
        # --- relays
        self.relay_segments = Counter(
            "control_relay_segments_total", "Segments of live sources handed out", registry=registry
        )
        self.relay_losses = Counter(
            "control_relay_losses_total",
            "Times a live source was lost, by what was wrong",
            ["trouble"],
            registry=registry,
        )
        self.relay_soundless_seconds = Gauge(
            "control_relay_soundless_seconds",
            "How long a live source whose emission is on the air has given no sound",
            ["source"],
            registry=registry,
        )
        # --- certificates of devices
        self.revocation_list_seconds_left = Gauge(
            "control_revocation_list_seconds_left",
            "Time until the newest list of revoked certificates runs out; then nobody enrolled can connect",
            registry=registry,
        )
        self.revocation_list_in_force = Gauge(
            "control_revocation_list_in_force",
            "Whether the broker goes by the newest list, as tried",
            registry=registry,
        )
        self.revocations_waiting = Gauge(
            "control_revocations_waiting", "Revoked certificates that the broker may still let in", registry=registry
        )
        self.revocation_oldest_seconds = Gauge(
            "control_revocation_oldest_seconds", "How long the oldest of them has waited", registry=registry
        )
        # --- audit
        self.audit_unsealed = Gauge(
            "control_audit_unsealed_entries", "Entries of the audit that wait for their seal", registry=registry
        )
        self.audit_seal_broken = Gauge(
            "control_audit_seal_broken", "Whether the chain of the audit was found tampered with", registry=registry
        )
        self.audit_head_seconds = Gauge(
            "control_audit_head_seconds",
            "Age of the newest signed head of the audit that has left this machine, where it should",
            registry=registry,
        )
        # --- security events
        self.security_events = Counter(
            "control_security_events_total", "Security events handed over, by sink", ["sink"], registry=registry
        )
        self.security_events_dropped = Counter(
            "control_security_events_dropped_total",
            "Refusals of requests there was no room for, by sink; what is in the database is never dropped",
            ["sink"],
            registry=registry,
        )
        self.security_sink_down = Gauge(
            "control_security_sink_down", "Whether a sink of security events takes nothing", ["sink"], registry=registry
        )
        # --- HTTP
        self.http_requests = Counter(
            "control_http_requests_total", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.http_limited = Counter(
            "control_http_limited_requests_total",
            "Requests refused because there were too many",
            ["by"],
            registry=registry,
        )
        self.http_request_seconds = Histogram(
            "control_http_request_seconds",
            "Time from a request to the end of its answer",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        # --- all loops
        self.loop_failures = Counter(
            "control_loop_failures_total", "Turns of a loop that an outage ended", ["loop"], registry=registry
        )
