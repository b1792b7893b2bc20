"""The measurement. It is protected: a researcher may read it and may not edit it.

Replace it by whatever measures your program. Two rules keep its number worth believing: randomness follows from
AUTORESEARCH_SEED and nothing else, and nothing in the edited file decides what is printed.
"""

import os
import random

NOISE = 0.02  # standard deviation of one measurement
BEST = 0.0  # what no program can beat on average


def measure(x: float, y: float) -> float:
    """Return the noisy height of a curved valley at (x, y); its floor is 0, at (1, 1)."""
    seed = int(os.environ.get("AUTORESEARCH_SEED", "0"))
    height = (1 - x) ** 2 + 5 * (y - x * x) ** 2
    return BEST + height + random.Random(seed).gauss(0, NOISE)


def report(loss: float) -> None:
    """Print the metric the way AutoResearch reads it."""
    print(f"METRIC loss={loss:.6f}")
