"""The random numbers of torch's CPU generator, without torch.

The released few-shot episodes come out of torch's generator. It is the Mersenne Twister that
numpy has too, so the same episodes can be replayed in a process that never loads torch. The
tests compare every method with torch itself.
"""

from __future__ import annotations

import numpy as np

from workflow_scripts.problems import refuse

WORD_BITS = 32
WORD_MASK = (1 << WORD_BITS) - 1  # torch seeds its twister with the lower half of a 64-bit seed
INT64_MASK = (1 << 63) - 1  # an int64 `random_()` draws from [0, 2**63)
SKIP_WORDS = 1 << 18  # words dropped at a time, so that memory stays small
MAX_ITEMS = WORD_MASK // 20  # torch draws longer permutations from 64-bit words

# 32-bit words that torchvision's constructor of the architecture, classifier included, takes from
# the generator to draw its random weights (measured with torch 2.15 and torchvision 0.29; a test
# measures them again). The released code builds the network between seeding and first episode.
INITIALISATION_WORDS = {"resnet18": 22_846_824, "resnet50": 48_958_824, "densenet121": 14_765_416}


class TorchStream:
    """One torch CPU generator, `torch.Generator().manual_seed(seed)`.

    >>> TorchStream(0).int64()  # torch.empty(1, dtype=torch.int64).random_()
    900450186894289455
    >>> TorchStream(0).permutation_start(7, 7)  # torch.randperm(7)
    [4, 0, 5, 3, 2, 6, 1]
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed & WORD_MASK)

    def words(self, n_words: int) -> list[int]:
        """Return the next `n_words` words of 32 bits."""
        words = self._twister.randint(WORD_MASK + 1, size=n_words, dtype=np.uint32)
        return [int(word) for word in words]

    def skip(self, n_words: int) -> None:
        """Drop the next `n_words` words of 32 bits."""
        for start in range(0, n_words, SKIP_WORDS):
            n_now = min(SKIP_WORDS, n_words - start)
            self._twister.randint(WORD_MASK + 1, size=n_now, dtype=np.uint32)

    def int64(self) -> int:
        """Return what `torch.empty(1, dtype=torch.int64).random_()` would draw: two words."""
        high, low = self.words(2)
        return ((high << WORD_BITS) | low) & INT64_MASK

    def permutation_start(self, n_items: int, length: int) -> list[int]:
        """Return the first `length` entries of `torch.randperm(n_items)`.

        The shuffle runs from the front (swap entry i with entry i + word % (n_items - i)), so the
        first entries are final early. The words of the others are dropped: the stream stands
        afterwards where torch's would.
        """
        if not 0 <= length <= n_items < MAX_ITEMS:
            raise ValueError(f"need 0 <= {length} <= {n_items} < {MAX_ITEMS}")
        n_words = max(n_items - 1, 0)  # the last entry needs no draw
        words = self.words(min(length, n_words))
        self.skip(n_words - len(words))
        moved: dict[int, int] = {}  # entries that are no longer at their own place
        start = []
        for i, word in enumerate(words):
            j = i + word % (n_items - i)
            start.append(moved.get(j, j))
            moved[j] = moved.get(i, i)
        if len(start) < length:  # the whole permutation: the last entry is what remains
            start.append(moved.get(length - 1, length - 1))
        return start


def stream_after_building(architecture: str, seed: int) -> TorchStream:
    """Return the stream as it stands when the released code has seeded and built its network.

    Args:
        architecture: torchvision's name, one of `INITIALISATION_WORDS`.
        seed: what torch was seeded with (the released code: 0).

    Raises:
        InputError: if the words of this architecture were never measured.

    Source: SSL transfer, released code: the seed is set before the network is built.
    """
    if architecture not in INITIALISATION_WORDS:
        raise refuse(
            f"certificate, architecture {architecture!r}",
            "an architecture of the released code: " + ", ".join(INITIALISATION_WORDS),
            "one whose random initialisation was never measured, so that its episodes are unknown",
            "run this checkpoint with --protocol corrected, whose episodes depend on no network",
        )
    stream = TorchStream(seed)
    stream.skip(INITIALISATION_WORDS[architecture])
    return stream
