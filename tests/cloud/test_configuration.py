"""What a user sets for one server: environment, command, directory and user, as the process sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Launcher
from harness.archives import Archive
from harness.servers import Servers

pytestmark = [pytest.mark.agent, pytest.mark.both_doors]

AddImage = Callable[..., str]

SAY = """sh -c 'echo "$GREETING/$COLOUR in $(pwd) as $(id -u):$(id -g)"; exec sleep 9999'"""


def test_metadata_configures_a_server_and_wins_over_the_images_properties(
    add_image: AddImage, launch: Launcher, servers: Servers, tiny: Archive
) -> None:
    properties = {"docker_env:GREETING": "the image's", "docker_env:COLOUR": "green", "docker_user": "7:7"}
    image = add_image(tiny.running("/no/such/command").tar(), **properties)
    metadata = {
        "docker:env:GREETING": "good day",
        "docker:command": SAY,
        "docker:working_dir": "/srv/made",
        "docker:user": "1000:1001",
    }
    server = launch("configured", image=image, metadata=metadata)
    servers.wait_console(server["id"], "good day/green in /srv/made as 1000:1001")


def test_wrong_keys_and_values_are_all_told_before_anything_is_made(launch: Launcher) -> None:
    metadata = {"docker:usr": "s3cret", "docker:tty": "s3cret"}
    server = launch.failing("mistaken", metadata=metadata)
    message = server["fault"]["message"]
    assert "docker:usr: there is no such key" in message
    assert "docker:tty: it is neither true nor false" in message
    assert "s3cret" not in str(server["fault"])
