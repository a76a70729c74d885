"""Draws that depend on a seed and a name only, so that a new row never moves another one."""
import hashlib
import sys
import time


def log(*parts):
    print(time.strftime("%H:%M:%S"), *parts, file=sys.stderr, flush=True)


def number(*parts):
    """A 64-bit number from the parts' texts."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def share(*parts):
    """A number in [0, 1) from the parts' texts."""
    return number(*parts) / 2.0**64
