"""Everything that a test could leave behind, on every layer, as one set of names."""

from __future__ import annotations

import concurrent.futures

from openstack.connection import Connection

from harness.lab import Lab
from harness.waiting import eventually

# Ports of routers and of DHCP belong to networks, which come and go with their own tests' finalizers.
_OWNED_BY_NETWORKS = ("network:",)


def inventory(lab: Lab, admin: Connection) -> set[str]:
    """`kind name` of everything that exists now. The services are asked at the same time."""
    probes = [_servers, _server_groups, _ports, _floating_ips, _networks, _security_groups, _images, _allocations]
    if "cinder" in lab.options["extras"]:  # type: ignore[operator]
        probes += [_volumes, _volume_snapshots]
    admin.authorize()
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(probes) + 1) as pool:
        running = [pool.submit(probe, admin) for probe in probes] + [pool.submit(_on_the_host, lab)]
        return set().union(*(probe.result() for probe in running))


def _servers(admin: Connection) -> set[str]:
    found = admin.compute.get("/servers?all_tenants=1", microversion="2.96").json()["servers"]
    return {f"server {server['id']} {server['name']}" for server in found}


def _server_groups(admin: Connection) -> set[str]:
    found = admin.compute.get("/os-server-groups?all_projects=1", microversion="2.96").json()["server_groups"]
    return {f"server group {group['name']}" for group in found}


def _ports(admin: Connection) -> set[str]:
    return {
        f"port {port['id']} of {port['device_owner'] or 'nobody'} {port['device_id']}"
        for port in admin.network.get("/ports?fields=id&fields=device_owner&fields=device_id").json()["ports"]
        if not (port["device_owner"] or "").startswith(_OWNED_BY_NETWORKS)
    }


def _floating_ips(admin: Connection) -> set[str]:
    found = admin.network.get("/floatingips?fields=floating_ip_address").json()["floatingips"]
    return {f"floating address {ip['floating_ip_address']}" for ip in found}


def _networks(admin: Connection) -> set[str]:
    return {f"network {net['name']}" for net in admin.network.get("/networks?fields=name").json()["networks"]}


def _security_groups(admin: Connection) -> set[str]:
    found = admin.network.get("/security-groups?fields=id&fields=name").json()["security_groups"]
    # Listing them as a project's member is what makes a project's default group.
    return {f"security group {group['id']} {group['name']}" for group in found if group["name"] != "default"}


def _images(admin: Connection) -> set[str]:
    found = admin.image.get("/images?limit=200").json()["images"]
    return {f"image {image['id']} {image['name']}" for image in found}


def _allocations(admin: Connection) -> set[str]:
    found = set()
    for provider in admin.placement.get("/resource_providers").json()["resource_providers"]:
        answer = admin.placement.get(f"/resource_providers/{provider['uuid']}/allocations").json()
        found |= {f"allocation of {consumer} on {provider['name']}" for consumer in answer["allocations"]}
    return found


def _volumes(admin: Connection) -> set[str]:
    return {f"volume {volume.id} {volume.name}" for volume in admin.block_storage.volumes(all_projects=True)}


def _volume_snapshots(admin: Connection) -> set[str]:
    return {f"volume snapshot {snapshot.id}" for snapshot in admin.block_storage.snapshots(all_projects=True)}


def _on_the_host(lab: Lab) -> set[str]:
    names = lab.docker("ps", "--all", "--format", "{{.Names}}", check=False).split()
    found = {f"container {name}" for name in names if name.startswith("nova-")}
    spaces = [line.split()[0] for line in lab.run(["ip", "netns", "list"]).splitlines() if line]
    found |= {f"namespace {name}" for name in spaces if name.startswith("nova-")}
    ports = lab.vsctl("--bare", "--columns=name", "find", "Interface", 'external_ids:vm-uuid!=""').split()
    return found | {f"Open vSwitch port {name}" for name in ports}


def assert_nothing_new(lab: Lab, admin: Connection, before: set[str], seconds: float = 90) -> None:
    """Fail unless all that came since `before` goes away within `seconds`."""
    last: set[str] = set()

    def clean() -> bool:
        nonlocal last
        last = inventory(lab, admin) - before
        return not last

    try:
        eventually(clean, "nothing left behind", seconds, interval=1.0)
    except AssertionError:
        raise AssertionError("the test left behind:\n  " + "\n  ".join(sorted(last))) from None
