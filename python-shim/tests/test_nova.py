"""Nova's own tests of virt drivers, with ours in the place of the drivers that they are written for."""

import unittest
from unittest import mock

import pytest
from nova import test
from nova.conf import CONF
from nova.tests.unit.virt import test_virt_drivers
from nova_docker import config

# What containers do not have, or what Nova does itself when a driver does not. Everything else has to work.
NOT_IMPLEMENTED = {
    "test_attach_detach_different_power_states",
    "test_attach_detach_volume",
    "test_block_stats",
    "test_get_device_name_for_instance",
    "test_get_host_cpu_stats",
    "test_get_instance_disk_info",
    "test_get_mks_console",
    "test_get_rdp_console",
    "test_get_spice_console",
    "test_get_vnc_console",
    "test_get_volume_connector",
    "test_get_volume_connector_storage_ip",
    "test_host_power_action_reboot",
    "test_host_power_action_shutdown",
    "test_host_power_action_startup",
    "test_live_migration_abort",
    "test_poll_rebooting_instances",
    "test_restore_running",
    "test_restore_soft_deleted",
    "test_set_host_enabled",
    "test_soft_delete",
    "test_swap_volume",
    "test_trigger_crash_dump",
}


class DockerDriverTestCase(test_virt_drivers._VirtDriverTestCase, test.TestCase):
    """What every driver must be able to do; what it does not implement it must say so."""

    # pytest cannot run it itself: Nova's clean-up takes away attributes that pytest looks for afterwards.
    __test__ = False
    address = ""
    # These do not take it for an answer that a driver has no live migration.
    test_live_migration = None
    test_live_migration_force_complete = None
    test_post_claim_migrate_data = None

    def setUp(self):
        self.driver_module = "nova.virt.docker.DockerDriver"
        config.register(CONF)
        CONF.set_default("address", self.address, group=config.GROUP)
        self.addCleanup(CONF.clear_default, "address", group=config.GROUP)
        super().setUp()
        self.addCleanup(self.connection.cleanup_host, "myhostname")
        self.connection._greet()

    def test_migrate_disk_and_power_off(self):
        # Nova's names another host, which is refused.
        instance, network_info = self._get_running_instance()
        flavor = test_virt_drivers.test_utils.get_test_flavor()
        own = self.connection.get_host_ip_addr()
        self.connection.migrate_disk_and_power_off(self.ctxt, instance, own, flavor, network_info)

    def test_get_console_output(self):
        # Nova's asks for a str, of which the manager takes nothing but Latin-1.
        instance, _ = self._get_running_instance()
        assert isinstance(self.connection.get_console_output(self.ctxt, instance), bytes)


make_test_instance = test_virt_drivers.test_utils.get_test_instance


def whole_instance(*arguments, **options):
    """Nova's managers give drivers an instance with its metadata; here there is no database to load it from."""
    instance = make_test_instance(*arguments, **options)
    if options.get("obj"):
        instance.metadata = {}
        instance.user_data = None
        instance.info_cache = None
    return instance


@pytest.mark.parametrize("name", unittest.TestLoader().getTestCaseNames(DockerDriverTestCase))
def test_novas_own_test_of_drivers_passes(name, fake_agent, monkeypatch):
    log = mock.Mock()
    monkeypatch.setattr(test_virt_drivers, "LOG", log)
    monkeypatch.setattr("nova_docker.guest.owner", lambda: "8f8d1d2f-2f6c-4c8b-9a7a-54a0cbb3b0a0")
    monkeypatch.setattr(DockerDriverTestCase, "address", fake_agent.address.text)
    monkeypatch.setattr(test_virt_drivers.test_utils, "get_test_instance", whole_instance)
    result = unittest.TestResult()
    DockerDriverTestCase(name).run(result)
    assert result.testsRun == 1
    assert [text for _, text in result.errors + result.failures + result.skipped] == []
    # Nova logs which driver does not implement what.
    assert log.error.called == (name in NOT_IMPLEMENTED)
