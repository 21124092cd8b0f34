"""The buffers of one format."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ._buffer import Buffer
from ._link import Link
from ._protocol import RETIRED
from ._values import Format

if TYPE_CHECKING:
    from ._frame import Frame


class Slot:
    def __init__(self) -> None:
        self.buffers: list[Buffer] = []  # empty: they did not arrive
        self.generation: int | None = None
        self.held = False
        self.revoked = False


class Pool:
    def __init__(self, pools: list[Pool], late: list[Frame], link: Link, fmt: Format) -> None:
        self.pools, self.late, self.link, self.format = pools, late, link, fmt
        self.slots: list[Slot] = []
        self.held = 0
        self.current = True
        link.users += 1

    @property
    def complete(self) -> bool:
        return len(self.slots) == self.format.slots

    def settle(self) -> None:
        """Lets the pool go if it is not current and no frame of it is held, and says so if we had all of it."""
        if self.current or self.held or self not in self.pools:
            return
        self.pools.remove(self)
        for slot in self.slots:
            for buffer in slot.buffers:
                buffer.close()
        if self.complete:
            self.link.flush()
            # RETIRED ends the pool's leases: a RELEASE after it would be one too many.
            if not self.link.unsent:
                self.link.send(RETIRED, struct.pack("<I", self.format.pool))
        self.link.unuse()
