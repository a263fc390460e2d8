"""Random numbers of each element: independent of all others, and the same in every attempt and retry."""

import random

import numpy as np

import cloudknot as ck


def simulate(steps):
    rng = np.random.default_rng(ck.seed(1))  # numpy's own streams: SeedSequence(1, spawn_key=(index,))
    walk = rng.normal(size=steps).sum()
    die = random.Random(ck.seed(2)).randint(1, 6)  # another root gives independent numbers
    return ck.element_index(), float(walk), die


knot = ck.Knot(name="walks", func=simulate)
first = knot.map([100] * 4).result()
print("indices:", [index for index, walk, die in first])
print("different:", len({walk for index, walk, die in first}) == 4)
print("again the same:", knot.map([100] * 4, chunksize=2).result() == first)

rng = np.random.default_rng(np.random.SeedSequence(1).spawn(4)[3])  # the same numbers in this session
print("here the same:", float(rng.normal(size=100).sum()) == first[3][1])
