"""Ingest's settings: what is required, refused and masked."""

from pathlib import Path

import pytest

from schemas import topics
from services.ingest.app import BULK, PRESENCE, VITAL, subscriptions
from services.ingest.settings import Settings
from services.shared.settings import SettingsError, load, masked
from tests.support.tls_files import tls_files


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    certificate, key = tls_files(tmp_path)
    return {
        "INGEST_DATABASE__URL": "postgresql://loa_ingest:hidden@localhost/loa",
        "INGEST_BROKER__HOST": "localhost",
        "INGEST_BROKER__CA_FILE": str(certificate),
        "INGEST_BROKER__CERT_FILE": str(certificate),
        "INGEST_BROKER__KEY_FILE": str(key),
        "INGEST_SHARED_GROUP": "sixteen-characters-or-more",
    }


def test_the_least_there_must_be_is_enough(environment: dict[str, str]) -> None:
    settings = load(Settings, environment)
    assert settings.replica == "ingest:1"
    assert "sixteen" not in masked(settings)
    assert "hidden" not in masked(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param("INGEST_SHARED_GROUP", "", id="no_secret"),
        pytest.param("INGEST_SHARED_GROUP", "short", id="a_secret_to_guess"),
        pytest.param("INGEST_SHARED_GROUP", "sixteen/characters/or/more", id="a_secret_of_several_levels"),
        pytest.param("INGEST_REPLICA", "ingest-1", id="a_client_id_a_device_could_have"),
        pytest.param("INGEST_RECEIVE_MAXIMUM", "65536", id="more_than_mqtt_knows"),
        pytest.param("INGEST_RETENTION__HEARTBEATS", "31d", id="rows_that_go_before_they_may_come"),
        pytest.param("INGEST_RETENTION__SENSOR_HEARTBEATS", "23h", id="rows_that_go_before_they_are_rolled_up"),
        pytest.param("INGEST_RETENTION__SENSOR_HOURS", "31d", id="roll_ups_that_go_before_their_stragglers"),
        pytest.param("INGEST_BATCH__AGE", "100", id="no_unit"),
    ],
)
def test_what_cannot_work_is_refused(environment: dict[str, str], variable: str, value: str) -> None:
    with pytest.raises(SettingsError):
        load(Settings, {**environment, variable: value})


def test_every_uplink_is_subscribed_to_and_only_presence_is_not_shared() -> None:
    made = (*subscriptions("group", BULK), *subscriptions("group", VITAL), PRESENCE)
    assert [each.topic_filter.removeprefix("$share/group/") for each in made] == list(topics.uplink_filters())
    assert [each.topic_filter for each in made if each.retained_first] == [topics.presence_filter()]
