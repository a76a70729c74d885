"""Which rows belong together, so that a split never has a product on both sides."""
import collections
import zlib

from .text import words


class Union:
    """Disjoint sets; the least member names a set."""

    def __init__(self):
        self.parent = {}

    def find(self, x):
        self.parent.setdefault(x, x)
        while self.parent[x] != x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x

    def join(self, a, b):
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[max(a, b)] = min(a, b)


def shingles(row):
    """Hashes of each four words in a row."""
    w = words(row["title"] + " . " + row["text"])
    return frozenset(zlib.crc32(" ".join(w[i : i + 4]).encode()) for i in range(max(1, len(w) - 3)))


def near_duplicates(rows, least):
    """Pairs (i, j) whose shingles have a Jaccard index of at least `least`: candidates by their
    six smallest hashes, then counted exactly."""
    sets = [shingles(row) for row in rows]
    buckets = collections.defaultdict(list)
    for i, hashes in enumerate(sets):
        for value in sorted(hashes)[:6]:
            buckets[value].append(i)
    seen = set()
    for bucket in buckets.values():
        bucket = bucket[:400]
        for at, i in enumerate(bucket):
            for j in bucket[at + 1 : at + 60]:
                if (i, j) in seen:
                    continue
                seen.add((i, j))
                common = len(sets[i] & sets[j])
                if common >= least * (len(sets[i]) + len(sets[j]) - common):
                    yield i, j
