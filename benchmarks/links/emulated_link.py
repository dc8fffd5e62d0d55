"""A slow link between two network namespaces, emulated in user space: each packet leaves when the link is free and arrives after a delay.

Real TCP runs over it, on one machine. It needs Linux, root, `ip` and `/dev/net/tun`; kernels without the queueing discipline `netem`, which
does the same, are no hindrance. What is measured over it is a property of the algorithms, not evidence about a real cluster.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TUN, _SET, _FLAGS = "/dev/net/tun", 0x400454CA, 0x0001 | 0x1000  # TUNSETIFF; IFF_TUN | IFF_NO_PI
_MTU = 65_000
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def unavailable() -> str | None:
    """Say why no link can be emulated here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    if shutil.which("ip") is None or not os.access(_TUN, os.R_OK | os.W_OK):
        return "needs the command `ip` and /dev/net/tun"
    return None


@dataclass(frozen=True)
class Link:
    """Two namespaces and the devices that join them."""

    spaces: tuple[str, str]
    devices: tuple[str, str]

    def command(self, side: int, words: Sequence[str]) -> list[str]:
        """Return a command that runs others on one side."""
        return ["ip", "netns", "exec", self.spaces[side], *words]


@contextlib.contextmanager
def link(*, delay_s: float, bytes_per_s: float) -> Iterator[Link]:
    """Join two new namespaces by a link; both are gone afterwards.

    Args:
        delay_s: How long a packet is on its way, one way.
        bytes_per_s: How much the link takes in each direction.
    """
    made = Link((f"ds{os.getpid()}a", f"ds{os.getpid()}b"), (f"dsl{os.getpid() % 100000}a", f"dsl{os.getpid() % 100000}b"))
    ends = []
    relay = None
    try:
        for space, device, address in zip(made.spaces, made.devices, ADDRESSES, strict=True):
            subprocess.run(["ip", "netns", "add", space], check=True)
            end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
            ends.append(end)
            fcntl.ioctl(end, _SET, struct.pack("16sH", device.encode(), _FLAGS))
            subprocess.run(["ip", "link", "set", device, "netns", space], check=True)
            for words in (
                ["addr", "add", f"{address}/24", "dev", device],
                ["link", "set", device, "mtu", str(_MTU), "txqueuelen", "10000", "up"],
            ):
                subprocess.run(["ip", "-n", space, *words], check=True)
            subprocess.run(["ip", "-n", space, "link", "set", "lo", "up"], check=True)
        relay = multiprocessing.get_context("fork").Process(target=_relay, args=(ends, delay_s, bytes_per_s), daemon=True)
        relay.start()
        yield made
    finally:
        if relay is not None:
            relay.kill()
            relay.join()
        for end in ends:
            os.close(end)
        for space in made.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


def _relay(ends: Sequence[int], delay_s: float, bytes_per_s: float) -> None:
    """Carry packets from each end to the other."""
    waiting: tuple[deque[tuple[float, bytes]], ...] = (deque(), deque())
    free = [0.0, 0.0]
    while True:
        now = time.perf_counter()
        due = min((queue[0][0] for queue in waiting if queue), default=now + 1.0)
        ready, _, _ = select.select(ends, [], [], max(due - now, 0.0))
        now = time.perf_counter()
        for side in (0, 1):
            if ends[side] in ready:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        packet = os.read(ends[side], _MTU + 64)
                        free[side] = max(free[side], now) + len(packet) / bytes_per_s
                        waiting[side].append((free[side] + delay_s, packet))
            while waiting[side] and waiting[side][0][0] <= now:
                with contextlib.suppress(OSError):  # a full queue loses packets, as networks do
                    os.write(ends[1 - side], waiting[side].popleft()[1])


def interface_bytes(device: str) -> int:
    """Return how many bytes a device of this namespace has sent."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == device:
            return int(rest.split()[8])
    raise LookupError(device)
