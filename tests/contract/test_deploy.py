"""`deploy/`: the image, what reaches its builder, and the commands of the runbook."""

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from services.local import installation_verbs
from tests.support import site as sites
from tests.support.site import DEPLOY, TOP

DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
RUNBOOK = (DEPLOY / "README.md").read_text("utf-8")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest), continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


# --- the image -----------------------------------------------------------------------------------------------------------


def test_image_is_built_on_a_version_the_tests_run_on() -> None:
    (python,) = (rest for word, rest in instructions() if word == "ARG" and rest.startswith("PYTHON="))

    assert re.fullmatch(r"PYTHON=python:3\.11\.\d+-slim-[a-z]+", python)
    assert {rest.split()[0] for word, rest in instructions() if word == "FROM"} == {"${PYTHON}"}


def test_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    users = [rest for word, rest in last_stage() if word == "USER"]

    assert users == ["10001:10001"]
    assert last_stage().index(("USER", users[0])) > max(
        index for index, (word, _) in enumerate(last_stage()) if word in ("RUN", "COPY")
    )


def test_program_is_process_1_and_gets_the_signals_itself() -> None:
    (entry,) = (rest for word, rest in last_stage() if word == "ENTRYPOINT")

    assert json.loads(entry) == ["python", "-m"]
    assert ("STOPSIGNAL", "SIGTERM") in last_stage()


def test_image_holds_the_environment_and_nothing_that_made_it() -> None:
    copied = [rest for word, rest in last_stage() if word in ("COPY", "ADD")]
    run = " ".join(rest for word, rest in last_stage() if word == "RUN")

    assert copied == ["--from=build /opt/loa /opt/loa"]
    assert not re.search(r"\b(apt|apt-get|pip|uv|curl|gcc)\b", run)


def test_image_is_made_by_the_script_that_hosts_use() -> None:
    build = " ".join(rest for word, rest in instructions() if word == "RUN")

    assert 'deploy/install /opt/loa "$EXTRA"' in build
    assert os.access(DEPLOY / "install", os.X_OK)


def test_nothing_reaches_the_builder_but_what_is_built_from() -> None:
    lines = [line for line in (TOP / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert lines[0] == "*"
    assert let_in == {
        "README.md", "pyproject.toml", "requirements.txt", "requirements-bootstrap.txt", "requirements-dev.txt",
        "deploy/install", "schemas", "services", "firmware_sim",
    }  # fmt: skip
    assert all((TOP / name).exists() for name in let_in)
    script = (DEPLOY / "install").read_text()
    assert {f"{name}.txt" for name in re.findall(r"\$top/(requirements[\w-]*)\.txt", script)} <= let_in


# --- an extra is enough for its program --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=TOP, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def distributions_of(extra: str, wheel: Path) -> set[str]:
    """Names of everything that is installed for our wheel with one extra."""
    (own,) = metadata.distributions(path=[str(wheel)])
    found: set[str] = set()

    def add(requirements: list[str] | None, extras: set[str]) -> None:
        for text in requirements or []:
            each = Requirement(text)
            if each.marker and not any(each.marker.evaluate({"extra": name}) for name in extras | {""}):
                continue
            if each.name == "loa":
                add(own.requires, set(each.extras))
            elif each.name not in found:
                found.add(each.name)
                add(metadata.requires(each.name), set(each.extras))

    add(own.requires, {extra})
    return found


def linked(names: set[str], folder: Path) -> Path:
    """A folder for the import path that holds these distributions and no others."""
    folder.mkdir()
    for name in names:
        distribution = metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in distribution.files or () if not str(file).startswith("..")}:
            source = Path(str(distribution.locate_file(top)))
            if top != "__pycache__" and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


PROGRAMS = [
    ("ingest", "services.ingest"),
    ("ingest", "services.shared.database.migrate"),
    ("control", "services.control"),
    ("control", "services.shared.database.migrate"),
    ("sim", "firmware_sim"),
]


@pytest.mark.parametrize(("extra", "module"), PROGRAMS, ids=str)
def test_program_starts_with_its_extra_alone(extra: str, module: str, wheel: Path, tmp_path: Path) -> None:
    libraries = linked(distributions_of(extra, wheel), tmp_path / "libraries")

    done = subprocess.run(
        [sys.executable, "-S", "-P", "-m", module, "--check"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{wheel}:{libraries}", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )

    # Without settings it says which are missing. Anything that cannot be imported would end in a traceback.
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "must be set" in done.stderr or "Field required" in done.stderr


def test_ingest_comes_without_what_reads_media_or_serves_pages(wheel: Path) -> None:
    assert distributions_of("ingest", wheel) & {"av", "fastapi", "jinja2", "aiomqtt", "python-multipart"} == set()
    assert {"asyncpg", "mqtt5", "prometheus-client"} <= distributions_of("ingest", wheel)


# --- the runbook ---------------------------------------------------------------------------------------------------------------


def commands(program: str) -> Iterator[list[str]]:
    """Every command line of the runbook that begins with `program`, as words."""
    for line in RUNBOOK.splitlines():
        for text in [line.strip(), *re.findall(r"`([^`]+)`", line)]:
            if text.startswith(program):
                yield shlex.split(text.partition("  #")[0])[len(program.split()) :]


def test_installation_is_told_with_arguments_it_takes() -> None:
    told = [words for words in commands("./loa installation") if "…" not in words]

    assert len(told) >= 4
    for words in told:
        installation_verbs.parser().parse_args(words)
    assert {words[0] for words in commands("./loa installation")} == {
        "prepare",
        "devices",
        "revoke",
        "signing-key",
        "passphrase",
        "check",
    }


def test_containers_named_in_commands_exist() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    named = re.findall(r"docker compose (?:--file deploy/compose\.yaml )?exec -T (\S+)", RUNBOOK)
    named += re.findall(r"docker compose kill -s \w+ (\S+)", RUNBOOK)

    assert set(named) <= set(services)
    assert {"control", "broker", "database"} <= set(named)


def test_version_to_be_set_is_the_version_there_is() -> None:
    version = re.search(r'^version = "(.+)"$', (TOP / "pyproject.toml").read_text(), re.M)

    assert version is not None
    assert set(re.findall(r"LOA_VERSION=(\d[\d.]*)", RUNBOOK)) == {version[1]}


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:services|deploy|broker_config|prometheus|systemd)/[\w/.*-]+)`", RUNBOOK)))
)
def test_file_named_in_the_runbook_exists(path: str) -> None:
    assert [*TOP.glob(path), *DEPLOY.glob(path)]


def test_site_of_the_tests_is_what_the_runbook_has_made(tmp_path: Path) -> None:
    site = sites.make_site(tmp_path)

    assert sorted(path.name for path in site.iterdir()) == ["broker", "fleet", "secrets"]
