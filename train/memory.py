"""Keeping freed memory on the CPU: activations are as large as what the system takes back at once.

glibc maps every block above 32 MiB afresh and returns it when freed, so each layer of each batch pays for
zeroed pages again: half of the time of a LaDeDa9 forward pass at 256 x 256 (2.5 against 4.7 images/s in
float32, 9.1 against 16.1 in bfloat16, on two cores). https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1
"""Bytes; the largest value that mallopt takes."""


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the next batch; False where there is no glibc to tell."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all([mallopt(M_MMAP_THRESHOLD, LARGEST), mallopt(M_TRIM_THRESHOLD, LARGEST)])
