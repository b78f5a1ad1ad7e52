"""Uploading images that tests make."""

from __future__ import annotations

from typing import Any

from openstack.connection import Connection


def upload(connection: Connection, name: str, data: bytes, *, container_format: str = "docker", **fields: Any) -> str:
    """Make an image of `data`; returns its id. `fields` are image properties."""
    fields = {"disk_format": "raw", "visibility": "private", **fields}
    image = connection.image.create_image(name=name, container_format=container_format, allow_duplicates=True, **fields)
    answer = connection.image.put(
        f"/images/{image.id}/file", headers={"Content-Type": "application/octet-stream"}, data=data
    )
    if answer.status_code != 204:
        connection.image.delete_image(image.id)
        raise AssertionError(f"uploading image {name}: {answer.status_code} {answer.text}")
    return str(image.id)
