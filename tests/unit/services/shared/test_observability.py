"""One event is one line with its fields."""

import io
import json
import logging
import warnings
from typing import Literal

import pytest

from services.shared.observability import configure_logging
from services.shared.settings import LogSettings

pytestmark = pytest.mark.usefixtures("logging_restored")


def logged(form: Literal["json", "plain"], level: Literal["debug", "info", "warning", "error"] = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(LogSettings(format=form, level=level), service="test", stream=stream)
    return stream


def test_json_line_holds_event_and_fields() -> None:
    stream = logged("json")

    logging.getLogger("a.b").info("batch_committed", extra={"rows": 5, "name_of_unit": "Bắc Giang", "odd": {1}})

    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "service": "test",
        "logger": "a.b",
        "event": "batch_committed",
        "rows": 5,
        "name_of_unit": "Bắc Giang",
        "odd": "{1}",
    }


def test_traceback_stays_in_its_json_line() -> None:
    stream = logged("json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("it_failed")

    assert stream.getvalue().count("\n") == 1
    assert "ValueError: no" in json.loads(stream.getvalue())["exception"]


def test_plain_line_is_for_people() -> None:
    stream = logged("plain")

    logging.getLogger("x").warning("queue_full", extra={"depth": 3})

    assert stream.getvalue().rstrip().endswith(" WARNING queue_full depth=3")


def test_what_is_less_severe_than_asked_is_left_out() -> None:
    stream = logged("plain", "warning")

    logging.getLogger("x").info("quiet")

    assert stream.getvalue() == ""


def test_second_set_up_replaces_the_first() -> None:
    first, second = logged("plain"), logged("plain")

    logging.getLogger("x").info("once")

    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_python_warnings_go_to_the_log() -> None:
    stream = logged("json")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", UserWarning, stacklevel=1)

    assert json.loads(stream.getvalue())["logger"] == "py.warnings"
