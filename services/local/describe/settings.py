"""The tables of settings in `deploy/README.md`, made from the settings classes: `python -m services.local.describe.settings`.

Each table stands between `<!-- settings of MODULE -->` and `<!-- end of settings -->`; everything else is left alone. A
test fails when the committed tables are not what this makes.
"""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings

from services.shared.settings import FILE_SUFFIX, SettingName, setting_names

RUNBOOK = Path(__file__).resolve().parents[3] / "deploy" / "README.md"

# What is run with `python -m` and where its settings are declared. Named, not imported: the simulator shares no code
# with the services, and a service's settings should not be loaded to describe another's.
DECLARED: Mapping[str, tuple[str, str]] = {
    "services.ingest": ("services.ingest.settings", "Settings"),
    "services.control": ("services.control.settings", "ControlSettings"),
    "services.shared.database.migrate": ("services.shared.database.migrate", "MigrateSettings"),
    "firmware_sim": ("firmware_sim.settings", "Settings"),
}

_TABLE = re.compile(r"(<!-- settings of (?P<module>\S+) -->\n).*?(<!-- end of settings -->\n)", re.S)


def settings_class(module: str) -> type[BaseSettings]:
    """The settings of what `python -m MODULE` runs."""
    declared_in, name = DECLARED[module]
    found: object = getattr(importlib.import_module(declared_in), name)
    assert isinstance(found, type)
    assert issubclass(found, BaseSettings)
    return found


def table(module: str) -> str:
    """Every setting of one program, with default and meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    rows += [_row(setting, module) for setting in setting_names(settings_class(module))]
    return "\n".join(rows) + "\n"


def filled_in(text: str) -> str:
    """The text with every table between its two marks made anew."""
    return _TABLE.sub(lambda match: match[1] + table(match["module"]) + match[3], text)


def tables_of(text: str) -> tuple[str, ...]:
    """The programs whose settings the text has a place for."""
    return tuple(match["module"] for match in _TABLE.finditer(text))


def _row(setting: SettingName, module: str) -> str:
    default = "**must be set**" if setting.is_required else f"`{setting.default}`" if setting.default else "unset"
    # The simulator has a loader of its own and no secrets.
    from_file = f"; or `{setting.variable}{FILE_SUFFIX}`" if setting.secret and module != "firmware_sim" else ""
    return f"| `{setting.variable}`{from_file} | {default} | {setting.description.replace('|', chr(92) + '|')} |"


def main() -> None:
    """Rewrite the tables of the runbook."""
    RUNBOOK.write_text(filled_in(RUNBOOK.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
