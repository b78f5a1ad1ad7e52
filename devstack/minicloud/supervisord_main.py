"""supervisord, with one repair. Runs in the virtual environment.

supervisor 4.3 can keep polling a descriptor number after its program was stopped. When the number has meanwhile become
another program's standard input, and that program has closed it, poll answers POLLERR at once and for ever, which
supervisor's loop ignores: it then uses a whole processor. (Its issue 807 has other forms of the same.)
"""

from __future__ import annotations

import select
import sys

from supervisor import poller, supervisord


class Poller(poller.PollPoller):  # type: ignore[misc]
    """Forgets a descriptor that has nothing but an error to report."""

    def _ignore_invalid(self, fd: int, eventmask: int) -> bool:
        if eventmask == select.POLLERR:
            self._poller.unregister(fd)
            self.readables.discard(fd)
            self.writables.discard(fd)
            return True
        return bool(super()._ignore_invalid(fd, eventmask))


poller.Poller = Poller

if __name__ == "__main__":
    sys.exit(supervisord.main())
