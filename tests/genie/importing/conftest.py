"""One call that writes a file and imports it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from bursar.genie.importing.import_report import ImportReport
from bursar.genie.importing.importing import import_files

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


Importer = Callable[..., ImportReport]


@pytest.fixture
def imported(tmp_path: Path) -> Importer:
    """`imported(engine, "name.csv", text, **options) -> ImportReport`: write a file and import it."""

    def run(engine: Engine, name: str, content: str | bytes, **options: str) -> ImportReport:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return import_files(engine, [file], now=NOW, **options)[0]  # pyright: ignore[reportArgumentType]

    return run
