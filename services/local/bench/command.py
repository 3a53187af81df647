"""`./loa bench`: reads what is asked for, runs the bench, prints the result.

Progress goes to standard error; standard output holds the result and nothing else.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from services.local.bench import chaos, emergency, ingest, month, overload, planner, storage
from services.local.bench.population import FEWEST
from services.local.bench.traffic import Profile

# Should a bench miss its own deadline, it is interrupted; and should that not help, we say what there is and end, and our
# children with us, before nine minutes are over.
OVERDUE_S = 500
LAST_RESORT_S = 30

NumberT = TypeVar("NumberT", int, float)

PROVINCE = 2_800_000  # devices the province expects in 2030


@dataclass(frozen=True, slots=True)
class Plan:
    """A bench that is about to run: the report it fills in, and what fills it in."""

    report: dict[str, Any]
    run: Callable[[], Coroutine[Any, Any, None]]


def main(arguments: Sequence[str]) -> int:
    """Run one bench; returns 0 when it was finished and nothing was lost."""
    options = _parser().parse_args(arguments)
    plan: Plan = options.plan(options)
    report = plan.report

    def tell() -> None:
        print(json.dumps(report) if options.json else readable(report), flush=True)

    def give_up(_number: int, _frame: object) -> None:
        report["problems"].append(f"not stopped {LAST_RESORT_S} s after it was overdue; its folder is left")
        tell()
        os._exit(1)  # the kernel ends our children with us

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(LAST_RESORT_S)
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(OVERDUE_S)
    try:
        asyncio.run(_interruptible(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        report["problems"].append("interrupted")
    finally:
        signal.alarm(0)
    tell()
    return 1 if report["problems"] else 0


async def _interruptible(plan: Plan) -> None:
    """Being told to stop is like Ctrl-C: everything started is stopped first."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await plan.run()


def _ingest(options: argparse.Namespace) -> Plan:
    request = ingest.Request(
        seconds=options.seconds,
        devices=options.devices,
        profile=options.profile,
        database=options.database,
        replicas=options.replicas,
        is_scaling=options.scaling,
    )
    report = ingest.empty_report(request)
    return Plan(report, lambda: ingest.run(request, report))


def _chaos(options: argparse.Namespace) -> Plan:
    kills = None if options.until_time_is_over else options.kills
    request = chaos.Request(kills=kills, seed=options.seed, database=options.database)
    report = chaos.empty_report(request)
    return Plan(report, lambda: chaos.run(request, report))


def _overload(options: argparse.Namespace) -> Plan:
    request = overload.Request(seconds=options.seconds, database=options.database)
    report = overload.empty_report(request)
    return Plan(report, lambda: overload.run(request, report))


def _storage(options: argparse.Namespace) -> Plan:
    request = storage.Request(
        rows=options.rows, database=options.database, parts=frozenset(options.part or storage.Part)
    )
    report = storage.empty_report(request)
    return Plan(report, lambda: storage.run(request, report))


def _month(options: argparse.Namespace) -> Plan:
    request = month.Request(
        clusters=options.clusters, days=options.days, seed=options.seed, breaks=getattr(options, "break")
    )
    report = month.empty_report(request)
    return Plan(report, lambda: month.run(request, report))


def _planner(options: argparse.Namespace) -> Plan:
    request = planner.Request(devices=options.devices, days=options.days)
    report = planner.empty_report(request)
    return Plan(report, lambda: planner.run(request, report))


def _emergency(options: argparse.Namespace) -> Plan:
    request = emergency.Request(
        clusters=options.clusters, flapping=options.flapping, rounds=options.rounds, processes=options.processes
    )
    report = emergency.empty_report(request)
    return Plan(report, lambda: emergency.run(request, report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./loa bench", description="Measure what this machine really does.")
    benches = parser.add_subparsers(required=True, metavar="BENCH")
    one = benches.add_parser(
        "ingest",
        help="messages a second from devices into the database, next to the ceiling and to naive scripts",
        description="Measures Loa's ingest against the broker's own ceiling and two naive scripts, in one run of less"
        " than nine minutes. Ends with status 1 when anything was lost, stored twice, or not measured.",
    )
    one.add_argument(
        "--seconds", type=_within(2.0, 60.0, "seconds"), default=20.0, help="length of each measurement (default 20)"
    )
    one.add_argument(
        "--devices",
        type=_within(FEWEST, 9_000_000, "devices"),
        default=PROVINCE,
        help=f"devices registered (default {PROVINCE})",
    )
    one.add_argument("--profile", type=Profile, choices=list(Profile), default=Profile.HEARTBEATS,
                     help="heartbeats only, or seven tenths heartbeats, two readings, one events")  # fmt: skip
    one.add_argument("--database", type=_server, metavar="URL", help="a superuser's URL of a PostgreSQL or TimescaleDB server;"
                     " a database is made there and dropped (default: a server of our own)")  # fmt: skip
    one.add_argument("--replicas", type=int, choices=range(1, 5), default=1, help="processes of ingest (default 1)")
    one.add_argument("--scaling", action="store_true", help="measure one replica and two, and say what is saturated")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    one.set_defaults(plan=_ingest)
    two = benches.add_parser(
        "chaos",
        help="what is lost when everything is killed at random moments: nothing, or it says what",
        description="Kills, cuts off and fills up ingest, broker and database under load, at moments drawn from a seed, and"
        " compares what devices numbered, and what ingest acknowledged, with what is stored. Takes less than nine minutes,"
        " which hold about a hundred faults. Ends with status 1 when anything was lost or stored twice, or when the time was over"
        " before there were as many faults as asked for.",
    )
    many = two.add_mutually_exclusive_group()
    many.add_argument(
        "--kills", type=_within(1, 10_000, "faults"), default=30, help="faults, of all kinds in turn (default 30)"
    )
    many.add_argument("--until-time-is-over", action="store_true", help="as many faults as the time holds")
    two.add_argument("--seed", type=int, default=1, help="which faults come when (default 1)")
    two.add_argument("--database", type=_server, metavar="URL", help="a superuser's URL of a PostgreSQL or TimescaleDB server, whose"
                     " processes and disk are left alone (default: a server of our own, which is killed as well)")  # fmt: skip
    two.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    two.set_defaults(plan=_chaos)
    three = benches.add_parser(
        "overload",
        help="ten times what can be taken: memory, events, promises, and full speed afterwards",
        description="Slows the database down until what ingest sustains is a tenth of what the broker passes, and offers ten"
        " times as much. Takes less than nine minutes. Ends with status 1 when memory grew, events waited behind"
        " heartbeats, something acknowledged is not stored, or full speed did not come back.",
    )
    three.add_argument(
        "--seconds", type=_within(15.0, 180.0, "seconds"), default=90.0, help="length of the overload (default 90)"
    )
    three.add_argument("--database", type=_server, metavar="URL", help="a superuser's URL of a PostgreSQL or TimescaleDB server;"
                       " a database is made there and dropped (default: a server of our own)")  # fmt: skip
    three.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    three.set_defaults(plan=_overload)
    four = benches.add_parser(
        "storage",
        help="bytes a heartbeat takes, what inserting, rolling up and compressing cost, and how long questions take",
        description="Makes heartbeats of sensors inside a database and compares keys, widths and compressions for them, in"
        " one run of less than nine minutes; compression only where the server has TimescaleDB. Ends with status 1 when"
        " something was not measured, or stored twice.",
    )
    four.add_argument(
        "--rows",
        type=_within(storage.FEWEST_ROWS, storage.MOST_ROWS, "rows"),
        default=20_000_000,
        help="heartbeats for each comparison (default 20000000)",
    )
    four.add_argument("--database", type=_server, metavar="URL", help="a superuser's URL of a PostgreSQL or TimescaleDB"
                      " server; a database is made there and dropped (default: a server of our own)")  # fmt: skip
    four.add_argument("--part", type=storage.Part, choices=list(storage.Part), action="append",
                      metavar="{keys,compression,queries}", help="only this; may be repeated (default all)")  # fmt: skip
    four.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    four.set_defaults(plan=_storage)
    five = benches.add_parser(
        "month",
        help="whether every cluster plays exactly what it should, for a month in which everything goes wrong",
        description="Lives through a month with a province of clusters, in simulated time and with simulated bad luck:"
        " real planning, signing, devices and proof of play. What sounded is judged by an oracle that shares no code"
        " with them. Takes less than nine minutes. Ends with status 1 when anything sounded that should not have, or"
        " did not that should, when an emission stays unexplained, or when clusters were out of step.",
    )
    five.add_argument(
        "--clusters", type=_within(1, 10_000, "clusters"), default=2_090, help="clusters, ten a commune (default 2090)"
    )
    five.add_argument("--days", type=_within(1, 31, "days"), default=30, help="length of the month (default 30)")
    five.add_argument("--seed", type=int, default=1, help="which wishes and which bad luck (default 1)")
    five.add_argument("--break", choices=list(month.BREAKS), help="turn a rule of arbitration round in the devices, or"
                      " plan what is stale, to see that the oracle notices: the run then has to end with status 1")  # fmt: skip
    five.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    five.set_defaults(plan=_month)
    six = benches.add_parser(
        "planner",
        help="how long planning takes, for everything and for one change, beside a plain loop over dateutil",
        description="Plans days of a province with policies, offers and an order of priority content in force, then one"
        " changed broadcast of a province of ten thousand devices, and signs some of the plans. Nothing is stored or sent."
        " Takes less than nine minutes. Ends with status 1 when a goal was missed, or a change planned by itself came to"
        " something else than planning everything.",
    )
    six.add_argument(
        "--devices",
        type=_within(planner.FEWEST, planner.MOST, "devices"),
        default=100_000,
        help="clusters and boards, fifty a commune (default 100000)",
    )
    six.add_argument("--days", type=_within(1, planner.MOST_DAYS, "days"), default=7, help="planned days (default 7)")
    six.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    six.set_defaults(plan=_planner)
    seven = benches.add_parser(
        "emergency",
        help="from a request to the first sample on every cluster, beside the broker's own fan-out of the same bytes",
        description="Issues alerts over HTTP to a province of simulated clusters, each with a TLS session, its own check of"
        " the signature and the sound in its cache, and takes the devices' own time of their first sample. Takes less than"
        " nine minutes. Ends with status 1 when a goal was missed (99 of 100 within 500 ms up to 2500 clusters, within 2 s"
        " up to 10000, and within 1.5 times what the broker alone takes), when anybody was not reached, or sounded twice."
        " The broker alone is measured with as many receivers that verify nothing (raw_fanout, ratio) and with the same ones"
        " each verifying the signature, as every device must (verified_fanout, ratio_to_verified): what lies between the two"
        " is arithmetic that this machine does for all devices.",
    )
    seven.add_argument(
        "--clusters",
        type=_within(emergency.FEWEST, emergency.MOST, "clusters"),
        default=2_090,
        help="clusters, each with a session of its own (default 2090)",
    )
    seven.add_argument("--flapping", type=_within(0.0, 0.5, "of all"), default=0.0, help="share of clusters whose uplinks"
                       " come and go; then it is counted as well who sounded how often (default 0)")  # fmt: skip
    seven.add_argument(
        "--rounds",
        type=_within(1, 20, "rounds"),
        help=f"alerts that are measured (default {emergency.ROUNDS}, of many clusters {emergency.ROUNDS_OF_MANY})",
    )
    seven.add_argument(
        "--processes",
        type=_within(1, 64, "processes"),
        help="of simulated devices, and of simple receivers (default: one a core)",
    )
    seven.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    seven.set_defaults(plan=_emergency)
    return parser


def _within(low: NumberT, high: NumberT, unit: str) -> Callable[[str], NumberT]:
    """Return what reads a number from `low` to `high`, both included, of the same type as these."""

    def read(text: str) -> NumberT:
        value = type(low)(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{low} to {high} {unit}")
        return value

    read.__name__ = type(low).__name__  # what argparse calls text that is no number
    return read


def _server(text: str) -> str:
    if not storage.is_server_url(text):
        raise argparse.ArgumentTypeError("must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return text


def readable(report: Mapping[str, Any]) -> str:
    """Return a report as lines for a person."""
    lines = []
    for name, value in report.items():
        if isinstance(value, dict):
            lines.append(name)
            lines.extend(f"  {inner:<26}{_text(each)}" for inner, each in _flat(value))
        elif isinstance(value, list):
            lines.extend(f"{name.removesuffix('s')}: {each}" for each in value)
        else:
            lines.append(f"{name:<28}{_text(value)}")
    return "\n".join(lines)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """Return what nested mappings hold, each with the names that lead to it."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} / ")
        else:
            yield f"{before}{name}", value


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
