"""Looking for garbage in cycles less often than Python does of itself.

Services keep millions of objects, next to none of them garbage in cycles. With Python's own thresholds (700, 10, 10) the
collector goes over all of them again and again: a second each time at 2.8 million devices, a quarter of the time that
planning a province takes.
"""

import gc

# Young objects die young, and the rest hardly grows: look at the young ones in large lots, at the old ones hardly ever.
_THRESHOLDS = (50_000, 20, 100)


def settle() -> None:
    """What is here now stays; look at what comes in large lots."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
