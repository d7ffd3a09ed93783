from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.command import Command, require_installed


@pytest.fixture
def perdure(tmp_path: Path) -> Iterator[Command]:
    require_installed()
    directory = tmp_path / "work"
    directory.mkdir()
    command = Command(directory)
    yield command
    command.close()
