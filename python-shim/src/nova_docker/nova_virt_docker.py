"""What Nova imports as nova.virt.docker."""

from nova_docker.driver import DockerDriver

__all__ = ["DockerDriver"]
