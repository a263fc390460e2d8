"""Map the results of another map, and reduce them in one job. No result passes through this machine."""

import cloudknot as ck


def simulate(seed):
    import random

    generator = random.Random(seed)
    return [generator.gauss(10, 1) for _ in range(100)]


def mean(values, digits=2):
    return round(sum(values) / len(values), digits)


def largest(means):
    return max(means)


simulations = ck.Knot(name="simulate", func=simulate).map(range(6))
means = ck.Knot(name="means", func=mean).map(simulations, kwargs={"digits": 1})
highest = means.reduce(largest)
# The script could end here: all three jobs are submitted, and run one after the other.
print(highest.result())
print(means.result())

# In any later session: the jobs of a knot, oldest first. The result of a reduction is one value.
print([job.result() for job in ck.Knot(name="means").jobs[-2:]])
