"""The state of an HTTP/2 connection: h2's, with one change to its inside.

h2 takes a GOAWAY for the end of everything. A server that is stopping says GOAWAY and then finishes the calls it has
taken, so the state of the connection must outlive it. h2 has no option for that.
"""

from __future__ import annotations

from importlib.metadata import requires
from typing import Any

import h2
import h2.config
import h2.connection
import h2.errors


def check_h2(connection: type[Any]) -> None:
    """Raises ImportError unless the connection class has the parts of its inside that Http2 changes."""
    lacking = [] if callable(getattr(connection, "_receive_goaway_frame", None)) else ["_receive_goaway_frame"]
    machine = getattr(connection(h2.config.H2Configuration()), "state_machine", None)
    if not hasattr(machine, "state"):
        lacking.append("state_machine.state")
    if lacking:
        found = getattr(h2, "__version__", "of an unknown version")
        required = [text for text in requires("nova-docker-shim") or () if text.startswith("h2")]
        raise ImportError(
            f"nova-docker-shim cannot use h2 {found}: its H2Connection lacks {' and '.join(lacking)}. "
            f"Install {' '.join(required)} into the Python of nova-compute"
        )


check_h2(h2.connection.H2Connection)


class Http2(h2.connection.H2Connection):
    """A connection that stays usable after a GOAWAY without an error."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        state = self.state_machine.state
        answer = super()._receive_goaway_frame(frame)
        if frame.error_code == h2.errors.ErrorCodes.NO_ERROR:
            self.state_machine.state = state
        return answer
