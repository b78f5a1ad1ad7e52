from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websocket
from fake_cloud import FakeCloud
from fake_socket import Connect, FakeSocket
from nova_docker_compose import claims
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
    made.keep_time(monkeypatch)
    return made


@pytest.fixture
def two_at_once(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], int], None]:
    """Does something twice at the same time, with the requests of both in an order of this seed."""
    # The cloud's seconds go by faster than those in which a claim is renewed.
    monkeypatch.setattr(claims, "_SECONDS", float("inf"))

    def run(do: Callable[[], object], seed: int) -> None:
        errors: list[BaseException] = []
        choice = random.Random(seed)  # noqa: S311
        look = cloud.after

        def after(number: int) -> None:
            look(number)
            threading.Event().wait(choice.choice((0, 0, 0.001, 0.003)))

        def one() -> None:
            try:
                do()
            except BaseException as error:
                errors.append(error)

        cloud.after = after
        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cloud.after = look
        assert errors == []

    return run


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
