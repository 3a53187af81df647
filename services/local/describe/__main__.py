"""Write both documents."""

from __future__ import annotations

from services.local.describe.documents import documents


def main() -> None:
    """Write every document to its place."""
    for path, content in documents().items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
