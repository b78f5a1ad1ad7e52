"""The servers that a guest is linked to, as the driver looks them up in Nova and hands them over."""

from types import SimpleNamespace

import pytest
from conftest import INSTANCE
from nova import exception, objects
from nova_docker import links
from nova_docker.v1 import driver_pb2, guest_pb2

SERVER = "0d0f0a5e-6f6b-4d0c-9c1e-2f6b1c1d1e1f"
NETWORK = "9e25f37b-91f4-4438-b681-7c14f776f1e8"
QUERIES = [
    {"target": "db", "filter": "display_name", "value": "^db$", "limit": 200},
    {"target": "@web", "filter": "tags", "value": "web", "limit": 200},
]


@pytest.fixture
def asked(monkeypatch, network_info):
    """What Nova was asked for; it knows one server for each question, and one that is being deleted."""
    filters = []

    def answer(context, wanted, **options):
        assert context.is_admin and options["limit"] == 200
        filters.append(wanted)
        server = SimpleNamespace(uuid=SERVER, display_name="db", hostname="db-1", task_state=None)
        server.get_network_info = lambda: network_info
        return [server, SimpleNamespace(task_state="deleting")]

    monkeypatch.setattr(objects.InstanceList, "get_by_filters", answer)
    return filters


@pytest.fixture
def linked(driver, fake_agent):
    """The driver of an agent that knows of links."""
    driver._linker.revision = links.SINCE
    fake_agent.control(guests={INSTANCE: "STOPPED"})
    fake_agent.plan("GetLinks", answer={"queries": QUERIES})
    return driver


def _request():
    return driver_pb2.CreateGuestRequest(guest=guest_pb2.Guest(guest_id=INSTANCE))


def test_a_start_hands_over_where_the_servers_of_the_project_are(
    linked, fake_agent, asked, context, instance, network_info
):
    linked.power_on(context, instance, network_info)
    assert asked == [
        {"display_name": "^db$", "project_id": "red", "deleted": False},
        {"tags": ["web"], "project_id": "red", "deleted": False},
    ]
    server = {
        "server_id": SERVER,
        "name": "db",
        "hostname": "db-1",
        "addresses": [{"network_id": NETWORK, "address": "10.0.0.5"}],
    }
    targets = [{"target": "db", "servers": [server]}, {"target": "@web", "servers": [server]}]
    update = fake_agent.request("UpdateLinks")
    assert (update["links"], update["network_ids"]) == ({"targets": targets}, [NETWORK])
    assert fake_agent.methods() == ["GetLinks", "UpdateLinks", "StartGuest"]


def test_a_start_goes_on_when_the_servers_cannot_be_looked_up(linked, fake_agent, monkeypatch, context, instance):
    monkeypatch.setattr(objects.InstanceList, "get_by_filters", lambda *arguments, **options: 1 / 0)
    linked.power_on(context, instance, None)
    assert fake_agent.methods() == ["GetLinks", "StartGuest"]


def test_neither_an_older_agent_nor_a_server_without_links_is_asked(linked, fake_agent, asked, context, instance):
    linked._linker.revision = links.SINCE - 1
    linked.power_on(context, instance, None)
    linked._linker.revision = links.SINCE
    instance.user_data = None
    linked.power_on(context, instance, None)
    assert not fake_agent.calls("GetLinks") and not asked


def test_a_launch_waits_for_a_server_as_long_as_its_user_wants(linked, fake_agent, asked, monkeypatch, instance):
    monkeypatch.setattr(links, "_PAUSE", 0.01)
    monkeypatch.setattr(links, "_refuse_if_deleted", lambda instance: None)
    waiting = {"queries": QUERIES, "patience": "600s", "missing": "docker:link:db: it is not there"}
    fake_agent.plan("GetLinks", answer=waiting, times=3)
    request = _request()
    linked._linker.complete(instance, request, waits=True)
    # The first call asks for the questions, the fourth one has nothing missing.
    assert len(fake_agent.calls("GetLinks")) == 4
    assert [target.target for target in request.guest.links.targets] == ["db", "@web"]


def test_a_launch_without_patience_leaves_the_refusal_to_the_agent(linked, fake_agent, asked, instance):
    fake_agent.plan("GetLinks", answer={"queries": QUERIES, "missing": "docker:link:db: it is not there"})
    request = _request()
    linked._linker.complete(instance, request, waits=True)
    assert len(fake_agent.calls("GetLinks")) == 1 and request.guest.HasField("links")


def test_a_launch_that_waits_ends_when_its_server_is_deleted(linked, fake_agent, asked, monkeypatch, instance):
    waiting = {"queries": QUERIES, "patience": "600s", "missing": "docker:link:db: it is not there"}
    fake_agent.plan("GetLinks", answer=waiting)
    going = SimpleNamespace(task_state="deleting")
    monkeypatch.setattr(objects.Instance, "get_by_uuid", lambda *arguments, **options: going)
    with pytest.raises(exception.UnexpectedDeletingTaskStateError):
        linked._linker.complete(instance, _request(), waits=True)
