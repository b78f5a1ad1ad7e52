"""What Nova and Placement are told of the host, against the fake agent."""

import copy

import pytest
from nova.compute.provider_tree import ProviderTree
from nova.virt import driver as virt_driver
from nova.virt import fake
from nova_docker.driver import DockerDriver
from nova_docker.host import version_number

NODE = "compute1"


def test_the_host_is_told_as_the_resource_tracker_wants_it(driver):
    driver._greet()
    resource = driver.get_available_resource(NODE)
    assert resource == {
        "vcpus": 8,
        "memory_mb": 16384,
        "local_gb": 100,
        "vcpus_used": 0,
        "memory_mb_used": 2048,
        "local_gb_used": 30,
        "disk_available_least": 70,
        "hypervisor_type": "docker",
        "hypervisor_version": 20010024,
        "hypervisor_hostname": NODE,
        "supported_instances": [("x86_64", "docker", "exe")],
        "cpu_info": "",
        "numa_topology": None,
    }


@pytest.mark.parametrize(
    ("text", "number"), [("20.10.24", 20010024), ("27.3.1-rc.1", 27003001), ("29.0", 29000000), ("", 0)]
)
def test_a_version_becomes_a_number_that_can_be_compared(text, number):
    assert version_number(text) == number


def test_the_host_is_one_node_and_says_where_it_is(driver):
    assert driver.get_available_nodes() == [NODE]
    assert driver.get_host_ip_addr() == "192.0.2.10"


def test_the_uptime_reads_as_that_of_any_host(driver):
    assert driver.get_host_uptime().endswith("up 2 days,  3:04,  0 users,  load average: 0.50, 0.25, 0.12")


@pytest.fixture
def tree():
    tree = ProviderTree()
    tree.new_root(NODE, "11111111-2222-3333-4444-555555555555")
    tree.add_traits(NODE, "CUSTOM_OPERATORS_OWN")
    return tree


def test_placement_learns_inventory_with_novas_ratios_and_reserves(driver, tree, conf):
    conf.set_override("cpu_allocation_ratio", 2.0)
    conf.set_override("reserved_host_memory_mb", 1024)
    conf.set_override("reserved_host_disk_mb", 1025)
    driver.update_provider_tree(tree, NODE)
    inventory = tree.data(NODE).inventory
    assert {name: (entry["total"], entry["reserved"]) for name, entry in inventory.items()} == {
        "VCPU": (8, 0),
        "MEMORY_MB": (16384, 1024),
        "DISK_GB": (100, 2),
    }
    assert inventory["VCPU"]["allocation_ratio"] == 2.0


def test_no_more_is_reserved_than_there_is(driver, tree, fake_agent, conf):
    conf.set_override("reserved_host_memory_mb", 512)
    fake_agent.plan("GetHostResources", answer={"resources": {"memoryMib": 300}})
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).inventory["MEMORY_MB"]["reserved"] == 300


def test_traits_come_and_go_with_the_agent_and_others_stay(driver, tree, fake_agent):
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_HV_DOCKER"}
    fake_agent.plan("GetHostResources", answer={"resources": {"vcpus": 8, "traits": ["CUSTOM_NEW"]}})
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_NEW"}
    assert set(tree.data(NODE).inventory) == {"VCPU"}


def test_traits_that_the_agent_has_dropped_go_after_a_restart_of_nova_compute_too(driver, tree, fake_agent):
    driver.update_provider_tree(tree, NODE)
    fake_agent.plan("GetHostResources", answer={"resources": {"vcpus": 8, "traits": ["CUSTOM_NEW"]}})
    DockerDriver(fake.FakeVirtAPI()).update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_NEW"}


def test_traits_are_dropped_until_placement_has_taken_it(driver, tree, fake_agent):
    driver.update_provider_tree(tree, NODE)
    fake_agent.plan("GetHostResources", answer={"resources": {"vcpus": 8}})
    for _ in range(2):
        # Nova throws away a tree that Placement has refused.
        refused = copy.deepcopy(tree)
        driver.update_provider_tree(refused, NODE)
        assert refused.data(NODE).traits == {"CUSTOM_OPERATORS_OWN"}
    driver.update_provider_tree(tree, NODE)
    driver.update_provider_tree(tree, NODE)
    tree.add_traits(NODE, "CUSTOM_HV_DOCKER")
    driver.update_provider_tree(tree, NODE)
    assert tree.data(NODE).traits == {"CUSTOM_OPERATORS_OWN", "CUSTOM_HV_DOCKER"}, "the operator's, after it was ours"


def test_a_state_path_that_cannot_be_written_keeps_no_host_from_being_reported(driver, tree, conf, tmp_path, caplog):
    (tmp_path / "file").touch()
    conf.set_override("state_path", str(tmp_path / "file"))
    DockerDriver(fake.FakeVirtAPI()).update_provider_tree(tree, NODE)
    assert "CUSTOM_HV_DOCKER" in tree.data(NODE).traits
    assert "Traits that the agent drops" in caplog.text


def test_capabilities_are_the_agents(driver):
    assert not any(driver.capabilities.values())
    driver._greet()
    true = {name for name, value in driver.capabilities.items() if value}
    assert true == {"supports_attach_interface", "supports_image_type_raw"}
    assert driver.capabilities.keys() >= virt_driver.ComputeDriver.capabilities.keys()
    assert not any(virt_driver.ComputeDriver.capabilities.values())
    assert driver.capabilities_as_traits()["COMPUTE_NET_ATTACH_INTERFACE"] is True
