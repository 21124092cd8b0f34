"""What a subscriber raises."""

from __future__ import annotations

from ._protocol import TEMPORARY


class Error(Exception):
    """What a publisher did, or what this process lacks. Failed system calls are OSErrors that name the socket."""


class ProtocolError(Error):
    """The publisher broke the protocol. The connection is ended."""


class Refused(Error):
    """The publisher refused this subscriber or ended the connection. The text says why.

    `reason` is the number of BYE, a key of REASONS or one of a later version. With reason 2 the quota does not fit the pool:
    `reserve` + 1 (the newest frame) + `granted` + `wanted` is more than `slots`. With other reasons these are 0."""

    reason = 0
    slots = 0  # buffers of the pool
    reserve = 0  # buffers for the driver and the publisher's process
    granted = 0  # the quotas of other subscribers
    wanted = 0  # the quota that this subscriber asked for

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be admitted later. Never so for policy block where it is not granted."""
        return self.reason in TEMPORARY


class Disconnected(Error):
    """Not connected, or hung up before WELCOME."""


class Exhausted(Error):
    """No file descriptor is left for any of the publisher's buffers."""


class Timeout(Error, TimeoutError):
    """Nothing came in time."""

class Violation(Exception):
    """The publisher broke the protocol. The subscriber raises it as a ProtocolError that names the socket."""
