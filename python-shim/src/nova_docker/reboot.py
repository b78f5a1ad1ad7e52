"""What a guest shall be after a hard reboot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_log import log as logging

from nova_docker.guest import guest, image, properties_are_whole
from nova_docker.spawn import image_record
from nova_docker.v1 import driver_pb2 as api

LOG = logging.getLogger(__name__)


def complete(request: api.RebootGuestRequest, context: Any, instance: Any) -> bool:
    """Puts what the guest shall be into the request; False where that cannot be known, and the guest stays as it is."""
    record: Mapping[str, Any] = {}
    if not properties_are_whole(instance):
        record = image_record(context, instance.image_meta)
        if not record:
            LOG.warning("The guest stays as it was made: Nova has cut properties of its image", instance=instance)
            return False
    request.guest.CopyFrom(guest(instance))
    request.image.CopyFrom(image(instance, None, record))
    return True
