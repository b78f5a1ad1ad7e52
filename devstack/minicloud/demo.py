"""`mini demo`: launch a server through the public API and look at it from all sides.

Runs in the virtual environment:  python -m minicloud.demo STATE_DIR [--new]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import openstack

from minicloud import passwords as passwords_module
from minicloud.layout import Layout, url
from minicloud.tasks import Progress

_LAUNCH_SECONDS = 180


class DemoFailed(Exception):
    """Something did not work; the message says what, and where to look."""


class Demo:
    """One run, all of it as the user demo."""

    def __init__(self, layout: Layout, cloud: Any, program: str) -> None:
        self.layout = layout
        self.cloud = cloud
        self.program = program
        self.progress = Progress()

    def run(self, always_new: bool) -> None:
        server = (None if always_new else self._existing()) or self._launch()
        address = self._floating_address(server)
        self._show(server, address)
        self._until(
            lambda: self._ping(address),
            20,
            f"{server.name} to answer a ping at {address} (`{self.program} demo --new` launches another server)",
        )
        self.progress.say(f"{address} answers a ping")
        self._show_page(address)
        self._show_console(server)
        self._show_commands(server, address)

    def _existing(self) -> Any | None:
        """A server of an earlier run that still works, if there is one."""
        for server in sorted(self.cloud.compute.servers(), key=lambda server: server.name):
            if server.name.startswith("demo-") and server.status == "ACTIVE":
                self.progress.say(f"{server.name} of an earlier run is ACTIVE (--new launches another)")
                return server
        return None

    def _launch(self) -> Any:
        compute, network = self.cloud.compute, self.cloud.network
        taken = {server.name for server in compute.servers()}
        name = next(name for name in (f"demo-{number}" for number in range(1, 10_000)) if name not in taken)
        parts = {
            "image": self.cloud.image.find_image("tiny"),
            "flavor": compute.find_flavor("c1.tiny"),
            "network": network.find_network("private"),
        }
        if missing := [kind for kind, found in parts.items() if found is None]:
            raise DemoFailed(f"the demo's {', '.join(missing)} is not there; `{self.program} up` makes it")
        started = time.monotonic()
        server = compute.create_server(
            name=name,
            image_id=parts["image"].id,
            flavor_id=parts["flavor"].id,
            networks=[{"uuid": parts["network"].id}],
            key_name="demo",
        )
        self.progress.say(f"asked Nova for {name}: image tiny, flavor c1.tiny, network private")
        while server.status not in ("ACTIVE", "ERROR"):
            if time.monotonic() - started > _LAUNCH_SECONDS:
                raise DemoFailed(
                    f"{name} is still {server.status} after {_LAUNCH_SECONDS} s;"
                    f" see `{self.program} logs nova-docker-agent` and `{self.program} status`"
                )
            time.sleep(0.2)
            server = compute.get_server(server.id)
        if server.status == "ERROR":
            fault = server.fault or {}
            raise DemoFailed(
                f"{name} could not be launched: {fault.get('message', 'Nova gives no reason')}\n"
                f"  More: `{self.program} status`, `{self.program} logs nova-docker-agent`, and"
                f" `{self.program} logs nova-scheduler` when no host was found"
            )
        self.progress.say(f"{name} is ACTIVE, {time.monotonic() - started:.1f} s after it was asked for")
        return server

    def _floating_address(self, server: Any) -> str:
        network = self.cloud.network
        port = next(iter(network.ports(device_id=server.id)), None)
        if port is None:
            raise DemoFailed(f"{server.name} has no port in Neutron")
        floating = next(iter(network.ips(port_id=port.id)), None)
        if floating is None:
            public = network.find_network("public")
            floating = next((ip for ip in network.ips() if ip.port_id is None), None)
            if floating is None:
                floating = network.create_ip(floating_network_id=public.id)
            network.update_ip(floating, port_id=port.id)
        return str(floating.floating_ip_address)

    def _show(self, server: Any, address: str) -> None:
        port = next(iter(self.cloud.network.ports(device_id=server.id)))
        fixed = ", ".join(entry["ip_address"] for entry in port.fixed_ips)
        self.progress.say(f"{server.name}: {fixed} inside, {address} outside, MAC {port.mac_address}")

    def _until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise DemoFailed(f"waited {seconds:.0f} s for {what}; `{self.program} status` may show what is wrong")
            time.sleep(0.2)

    @staticmethod
    def _ping(address: str) -> bool:
        command = ["ping", "-n", "-q", "-c", "1", "-W", "2", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _show_page(self, address: str) -> None:
        page = ""

        def fetch() -> bool:
            nonlocal page
            try:
                with urllib.request.urlopen(f"http://{address}/", timeout=5) as response:
                    page = response.read().decode(errors="replace")
            except OSError:
                return False
            return True

        self._until(fetch, 20, f"a web page from http://{address}/")
        self.progress.say(f"http://{address}/ says:")
        _print_indented(page)

    def _show_console(self, server: Any) -> None:
        output = self.cloud.compute.get_server_console_output(server)["output"]
        self.progress.say(f"the console log of {server.name}:")
        _print_indented(output)

    def _show_commands(self, server: Any, address: str) -> None:
        secrets = passwords_module.load(self.layout.passwords_file)
        registry = url("registry").partition("://")[2]
        print(
            f"\n  Dashboard  {url('horizon')}/   user demo, password {secrets['demo']}\n"
            f"  Registry   docker login -u demo {registry}\n"
            "\n  Three commands to try:\n"
            f"    ssh -i {self.layout.demo_key} -o StrictHostKeyChecking=accept-new root@{address}\n"
            f'    eval "$({self.program} openrc)" && openstack server list\n'
            f"    openstack server create --image tiny --flavor c1.small --network private --wait mine\n"
        )


def _print_indented(text: str) -> None:
    for line in text.rstrip().splitlines():
        print(f"    {line}")


def main(arguments: list[str]) -> int:
    layout = Layout.at(arguments[0])
    program = os.environ.get("MINI", "devstack/mini")
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(layout.clouds_file)
    try:
        Demo(layout, openstack.connect(cloud="demo"), program).run("--new" in arguments[1:])
    except DemoFailed as error:
        print(f"mini: {error}", file=sys.stderr)
        return 1
    except openstack.exceptions.SDKException as error:
        print(f"mini: the cloud refused: {error}\n  `{program} status` shows what does not work", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
