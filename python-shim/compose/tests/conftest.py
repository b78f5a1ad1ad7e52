from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from fake_cloud import FakeCloud
from fake_socket import Connect, FakeSocket
from nova_docker_compose.loader import Request, load
from nova_docker_compose.project import Project


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds the Docker of the machine that it runs on."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.getbasetemp() / "none"))


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


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """The next connection is to this socket; or to one for each, that a function makes."""

    def use(made: FakeSocket | Callable[[], FakeSocket]) -> None:
        def create(address: str, **options: Any) -> FakeSocket:
            socket = made if isinstance(made, FakeSocket) else made()
            socket.address, socket.options = address, options
            return socket

        monkeypatch.setattr(websocket, "create_connection", create)

    return use
