"""What the documents tell people to type, ask for or set is there: verbs, options, modules, routes, settings, units."""

import argparse
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_sim.settings import Settings as SimulatorSettings
from firmware_sim.settings import descriptions
from services.control import commands as control_verbs
from services.control.api.app import routed
from services.control.api.openapi import document
from services.control.auditing import command as audit
from services.control.settings import ControlSettings
from services.ingest import drain
from services.ingest.settings import Settings as IngestSettings
from services.local import __main__ as verbs
from services.local import cap, demo, installation_verbs, quarantine
from services.local.bench import command as bench
from services.shared.database.migrate import MigrateSettings
from services.shared.settings import FILE_SUFFIX, setting_names

TOP = Path(__file__).resolve().parents[2]
# What was decided and what has changed is history; it may name what is gone.
DOCUMENTS = [
    each
    for each in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.split()
    if each not in ("DECISIONS.md", "CHANGELOG.md")
]
TEXTS = {each: (TOP / each).read_text("utf-8") for each in [*DOCUMENTS, "loa"]}


def service() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    return parser


def free() -> argparse.ArgumentParser:
    """Takes what it is given: pytest and uv judge it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "ingest": service, "sim": service, "migrate": service, "control": control_verbs._parser,
    "audit": audit._parser, "drain": drain.parser, "demo": demo._parser, "installation": installation_verbs.parser,
    "cap": cap._parser, "quarantine": quarantine.parser, "bench": bench._parser, "test": free, "lock": free,
    "lint": argparse.ArgumentParser,
}  # fmt: skip

# A line of a document, from the verb to the end of the command: what is quoted ends with the quote.
_COMMAND = re.compile(r"\./loa (?=[a-zA-Z])(?P<words>[^`#\n]*)(?P<comment>#[^`\n]*)?")
# Columns of an overview stand apart, redirections and pipes are the shell's.
_END = re.compile(r"\s{2,}[a-z(A-Z].*|\s[>|;&].*|[).,;:]+\s.*|[).,;:]+$")
_PLACEHOLDERS = re.compile(r"[\[\]…|]|\b(VERB|FILE|ID|REPLICA|N|ARG)\b")


def told() -> Iterator[tuple[str, list[str], str]]:
    """Every command of ours in the documents: where it stands, its words, and what the comment beside it says."""
    for name, text in TEXTS.items():
        for line in text.splitlines():
            for found in _COMMAND.finditer(line.removeprefix("#")):
                words = _END.sub("", found["words"]).replace("[", " ").replace("]", " ")
                comment = found["comment"] or ""
                yield f"{name}: {line.strip()[:90]}", shlex.split(words), "" if "./loa" in comment else comment


def described(parser: argparse.ArgumentParser, words: list[str]) -> list[argparse.ArgumentParser]:
    """The parsers that read these words: the verb's, and those of the verbs below it that are named."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            named = next((word for word in words if not word.startswith("-")), "VERB")
            if named not in ("VERB", "BENCH"):
                below = named.split("|")
                assert set(below) <= set(action.choices), f"no such verb among {sorted(action.choices)}: {named}"
                found += [action.choices[each] for each in below]
    return found


def options_of(parsers: list[argparse.ArgumentParser]) -> set[str]:
    return {option for parser in parsers for action in parser._actions for option in action.option_strings}


COMMANDS = list(told())


def test_there_is_a_parser_for_each_verb_and_enough_is_told() -> None:
    assert PARSERS.keys() == verbs.PARTS.keys() | verbs.TOOLS.keys()
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(("where", "words", "comment"), COMMANDS, ids=[f"{n}" for n in range(len(COMMANDS))])
def test_command_that_is_told_is_one_there_is(where: str, words: list[str], comment: str) -> None:
    assert words[0] in PARSERS or words[0] == "VERB", where
    if words[0] not in PARSERS or words[0] in ("test", "lock"):
        return
    parser = PARSERS[words[0]]()
    parsers = described(parser, words[1:])
    for word in [*words[1:], *re.findall(r"--[a-z][a-z-]*", comment)]:
        if word.startswith("--"):
            assert word.partition("=")[0] in options_of(parsers), f"{where}: no option {word}"
    if not _PLACEHOLDERS.search(" ".join(words)) and "--help" not in words and len(words) > 2:
        parser.parse_args(words[1:])


def test_option_told_of_a_verb_is_one_there_is() -> None:
    said = [
        (option, verb)
        for text in TEXTS.values()
        for option, verb in re.findall(r"`(--[a-z-]+)` of `\./loa (\w+)", text)
    ]
    assert said
    for option, verb in said:
        assert option in options_of([PARSERS[verb]()])


def test_module_that_is_told_can_be_run() -> None:
    modules = {each for text in TEXTS.values() for each in re.findall(r"python3? (?:-\w )*-m ([a-z_][\w.]+)", text)}
    assert len(modules) >= 5
    for name in modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.submodule_search_locations is None or importlib.util.find_spec(f"{name}.__main__"), name


def test_verb_of_control_that_the_runbook_tells_is_read() -> None:
    runbook = TEXTS["deploy/README.md"]
    told_verbs = re.findall(r"^\s*VERB (.*)$", runbook, re.MULTILINE)
    assert len(told_verbs) == 2
    for line in told_verbs:
        control_verbs._parser().parse_args(shlex.split(line.partition(" < ")[0]))


def test_unit_that_the_runbook_starts_is_one_we_ship() -> None:
    told_units = {
        word.strip("'")
        for line in re.findall(r"systemctl ([^`\n#]*)", TEXTS["deploy/README.md"])
        for word in line.replace("&&", " ").split()
        if word.strip("'").startswith("loa")
    }
    assert len(told_units) >= 5
    for unit in told_units:
        name = re.sub(r"@.*", "@", unit)
        files = {name, f"{name}.service", f"{name}.target"}
        assert any((TOP / "deploy/systemd" / each).is_file() for each in files), unit


# What to do about a fault names routes as well.
CATALOGUE = "\n".join(each.read_text("utf-8") for each in (TOP / "services/control/catalogue").glob("*.py"))

ROUTES = {
    (method.upper(), re.sub(r"\{\w+\}", "*", path))
    for path, methods in document(routed())["paths"].items()
    for method in methods
}


def test_route_that_the_catalogue_tells_is_one_there_is() -> None:
    found = re.findall(r"(GET|POST|PUT|DELETE) (/api/v1/[\w/…{}-]+)", CATALOGUE)
    assert len(found) >= 3
    for method, path in found:
        assert (method, re.sub(r"\{\w+\}|…", "*", path)) in ROUTES, f"{method} {path}"


@pytest.mark.parametrize("name", [each for each, text in TEXTS.items() if "/api/v1/" in text])
def test_route_that_is_told_is_one_there_is(name: str) -> None:
    for methods, path in re.findall(
        r"`((?:GET|POST|PUT|DELETE)(?:/(?:GET|POST|PUT|DELETE))*) (/api/v1/[^`\s]*)", TEXTS[name]
    ):
        asked = re.sub(r"\{\w+\}|/ID\b|…", lambda found: "/*" if found[0] == "/ID" else "*", path.partition("?")[0])
        for method in methods.split("/"):
            assert (method, asked.rstrip("/")) in ROUTES, f"{name}: {method} {path}"


SETTINGS = {
    each.variable for settings in (ControlSettings, IngestSettings, MigrateSettings) for each in setting_names(settings)
} | {name for name, _ in descriptions(SimulatorSettings, "SIM_")}


@pytest.mark.parametrize("name", TEXTS)
def test_setting_that_is_told_is_one_there_is(name: str) -> None:
    for found in re.finditer(r"\b(?:CONTROL|INGEST|MIGRATE|SIM)_[A-Z][A-Z0-9_]*(?![A-Z0-9_…{<])", TEXTS[name]):
        variable = found[0]
        if not variable.endswith("_"):
            assert variable in SETTINGS or variable.removesuffix(FILE_SUFFIX) in SETTINGS, f"{name}: {variable}"
