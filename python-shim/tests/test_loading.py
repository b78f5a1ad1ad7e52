"""How Nova comes to the driver, in processes of their own."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap

import pytest


def run(script, *arguments, **environment):
    result = subprocess.run(
        [sys.executable, *arguments, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_nova_loads_the_driver_by_its_option():
    script = """
        import sys
        from nova import monkey_patch
        if hasattr(monkey_patch, "patch"):
            monkey_patch.patch()
        from nova import config
        from nova.conf import CONF
        from nova.virt import driver, fake
        CONF([], project="nova", default_config_files=[], default_config_dirs=[])
        CONF.set_override("compute_driver", "docker.DockerDriver")
        loaded = driver.load_compute_driver(fake.FakeVirtAPI())
        print(type(loaded).__module__, type(loaded).__name__, isinstance(loaded, driver.ComputeDriver))
    """
    assert run(script)[-3:] == ["nova_docker.driver", "DockerDriver", "True"]


def test_an_interpreter_that_wants_nothing_of_nova_loads_next_to_nothing():
    script = """
        import sys
        print(*sorted(name for name in sys.modules if name.startswith(("nova", "google", "h2", "socket", "typing"))))
    """
    assert run(script) == ["nova_docker", "nova_docker._finder"]


def test_the_finder_serves_one_name_only():
    script = """
        from nova_docker._finder import DriverFinder
        import importlib
        for name in ("nova.virt.docker", "nova.virt.docker2", "nova.virt", "docker", "nova.virt.docker.driver"):
            print(DriverFinder.find_spec(name) is not None)
    """
    assert run(script) == ["True", "False", "False", "False", "False"]


def installed(suffix):
    """The file of the package with such a name, as it was installed."""
    (found,) = [file for file in importlib.metadata.files("nova-docker-shim") if str(file).endswith(suffix)]
    return found.locate()


def test_an_interpreter_that_reads_start_files_installs_the_finder_by_its_entry_point():
    # Since Python 3.15 (PEP 829) a .start file replaces the import lines of the .pth file of its name.
    start, pth = installed(".start"), installed(".pth")
    assert (start.parent, start.stem) == (pth.parent, pth.stem)
    (entry,) = start.read_text(encoding="utf-8").splitlines()
    script = f"""
        import pkgutil, sys
        sys.path.append({str(start.parent)!r})
        pkgutil.resolve_name({entry!r})()
        print(*[finder.__name__ for finder in sys.meta_path if finder.__module__ == "nova_docker._finder"])
    """
    assert run(script, "-S") == ["DriverFinder"]


def test_the_licence_is_installed_with_the_package():
    assert "Apache License" in installed("LICENSE").read_text(encoding="utf-8")


def test_the_finder_is_installed_once():
    script = """
        import sys
        from nova_docker import _finder
        _finder.install()
        print(sys.meta_path.count(_finder.DriverFinder), sys.meta_path[-1] is _finder.DriverFinder)
    """
    assert run(script) == ["1", "True"]


def test_without_site_packages_hooks_the_driver_is_not_there():
    script = """
        import sys
        print(any("nova_docker" in str(finder) for finder in sys.meta_path))
    """
    assert run(script, "-S") == ["False"]


@pytest.mark.parametrize("others_first", [True, False])
def test_the_messages_live_beside_other_packages_messages(others_first):
    script = """
        from google.protobuf import descriptor_pb2, descriptor_pool
        def others():
            file = descriptor_pb2.FileDescriptorProto(name="nova_docker/v1/guest.proto", package="nova_docker.v1")
            file.message_type.add(name="Guest")
            descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
        def ours():
            from nova_docker.v1 import guest_pb2
            guest = guest_pb2.Guest(guest_id="a", extra_specs={"b": "c"})
            print(guest_pb2.Guest.FromString(guest.SerializeToString()) == guest)
        for load in (%s):
            load()
    """
    order = "others, ours" if others_first else "ours, others"
    assert run(script % order) == ["True"]


def test_messages_within_messages_can_be_used_after_a_collection_of_garbage():
    script = """
        import gc
        from nova_docker.shim import status_pb2
        from nova_docker.v1 import driver_pb2
        gc.collect()
        request = driver_pb2.CreateGuestRequest()
        request.image.properties["key"] = "value"
        stop = driver_pb2.StopGuestRequest(timeout={"seconds": 3})
        status_pb2.Status().details.add(type_url="none")
        print(request.image.properties["key"], stop.timeout.seconds)
    """
    assert run(script) == ["value", "3"]
