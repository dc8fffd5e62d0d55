"""Who gets which arm: a pure function of the experiment's salt and the key, the same in every worker and after every restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

_PERSON = b"deepseek-arms"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the journal says of a row instead of its key, which is nobody's business there.

    Attributes:
        experiment: The experiment's id.
        phase: Which of its phases: a new one begins whenever shares change.
        key: The key's hash; it says nothing of the arm, which hangs on other bits.
    """

    experiment: str
    phase: int
    key: int

    def __str__(self) -> str:
        return f"{self.experiment}:{self.phase}:{self.key:016x}"

    @classmethod
    def read(cls, text: str) -> Ticket:
        """Return the ticket that `str` wrote.

        Raises:
            ValueError: It is none.
        """
        experiment, phase, key = text.split(":")
        return cls(experiment, int(phase), int(key, 16))


def place_of(salt: str, key: str) -> tuple[float, int]:
    """Return where a key stands in [0, 1), and a hash of it that is independent of that.

    BLAKE2b with the salt as its salt: keys spread evenly whatever they look like, and two experiments with different salts divide the same
    keys independently of each other.

    Args:
        salt: The experiment's salt, at most 16 characters of ASCII.
        key: The key.

    Example:
        >>> place, _ = place_of("0f3a", "customer-17")
        >>> 0 <= place < 1
        True
    """
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=16, salt=salt.encode(), person=_PERSON).digest()
    # 53 bits are what a float64 holds: more would round some places up to 1
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53, int.from_bytes(digest[8:], "big")


def arm_of(place: float, shares: Sequence[float]) -> int:
    """Return which challenger has a place, by its number, and -1 for the champion.

    Each of `k` challengers owns its own k-th part of [0, 1) and takes the beginning of it: whoever had a challenger keeps it when any share
    is raised, and nobody ever changes from one challenger to another.

    Args:
        place: In [0, 1).
        shares: The challengers' shares, each at most one k-th.

    Example:
        >>> [arm_of(place, [0.1, 0.2]) for place in (0.05, 0.15, 0.65, 0.75)]
        [0, -1, 1, -1]
    """
    count = len(shares)
    if not count:
        return -1
    owner = min(int(place * count), count - 1)
    return owner if place - owner / count < shares[owner] else -1
