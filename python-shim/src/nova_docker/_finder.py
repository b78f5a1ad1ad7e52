"""Lets Nova find its driver where Nova looks for drivers: below nova.virt.

A path hook of the interpreter's start calls install(); see README.md for why. Only sys is imported here, and only a
look-up of the very name nova.virt.docker does anything.
"""

import sys

NAME = "nova.virt.docker"


class DriverFinder:
    """Serves the module nova.virt.docker, and nothing else."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]  # typing would have to be imported
        """Tells the import system where the module is."""
        if name != NAME:
            return None
        from importlib.util import spec_from_file_location
        from os.path import dirname, join

        return spec_from_file_location(NAME, join(dirname(__file__), "nova_virt_docker.py"))


def install() -> None:
    """Makes the driver importable; a module that Nova itself might have under this name comes first."""
    if DriverFinder not in sys.meta_path:
        sys.meta_path.append(DriverFinder)
