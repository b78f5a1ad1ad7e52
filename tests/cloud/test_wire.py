"""What the conductor is told of each operation, beside what a stock nova-compute told it (`../wire`).

Events with their results, and each state, come in the same order and under the same conditions.
"""

from __future__ import annotations

import configparser
import dataclasses
import difflib
from collections.abc import Iterator

import pytest
from conftest import Launcher
from harness.books import Books
from harness.lab import Lab
from harness.rounds import Round
from harness.servers import Json, Servers
from harness.tenant import Tenant
from harness.waiting import eventually
from harness.wire import Wire, recorded
from openstack.connection import Connection

pytestmark = [pytest.mark.agent, pytest.mark.amqp, pytest.mark.full]


@dataclasses.dataclass(frozen=True)
class Differs:
    """Steps of nova-compute's, in their order, and ours in their place."""

    stock: tuple[str, ...]
    ours: tuple[str, ...]
    why: str


AT_ONCE = "in one save: a restart between the two would find an instance that is half another host's"
AS_LIBVIRT = "the tasks of a driver that makes the image before it uploads it; Nova's fake driver does not"
REPEATED = "asked for again where its answer is lost, it must not go over what was asked for meanwhile"
ASKED_LATER = "Docker is asked when it is known that the request is not an old one"


def _reboot(pending: str, started: str, asked: str) -> list[Differs]:
    begun = f"save task_state={pending}"
    condition = " or ".join(sorted((pending, started, asked)))
    return [
        Differs(
            (f"{begun} power_state if {condition}", f"save task_state={started} if {pending}"),
            (f"{begun} if {condition}", f"save task_state={started} power_state if {pending}"),
            ASKED_LATER,
        ),
        Differs(
            ("save vm_state=active task_state=None power_state",),
            (f"save vm_state=active task_state=None power_state if None or {started}",),
            REPEATED,
        ),
    ]


DIFFERENCES = {
    "create_net": [
        Differs(
            ("save vm_state=building task_state=None if None or scheduling", "save host=own"),
            ("save vm_state=building task_state=None host=own if None or scheduling",),
            AT_ONCE,
        ),
        Differs(
            (
                "save vm_state=building task_state=block_device_mapping",
                "save vm_state=building task_state=spawning if block_device_mapping",
                "VirtualInterface: create",
            ),
            (
                "VirtualInterface: create",
                "save vm_state=building task_state=block_device_mapping if None or networking",
                "save task_state=spawning if block_device_mapping",
            ),
            "the ports are made before the rest, and not beside it",
        ),
    ],
    "reboot_soft": _reboot("reboot_pending", "reboot_started", "rebooting"),
    "reboot_hard": _reboot("reboot_pending_hard", "reboot_started_hard", "rebooting_hard"),
    "snapshot": [
        Differs(
            (
                "end compute_snapshot_instance",
                "save power_state",
                "save task_state=image_uploading if image_snapshot",
            ),
            (
                "save task_state=image_pending_upload if image_snapshot",
                "save task_state=image_uploading if image_pending_upload",
            ),
            AS_LIBVIRT,
        ),
        Differs(
            ("save task_state=None if image_uploading",),
            ("save task_state=None if image_uploading", "end compute_snapshot_instance"),
            "the event has the result of the snapshot, and not of its beginning",
        ),
    ],
    "resize": [
        Differs(
            ("migration migrating", "save task_state=resize_migrating if resize_prep"),
            ("save task_state=resize_migrating if resize_prep", "migration migrating"),
            "a request that comes twice ends before it touches the migration",
        ),
        Differs(
            ("save vm_state=resized task_state=None launched_at if resize_finish",),
            ("save vm_state=resized task_state=None power_state launched_at if resize_finish",),
            "it is another container",
        ),
    ],
    "resize_confirm": [
        Differs(
            ("save vm_state=active task_state=None if None or deleting or soft-deleting",),
            ("save vm_state=active task_state=None power_state if None or deleting or soft-deleting",),
            "it says whether the server is active or stopped",
        ),
    ],
    "resize_revert": [
        Differs(
            ("save launched_at if resize_reverting", "save vm_state=active task_state=None"),
            ("save vm_state=active task_state=None power_state launched_at if resize_reverting",),
            REPEATED,
        ),
    ],
    "shelve": [
        Differs(
            ("save task_state=shelving_image_uploading if shelving",),
            (
                "save task_state=shelving_image_pending_upload if shelving",
                "save task_state=shelving_image_uploading if shelving_image_pending_upload",
            ),
            AS_LIBVIRT,
        ),
        Differs(
            (
                "save vm_state=shelved_offloaded task_state=None power_state if shelving or shelving_offloading",
                "save host=None if None",
            ),
            (
                "save vm_state=shelved_offloaded task_state=None host=None power_state"
                " if shelving or shelving_offloading",
                "ConsoleAuthToken: clean_console_auths_for_instance",
            ),
            AT_ONCE + "; its consoles end with its container",
        ),
    ],
    "unshelve": [
        Differs(
            ("save task_state=spawning", "save host=own"),
            ("save task_state=spawning host=own if unshelving",),
            AT_ONCE,
        ),
    ],
    "rebuild": [
        Differs(
            ("save task_state=rebuilding power_state if rebuilding",),
            (),
            "nothing of the container has changed yet",
        ),
        Differs(("save host=own",), (), "it is this host's all the time"),
    ],
}

LIFE: list[tuple[str, str, Json | None, str]] = [
    ("pause", "pause", None, "PAUSED"),
    ("unpause", "unpause", None, "ACTIVE"),
    ("stop", "os-stop", None, "SHUTOFF"),
    ("start", "os-start", None, "ACTIVE"),
    ("reboot_soft", "reboot", {"type": "SOFT"}, "ACTIVE"),
    ("reboot_hard", "reboot", {"type": "HARD"}, "ACTIVE"),
    ("suspend", "suspend", None, "SUSPENDED"),
    ("resume", "resume", None, "ACTIVE"),
    ("snapshot", "createImage", None, "ACTIVE"),
    ("interface_attach", "attach", None, "ACTIVE"),
    ("interface_detach", "detach", None, "ACTIVE"),
    ("set_admin_password", "changePassword", {"adminPass": "Tr0ub4dor"}, "ACTIVE"),
    ("rescue", "rescue", None, "RESCUE"),
    ("unrescue", "unrescue", None, "ACTIVE"),
    ("resize", "resize", None, "VERIFY_RESIZE"),
    ("resize_confirm", "confirmResize", None, "ACTIVE"),
    ("resize", "resize", None, "VERIFY_RESIZE"),
    ("resize_revert", "revertResize", None, "ACTIVE"),
    ("shelve", "shelve", None, "SHELVED_OFFLOADED"),
    ("unshelve", "unshelve", None, "ACTIVE"),
    ("rebuild", "rebuild", None, "ACTIVE"),
]
"""The recorded operation, what is asked for, and the status that comes of it."""


@pytest.fixture
def wire(lab: Lab) -> Iterator[Wire]:
    configuration = configparser.ConfigParser(interpolation=None, strict=False)
    configuration.read(lab.state / "etc" / "nova.conf")
    listening = Wire(configuration["DEFAULT"]["transport_url"].replace("rabbit://", "amqp://"))
    yield listening
    listening.close()


def expected(operation: str) -> list[str]:
    """What a stock nova-compute says, but for what we have reasons for."""
    steps = recorded(operation)
    for each in DIFFERENCES.get(operation, []):
        size = len(each.stock)
        [at] = [at for at in range(len(steps)) if steps[at : at + size] == list(each.stock)]
        steps[at : at + size] = each.ours
    return steps


def test_the_conductor_is_told_what_nova_compute_tells_it(
    lab: Lab,
    wire: Wire,
    launch: Launcher,
    servers: Servers,
    admin_servers: Servers,
    tenant: Tenant,
    private_network: list[Json],
    user: Connection,
) -> None:
    server_id = launch("told", networks=private_network)["id"]
    books = Books(lab, tenant.project_id)
    round_ = Round(lab, servers, admin_servers, books, private_network[0], server_id)

    def told() -> list[str]:
        last = "SELECT request_id FROM nova.instance_actions WHERE instance_uuid = %(id)s ORDER BY id DESC LIMIT 1"
        return wire.steps(lab.sql(last, {"id": server_id}))

    launched = told()
    # A launch asks for these two at once.
    launched[:2] = sorted(launched[:2])
    seen, wanted = {"create_net": launched}, {"create_net": expected("create_net")}
    for name, action, arguments, status in LIFE:
        round_.ask(action, arguments)
        eventually(round_.is_over, f"the end of {action}")
        assert servers.wait(server_id, status)
        seen[name], wanted[name] = told(), expected(name)
    for image in user.image.images(owner=tenant.project_id):
        user.image.delete_image(image)
    answer = admin_servers.connection.compute.get(f"/servers/{server_id}/diagnostics", microversion="2.48")
    seen["diagnostics"] = wire.steps(answer.headers["x-openstack-request-id"])
    wanted["diagnostics"] = expected("diagnostics")
    servers.delete(server_id)
    servers.wait_gone(server_id)
    seen["delete_net"], wanted["delete_net"] = told(), expected("delete_net")
    differing = {name: (seen[name], wanted[name]) for name in seen if seen[name] != wanted[name]}
    for name, (ours, stock) in differing.items():
        print(f"{name}:", *difflib.ndiff(stock, ours), sep="\n  ")
    assert not differing, list(differing)
