"""Estimate pi by throwing two million darts in 20 child jobs.

On this machine, without an AWS account:  CLOUDKNOT_CLOUD=local python monte_carlo_pi.py
On AWS:                                   python monte_carlo_pi.py
"""

import math

import cloudknot as ck

THROWS = 100_000
CHILDREN = 20


def monte_pi_count(n):
    """Throw n darts at the unit square, and return the number of hits in the quarter circle."""
    import random

    hits = sum(random.random() ** 2 + random.random() ** 2 <= 1.0 for _ in range(n))
    return hits


def pi_from_future(future):
    """Print an estimate from the counts. The future calls this function when it ends."""
    estimate = 4 * sum(future.result()) / (THROWS * CHILDREN)
    print(f"pi is about {estimate:.6f}; the error is {abs(estimate - math.pi):.6f}")


def main():
    knot = ck.Knot(name="pi-calc", func=monte_pi_count)
    args = [THROWS] * CHILDREN
    future = knot.map(args)
    knot.view_jobs()
    future.add_done_callback(pi_from_future)
    future.result()
    knot.view_jobs()
    print(f"The last job is done: {knot.jobs[-1].done}; {len(knot.jobs[-1].result())} results.")


if __name__ == "__main__":
    main()
