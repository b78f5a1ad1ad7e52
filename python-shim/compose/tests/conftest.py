from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cloud import FakeCloud
from nova_docker_compose.loader import Request, load
from nova_docker_compose.project import Project


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """A cloud in memory, whose time goes by without waiting."""
    made = FakeCloud()
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


@pytest.fixture
def project_of(tmp_path: Path) -> Callable[[str], Project]:
    """The project of a compose.yaml with this content."""

    def read(text: str) -> Project:
        (tmp_path / "compose.yaml").write_text(text)
        return load(Request(project_name="p", environment={}, here=tmp_path))

    return read
