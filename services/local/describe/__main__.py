"""Write every generated document."""

from __future__ import annotations

from services.local.describe import settings
from services.local.describe.documents import documents


def main() -> None:
    """Write every document to its place."""
    for path, content in documents().items():
        path.write_text(content, encoding="utf-8")
    settings.main()


if __name__ == "__main__":
    main()
