"""The folder that servers get: complete, renewable, and without anything that could make another device."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from firmware_sim import manifest
from schemas.fields import DeviceKind
from schemas.identifiers import DeviceId
from services.control.trust.certificates import parse_authority
from services.local import installation, installation_verbs, key_sets, pki
from services.local.installation import InstallationRefused, Owners, Request, Surroundings
from services.local.pki import Pki
from services.shared.clock import utc_now

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HERE = Surroundings(broker_aliases=("broker",), database="database:5432", owners=Owners())
DEVICES = [(DeviceId.parse("loa-0001"), DeviceKind.CLUSTER), (DeviceId.parse("gw-01"), DeviceKind.GATEWAY)]


def a_request(folder: Path, *names: str) -> Request:
    return Request(
        site=folder / "site",
        authority=folder / "authority",
        broker_names=names or ("mqtt.example.vn",),
        surroundings=HERE,
        database="database:5432",
        device_connections=20_000,
        logs_refusals=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_in_the_site_can_make_signing_keys_and_devices_only_who_has_the_passphrase(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)

    authority = Pki(request.authority)
    secrets = {
        path.read_bytes() for path in (authority.device_ca_key, authority.service_ca_key, authority.root_signing_key)
    }
    assert len(secrets) == 3
    assert secrets & set(contents(request.site).values()) == set()
    certificate = (request.site / "secrets/issuing-ca.pem").read_bytes()
    encrypted = (request.site / "secrets/issuing-ca.key").read_bytes()
    for passphrase in (None, b"wrong"):
        with pytest.raises(ValueError, match=r"[Pp]assword"):
            parse_authority(certificate, encrypted, passphrase)
    passphrase = (request.site / "secrets/issuing_ca_passphrase").read_text().strip().encode()
    assert (
        parse_authority(certificate, encrypted, passphrase).certificate.subject.rfc4514_string()
        == "CN=Loa enrolment CA"
    )


def test_only_its_owner_can_read_a_file(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)

    assert {path.stat().st_mode & 0o777 for path in request.site.rglob("*") if path.is_file()} == {0o400}


def test_second_time_changes_nothing_that_is_good(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)
    first = contents(request.site)

    installation.prepare(request, now=NOW + timedelta(days=1))

    assert contents(request.site) == first


def test_second_time_renews_what_is_near_its_end_and_keeps_passwords(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)
    first = contents(request.site)

    installation.prepare(request, now=NOW + timedelta(days=70))

    second = contents(request.site)
    changed = {name for name in first if first[name] != second[name]}
    assert {"broker/certificates/broker.pem", "broker/certificates/device-ca.crl", "secrets/ingest.pem"} <= changed
    assert not any(name.endswith(("password", "_url", "shared_group", "secret_keys")) for name in changed)


def test_broker_answers_to_every_name_it_was_given(tmp_path: Path) -> None:
    installation.prepare(a_request(tmp_path), now=NOW)
    request = a_request(tmp_path, "mqtt.example.vn", "2001:db8::1")
    installation.prepare(request, now=NOW)

    certificate = x509.load_pem_x509_certificate((request.site / "broker/certificates/broker.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [
        "mqtt.example.vn", "2001:db8::1", "broker", "localhost", "127.0.0.1", "::1",
    ]  # fmt: skip


def test_database_urls_carry_the_passwords_of_the_roles(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)

    secrets = request.site / "secrets"
    password = (secrets / "ingest_database_password").read_text().strip()
    assert len(password) >= 32
    assert (secrets / "ingest_database_url").read_text() == f"postgresql://loa_ingest:{password}@database:5432/loa\n"


def test_devices_get_what_the_simulator_takes(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)

    installation.issue_devices(request.authority, tmp_path / "fleet", DEVICES, now=NOW)

    stations = manifest.parse((tmp_path / "fleet/fleet.json").read_text(), folder=tmp_path / "fleet")
    assert [(station.profile.id, station.profile.kind) for station in stations] == DEVICES
    assert all(
        each is not None and each.exists() for station in stations for each in (station.certificate, station.key)
    )
    root = (tmp_path / "fleet/root-public-key.hex").read_text().strip()
    assert stations[0].profile.root_public_key.hex() == root


def test_devices_need_an_authority(tmp_path: Path) -> None:
    with pytest.raises(InstallationRefused, match="holds no authority"):
        installation.issue_devices(tmp_path, tmp_path / "fleet", DEVICES, now=NOW)


def test_revoked_device_is_on_the_list_the_broker_gets(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)
    installation.issue_devices(request.authority, tmp_path / "fleet", DEVICES, now=NOW)
    certificate = x509.load_pem_x509_certificate((tmp_path / "fleet/loa-0001.pem").read_bytes())

    pki.revoke(Pki(request.authority), DEVICES[0][0], now=NOW)
    installation.prepare(request, now=NOW)

    revoked = x509.load_pem_x509_crl((request.site / "broker/certificates/device-ca.crl").read_bytes())
    assert [entry.serial_number for entry in revoked] == [certificate.serial_number]


def test_expiries_name_certificates_and_lists_the_next_first(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)

    found = installation.expiries(request.site)

    assert found[0].path.suffix == ".crl"
    assert found[0].at == NOW + pki.CRL_VALIDITY
    assert {each.path.name for each in found} >= {"broker.pem", "ingest.pem", "control.pem", "service-ca.pem"}
    (keys,) = [each for each in found if each.path.name == "keys.cose"]
    assert keys.at == NOW + key_sets.VALIDITY


def test_key_set_that_is_none_does_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=utc_now())
    keys = request.site / "secrets/keys.cose"
    keys.chmod(0o600)
    keys.write_text("nonsense")

    assert installation_verbs.main(["check", str(request.site)]) == 1

    assert f"installation: {keys}: not a signed key set" in capsys.readouterr().err


def test_device_that_was_never_certified_here_is_revoked_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=utc_now())

    assert installation_verbs.main(["revoke", "--authority", str(request.authority), "loa-0009"]) == 1

    err = capsys.readouterr().err
    assert "loa-0009 has no certificate of this authority" in err
    assert "/api/v1/devices/loa-0009/certificate/revoke" in err


def test_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere, request = tmp_path / "nowhere", a_request(tmp_path)
    installation.prepare(request, now=utc_now())

    given = ["--authority", str(request.authority), "--passphrase-file", str(nowhere)]
    assert installation_verbs.main(["signing-key", *given]) == 1

    assert capsys.readouterr().err == f"installation: {nowhere}: No such file or directory\n"


@pytest.mark.parametrize(("days", "status"), [(14, 0), (31, 1)])
def test_check_fails_when_something_ends_soon(tmp_path: Path, days: int, status: int) -> None:
    site, authority = tmp_path / "site", tmp_path / "authority"
    # The verb reads the clock itself, so what it is to find is made now.
    installation.prepare(a_request(tmp_path), now=utc_now())

    assert installation_verbs.main(["check", str(site), "--days", str(days)]) == status
    assert authority.exists()


def test_check_of_an_empty_folder_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert installation_verbs.main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"installation: there is no certificate below {tmp_path}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["prepare", "s", "--authority", "a", "--for", "host", "--broker-name", "No Name"], "is no host name"),
        (["devices", "f", "--authority", "a", "loa-0001"], "expected ID:KIND"),
        (["devices", "f", "--authority", "a", "area:cluster"], "reserved"),
        (["revoke", "--authority", "a", "X"], "argument ID"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        installation_verbs.main(arguments)

    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_manifest_is_json_with_the_kinds_in_words(tmp_path: Path) -> None:
    request = a_request(tmp_path)
    installation.prepare(request, now=NOW)
    installation.issue_devices(request.authority, tmp_path / "fleet", DEVICES, now=NOW)

    written = json.loads((tmp_path / "fleet/fleet.json").read_text())
    assert [device["kind"] for device in written["devices"]] == ["cluster", "gateway"]
