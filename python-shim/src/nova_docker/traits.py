"""The traits that this driver has put into Placement, remembered beyond the end of nova-compute.

Placement does not say who has put a trait there, and operators put some of their own. So the driver writes down which
are its own, and takes away those of them that the agent has dropped, even while nova-compute was not running.
"""

from __future__ import annotations

import os
from pathlib import Path

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

FILE = "nova-docker-shim.traits"
"""In nova-compute's state_path; a name on each line."""


class OwnTraits:
    """The names, in memory and in the file."""

    def __init__(self, state_path: str) -> None:
        self._path = Path(state_path) / FILE
        self._names: set[str] | None = None

    def dropped(self, present: set[str], wanted: set[str]) -> set[str]:
        """Which of the present traits are to go; writes down that the wanted ones are ours.

        A dropped one stays ours until it is seen to be gone, because Placement may refuse the change.
        """
        if self._names is None:
            self._names = self._read()
        dropped = (self._names - wanted) & present
        names = wanted | dropped
        if names != self._names:
            self._names = names
            self._write()
        return dropped

    def _read(self) -> set[str]:
        try:
            return set(self._path.read_text(encoding="utf-8").split())
        except FileNotFoundError:
            return set()
        except (OSError, UnicodeDecodeError) as error:
            LOG.warning("Traits that the agent has dropped may stay in Placement: %s", error)
            return set()

    def _write(self) -> None:
        # Replaced as a whole, so that a crash leaves the old file or the new one.
        new = self._path.with_suffix(".new")
        try:
            new.write_text("".join(f"{name}\n" for name in sorted(self._names or ())), encoding="utf-8")
            os.replace(new, self._path)
        except OSError as error:
            LOG.warning("Traits that the agent drops while nova-compute is down will stay in Placement: %s", error)
