"""The interfaces of guests, against the fake agent."""

from conftest import INSTANCE, PORT


def test_a_missing_container_does_not_keep_nova_compute_from_starting(driver, fake_agent, instance, network_info):
    driver.plug_vifs(instance, network_info)
    assert fake_agent.methods() == ["PlugGuest"]


def test_interfaces_are_plugged_and_unplugged(driver, running, fake_agent, context, instance, network_info):
    driver.plug_vifs(instance, network_info)
    driver.attach_interface(context, instance, None, network_info[0])
    driver.detach_interface(context, instance, network_info[0])
    driver.unplug_vifs(instance, network_info)
    assert fake_agent.methods() == ["PlugGuest", "AttachInterface", "DetachInterface", "UnplugGuest"]
    assert fake_agent.request("AttachInterface")["interface"]["port_id"] == PORT
    assert fake_agent.request("DetachInterface") == {"guest_id": INSTANCE, "port_id": PORT}
