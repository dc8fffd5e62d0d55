"""Claim: "hierarchical synchronisation takes 40 % less latency". Measured between two groups over an emulated link.

Protocol, fixed before measuring. Two groups of four ranks, one thread each; within a group the loopback device, between the groups a link
of 1 Gbit/s and 5 ms. A ring over all ranks beside sums within groups, between them, and within them again, from 1 KB to 64 MB, in turns,
medians. A ring makes 14 steps, of which the slowest link sets the pace; the hierarchy makes 2 over the slow link and 6 within.

Verdict: reproduced in emulation if every message up to 256 KB takes at least 40 % less. Nothing is said of real clusters.

Usage: python benchmarks/claims/hierarchical_sums.py [--small]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from communication import measure

CLAIMED, SMALL_KB = 0.40, 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    found = measure(["hierarchy"], small=parser.parse_args().small)["hierarchy"]
    saved = [each["saved"] for size, each in found.items() if size.endswith(" KB") and int(size.split()[0]) <= SMALL_KB]
    verdict = "not measured" if not saved else "reproduced in emulation" if min(saved) >= CLAIMED else "not reproduced in emulation"
    print(json.dumps({"claim": "hierarchical sums: 40 % less latency", **found, "verdict": verdict}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
