"""`deploy/prometheus/`: rules about metrics that exist, with labels that exist, each with its line in the runbook."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from services.control.alerting.timetable import RUN_OUTCOMES
from services.control.metrics import AUTOMATIC_RELEASE, ControlMetrics
from services.control.planning.reconcile import Outcome
from services.control.sensing.rule import BLIND, THRESHOLD
from services.ingest.admission import Reason
from services.ingest.brokerlog import RefusalKind
from services.ingest.metrics import DEFERRED, FORGED
from services.ingest.metrics import Metrics as IngestMetrics
from tests.support.site import DEPLOY, TOP

RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
RUNBOOK = (DEPLOY / "README.md").read_text("utf-8")

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
_METRIC = re.compile(r"\b((?:ingest|control)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)(=~|!~|!=|=)\"([^\"]*)\"")

# What a label may hold, where a rule asks for a certain value.
VALUES: Mapping[tuple[str, str], set[str]] = {
    ("ingest_broker_refusals_total", "kind"): {kind.value for kind in RefusalKind},
    ("ingest_events_deferred_total", "reason"): set(DEFERRED),
    ("ingest_messages_quarantined_total", "reason"): set(FORGED) & set(Reason),
    ("control_issued_alerts_total", "purpose"): {AUTOMATIC_RELEASE},
    ("control_sensor_alarms", "kind"): {THRESHOLD, BLIND},
    ("control_verdicts_total", "outcome"): {outcome.value for outcome in Outcome},
    ("control_alert_tests_total", "outcome"): set(RUN_OUTCOMES),
}


def exported() -> Mapping[str, set[str]]:
    """Every series both services can export, with its labels."""
    control = CollectorRegistry()
    ControlMetrics(control)
    return dict(_series(IngestMetrics().registry)) | dict(_series(control))


def _series(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    for collector in set(registry._collector_to_names):
        for metric in collector.collect():
            labels = set(getattr(collector, "_labelnames", ()))
            for suffix in _SUFFIXES[metric.type]:
                yield metric.name + suffix, labels | ({"le"} if suffix == "_bucket" else set())


def used(expression: str) -> Iterator[tuple[str, list[Any]]]:
    for name, matchers in _METRIC.findall(expression):
        yield name, _MATCHER.findall(matchers)


def without_aggregates(expression: str) -> str:
    """The expression with a mark in place of every sum, max, min or average: the labels it keeps."""
    while found := re.search(r"\b(?:sum|max|min|avg)\b(?: by \(([^)]*)\))? ?\(", expression):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            end += 1
        expression = f"{expression[: found.start()]}<{found[1] or ''}>{expression[end:]}"
    return expression


def operands(expression: str) -> Iterator[frozenset[str]]:
    """The labels of each series that takes part, as far as services and aggregates give them."""
    bare = without_aggregates(expression)
    for kept in re.findall(r"<([^>]*)>", bare):
        yield frozenset(re.findall(r"\w+", kept))
    known = exported()
    for name, _ in used(bare):
        yield frozenset(known[name] | {"instance", "job"})


def test_there_are_metrics_to_compare_with() -> None:
    names = exported()

    assert {
        "ingest_messages_received_total",
        "ingest_commit_seconds_bucket",
        "control_overdue_emissions",
    } <= names.keys()
    assert names["ingest_broker_refusals_total"] == {"kind"}


def test_what_is_counted_by_a_known_reason_is_there_from_the_start() -> None:
    """`increase()` cannot see the first count of a series that is born with it."""
    said = set(re.findall(r"deferred\[\"(\w+)\"\]", (TOP / "services/ingest/store.py").read_text("utf-8")))
    shown = generate_latest(IngestMetrics().registry).decode()

    assert said == set(DEFERRED)
    for name, label, values in (
        ("events_deferred", "reason", DEFERRED),
        ("broker_refusals", "kind", [kind.value for kind in RefusalKind]),
    ):
        for value in values:
            assert f'ingest_{name}_total{{{label}="{value}"}} 0.0' in shown


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_rule_speaks_of_metrics_and_labels_that_exist(rule: Mapping[str, Any]) -> None:
    known = exported()
    series = list(used(rule["expr"]))

    assert series or rule["expr"].startswith("up{")
    for name, matchers in series:
        assert name in known
        for label, operator, value in matchers:
            assert label in known[name]
            asked = set(value.split("|")) if operator in ("=~", "!~") else {value}
            assert asked <= VALUES[name, label]


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_labels_that_are_kept_or_told_exist(rule: Mapping[str, Any]) -> None:
    known = exported()
    available = {"instance", "job"}.union(*(known[name] for name, _ in used(rule["expr"])))
    kept = {label.strip() for each in re.findall(r"\bby \(([^)]*)\)", rule["expr"]) for label in each.split(",")}
    told = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))

    assert kept <= available
    if kept:
        assert told <= kept
    assert told <= available


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_series_that_are_joined_have_the_same_labels_or_say_by_which(rule: Mapping[str, Any]) -> None:
    """`a and b` finds nothing, for ever, where one of them has a label more."""
    for alternative in re.split(r"\bor\b", rule["expr"]):
        if not re.search(r"\b(?:on|ignoring) \(", alternative):
            assert len(set(operands(alternative))) <= 1


def test_a_gauge_of_lanes_alarms_for_a_replica() -> None:
    laned = {name for name, labels in exported().items() if "lane" in labels}

    assert "ingest_broker_connected" in laned
    for rule in RULES:
        assert not laned & {name for name, _ in used(without_aggregates(rule["expr"]))}


def test_counters_are_never_added_up_over_replicas_that_read_one_log() -> None:
    for rule in RULES:
        assert not re.search(r"sum\b[^(]*\((?:rate|increase)\(ingest_broker_refusals_total", rule["expr"])


def test_every_rule_has_a_name_of_its_own_and_a_severity() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {rule["labels"]["severity"] for rule in RULES} == {"page", "ticket"}


def test_runbook_says_what_to_do_about_each_alarm_and_no_other() -> None:
    rows = re.findall(r"^\| (Loa\w+) \| (\w+) \| ([^|]+) \| ([^|]+) \|$", RUNBOOK, re.M)

    assert [(name, severity) for name, severity, _, _ in rows] == [
        (rule["alert"], rule["labels"]["severity"]) for rule in RULES
    ]
    assert set(re.findall(r"\bLoa[A-Z]\w+", RUNBOOK)) == set(NAMES)


# What is tried by hand, since promtool comes with no package of ours: held to the rules here, so that it goes on to fit.
TRIED: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text("utf-8"))["tests"]


def firing() -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Every alarm that a test expects: the test, the rule, and labels and words of the alarm."""
    rules = {rule["alert"]: rule for rule in RULES}
    for test in TRIED:
        for case in test["alert_rule_test"]:
            for alarm in case["exp_alerts"]:
                yield test, rules[case["alertname"]], alarm


def test_rules_tried_by_hand_are_rules_that_exist_and_every_page_is_tried() -> None:
    assert {each["alertname"] for test in TRIED for each in test["alert_rule_test"]} <= set(NAMES)
    pages = {rule["alert"] for rule in RULES if rule["labels"]["severity"] == "page"}
    assert pages <= {rule["alert"] for _, rule, _ in firing()}


def test_alarms_are_expected_with_the_labels_and_words_that_their_rules_give_them() -> None:
    for test, rule, alarm in firing():
        labels = dict(alarm["exp_labels"])
        assert labels.pop("severity") == rule["labels"]["severity"], rule["alert"]
        # Series are tried without the job that Prometheus adds, and a quantile takes `le` away.
        kept = [each - {"job", "le"} for each in operands(rule["expr"])]
        assert labels.keys() - {"job"} in kept or rule["expr"].startswith("up{"), rule["alert"]
        words = re.sub(
            r"\\{\\{ \\\$labels\\\.(\w+) \\}\\}",
            lambda found, labels=labels: re.escape(labels[found[1]]),  # type: ignore[misc]
            re.escape(rule["annotations"]["summary"]).replace("\\ ", " "),
        )
        words = re.sub(r"\\{\\{ \\\$value[^}]*\\}\\}", ".+", words)
        assert re.fullmatch(words, alarm["exp_annotations"]["summary"]), (rule["alert"], words)
        given = {each["series"].partition("{")[0] for each in test["input_series"]}
        asked = {name for name, _ in used(rule["expr"])} or {"up"}
        assert given & asked, f"{test['name']} says nothing that {rule['alert']} asks for"


def test_rules_are_tried_with_series_as_they_are_exported() -> None:
    """A series that lacks a label of its metric tries what never happens."""
    known = exported()
    series = {each["series"] for test in TRIED for each in test["input_series"]}

    for name, labels in (re.fullmatch(r"(\w+)\{(.*)\}", each).groups() for each in series):  # type: ignore[union-attr]
        told = {label for label, _, _ in _MATCHER.findall(labels)} - {"instance", "job"}
        assert (name, told) == (name, known[name] if name != "up" else set())


def test_prometheus_loads_the_rules() -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))

    assert configuration["rule_files"] == ["alerts.yml"]
    # The jobs that rules tell apart by name.
    assert {"ingest", "control"} <= {job["job_name"] for job in configuration["scrape_configs"]}
