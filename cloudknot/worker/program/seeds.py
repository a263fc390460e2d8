"""The index of the element that a job runs, and seeds for its random numbers.

The public names `cloudknot.element_index` and `cloudknot.seed` are these functions, here and in a job. So this file
imports only the standard library: the stand-in for cloudknot loads it by its path.
"""

from __future__ import annotations

import operator
import os

# A variable, so that the processes that the function starts have the same index.
ELEMENT_VARIABLE = "CLOUDKNOT_ELEMENT"
WORD = 0xFFFFFFFF
"""The largest number of 32 bits. `numpy.random.SeedSequence` computes modulo this number plus one."""
POOL = 4
"""Words of the pool of a `SeedSequence`, its ``DEFAULT_POOL_SIZE``."""
# The constants of numpy/random/bit_generator.pyx. numpy promises never to change its streams (NEP 19).
INIT_A, MULT_A = 0x43B0D7E5, 0x931E8875
MIX_MULT_L, MIX_MULT_R = 0xCA01F9DD, 0x4973F715


def element_index() -> int | None:
    """Return the index of the element that this job runs: its position in the input of the map, from 0.

    The index is the same in every attempt and in every retry. Each element of a chunk has its own. The function of a
    `reduce` has the index 0.

    Returns
    -------
    int or None
        None outside of a job, and while a job loads the function.

    Examples
    --------
    >>> import cloudknot as ck
    >>> print(ck.element_index())
    None
    """
    text = os.environ.get(ELEMENT_VARIABLE)
    return int(text) if text else None


def seed(root: int, index: int | None = None) -> int:
    """Return a seed for the random numbers of the element that this job runs.

    Call it inside the function: ``rng = numpy.random.default_rng(ck.seed(1))``, or ``random.Random(ck.seed(1))``.
    Each element of a map gets a stream of numbers of its own, and the same one in every attempt and every retry. The
    streams of different roots and of different elements are independent.

    ``numpy.random.default_rng(ck.seed(root))`` draws the numbers of ``numpy.random.default_rng(s)``, where ``s`` is
    ``numpy.random.SeedSequence(root, spawn_key=(ck.element_index(),))``. That is also the element's item of
    ``numpy.random.SeedSequence(root).spawn(n)``.

    Parameters
    ----------
    root : int
        Any number from 0. Maps with the same root get the same seeds.
    index : int, optional
        The index of the element, from 0. Default: `element_index`. Outside of a job it has no default.

    Returns
    -------
    int
        A number of up to 128 bits. For a library that takes fewer, pass ``ck.seed(1) % 2**32``.

    Raises
    ------
    ValueError
        ``root`` or ``index`` is negative.
    RuntimeError
        There is no ``index``, and no element runs.

    Examples
    --------
    >>> import cloudknot as ck
    >>> ck.seed(1, index=3)
    289942674757135919295755479301520497548
    """
    if index is None:
        index = element_index()
    if index is None:
        raise RuntimeError(
            f"cloudknot.seed({root!r}) is called where no element runs, so it has no index. Call it inside the "
            f"function of a Knot. To get the seed of element 0 elsewhere, call cloudknot.seed({root!r}, index=0)."
        )
    entropy = _words("root", root)
    # As SeedSequence does it, so that no root looks like another one with a spawn_key.
    entropy += [0] * (POOL - len(entropy))
    pool = _mixed([*entropy, *_words("index", index)])
    return sum(word << 32 * position for position, word in enumerate(_unmixed(pool)))


def set_element(index: int | None) -> None:
    """Make an element the one that `element_index` returns; None for none."""
    if index is None:
        os.environ.pop(ELEMENT_VARIABLE, None)
    else:
        os.environ[ELEMENT_VARIABLE] = str(index)


def _words(name: str, value: int) -> list[int]:
    """Return the 32-bit words of a number, the lowest first."""
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name}={value} of cloudknot.seed is negative. Pass a whole number from 0.")
    words = [number & WORD]
    while number := number >> 32:
        words.append(number & WORD)
    return words


class _Constants:
    """The constants for the rounds of SeedSequence's hash, in order."""

    def __init__(self) -> None:
        self._next = INIT_A

    def pair(self) -> tuple[int, int]:
        """Return the constant of the next round, and the one after it."""
        current, self._next = self._next, self._next * MULT_A & WORD
        return current, self._next


def _mixed(entropy: list[int]) -> list[int]:
    """Return the pool that ``SeedSequence`` makes of some words, at least four."""
    constants = _Constants()
    pool = [_hashed(word, *constants.pair()) for word in entropy[:POOL]]
    for source in range(POOL):
        for target in range(POOL):
            if source != target:
                pool[target] = _mix(pool[target], _hashed(pool[source], *constants.pair()))
    for word in entropy[POOL:]:
        for target in range(POOL):
            pool[target] = _mix(pool[target], _hashed(word, *constants.pair()))
    return pool


def _unmixed(pool: list[int]) -> list[int]:
    """Return the four words of which `_mixed` makes a pool."""
    # Each step of the hash can be undone, so any pool is that of exactly one number of 128 bits. This number seeds
    # everything that takes a number, and gives numpy the pool of a root with a spawn_key.
    pool, constants = list(pool), _Constants()
    first = [constants.pair() for _ in range(POOL)]
    pairs = [(source, target) for source in range(POOL) for target in range(POOL) if source != target]
    for (source, target), pair in reversed([(places, constants.pair()) for places in pairs]):
        pool[target] = _unmix(pool[target], _hashed(pool[source], *pair))
    return [_unhashed(word, *pair) for word, pair in zip(pool, first, strict=True)]


def _hashed(word: int, constant: int, following: int) -> int:
    word = (word ^ constant) * following & WORD
    return word ^ word >> 16


def _unhashed(word: int, constant: int, following: int) -> int:
    word ^= word >> 16
    return (word * pow(following, -1, WORD + 1) & WORD) ^ constant


def _mix(word: int, other: int) -> int:
    word = MIX_MULT_L * word - MIX_MULT_R * other & WORD
    return word ^ word >> 16


def _unmix(word: int, other: int) -> int:
    word ^= word >> 16
    return (word + MIX_MULT_R * other) * pow(MIX_MULT_L, -1, WORD + 1) & WORD


# Functions travel by the name under which users import them, and a job has no other module of cloudknot.
for _function in (element_index, seed):
    _function.__module__ = "cloudknot"
