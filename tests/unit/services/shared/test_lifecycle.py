"""Signals, deadline and exit statuses."""

import asyncio
import os
import signal
from datetime import timedelta

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.shared.database.errors import DatabaseError, DatabaseOutdated, DatabaseRefused, DatabaseUnavailable
from services.shared.lifecycle import (
    EXIT_BAD_SETTINGS,
    EXIT_FAILED,
    EXIT_FORCED,
    EXIT_OK,
    CannotStart,
    run_program,
    run_until_stopped,
)
from services.shared.settings import ServiceSettings

LONG = timedelta(seconds=30)


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_LIFECYCLE_")

    name: str = Field(description="a name")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_asks_for_a_stop_and_the_rest_is_finished(number: signal.Signals) -> None:
    done = []

    async def run(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await stop.wait()
        await asyncio.sleep(0)
        done.append("wound up")

    assert await run_until_stopped(run, deadline=LONG) == EXIT_OK
    assert done == ["wound up"]


async def test_what_ends_by_itself_is_a_clean_exit() -> None:
    async def run(stop: asyncio.Event) -> None:
        assert not stop.is_set()

    assert await run_until_stopped(run, deadline=LONG) == EXIT_OK


async def test_what_outlives_the_deadline_is_cancelled() -> None:
    seen = []

    async def run(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    assert await run_until_stopped(run, deadline=timedelta(milliseconds=20)) == EXIT_FORCED
    assert seen == ["cancelled"]


async def test_second_signal_does_not_wait_for_the_deadline() -> None:
    async def run(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert await run_until_stopped(run, deadline=LONG) == EXIT_FORCED


async def test_timeout_of_the_program_itself_is_not_taken_for_the_deadline() -> None:
    async def run(stop: asyncio.Event) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await run_until_stopped(run, deadline=LONG)


async def test_signals_are_ours_no_longer_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def run(stop: asyncio.Event) -> None: ...

    await run_until_stopped(run, deadline=LONG)

    assert signal.getsignal(signal.SIGTERM) == before


async def never(settings: Settings, stop: asyncio.Event) -> None:
    raise AssertionError("must not run")


def test_bad_settings_end_with_lines_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program("services.x", Settings, never, []) == EXIT_BAD_SETTINGS
    assert capsys.readouterr().err == "services.x: TEST_LIFECYCLE_NAME: must be set (a name)\n"


def test_check_prints_settings_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_LIFECYCLE_NAME", "loa")

    assert run_program("services.x", Settings, never, ["--check"]) == EXIT_OK
    assert capsys.readouterr().out == '{\n  "name": "loa"\n}\n'


@pytest.mark.usefixtures("logging_restored")
def test_program_runs_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LIFECYCLE_NAME", "loa")
    seen = []

    async def run(settings: Settings, stop: asyncio.Event) -> None:
        seen.append(settings.name)

    assert run_program("services.x", Settings, run, []) == EXIT_OK
    assert seen == ["loa"]


def test_what_was_given_and_does_not_do_ends_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_LIFECYCLE_NAME", "x")

    async def alone(settings: Settings, stop: asyncio.Event) -> None:
        raise CannotStart("TEST_LIFECYCLE_PORT: 80 is taken")

    async def among_others(settings: Settings, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            async with asyncio.TaskGroup() as inner:
                inner.create_task(alone(settings, stop))

    for run in (alone, among_others):
        assert run_program("a.program", Settings, run, []) == EXIT_BAD_SETTINGS
        assert capsys.readouterr().err == "a.program: TEST_LIFECYCLE_PORT: 80 is taken\n"


@pytest.mark.parametrize("kind", [DatabaseOutdated, DatabaseRefused, DatabaseUnavailable])
def test_database_that_cannot_be_used_at_the_start_ends_with_a_line(
    kind: type[DatabaseError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_LIFECYCLE_NAME", "x")

    async def run(settings: Settings, stop: asyncio.Event) -> None:
        raise kind("why")

    assert run_program("a.program", Settings, run, []) == EXIT_FAILED
    assert capsys.readouterr().err == "a.program: TEST_LIFECYCLE_DATABASE__URL: why\n"


def test_bug_beside_it_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LIFECYCLE_NAME", "x")

    async def run(settings: Settings, stop: asyncio.Event) -> None:
        raise ExceptionGroup("both", [CannotStart("a port"), KeyError("a bug")])

    with pytest.raises(ExceptionGroup, match="both"):
        run_program("a.program", Settings, run, [])


def test_help_lists_every_setting_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_program("services.x", Settings, never, ["--help"])
    assert caught.value.code == 0
    assert "  TEST_LIFECYCLE_NAME (required)\n      a name\n" in capsys.readouterr().out
