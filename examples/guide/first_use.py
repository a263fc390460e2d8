"""First steps: a function, a knot, a map, its future and its jobs.

On this machine, without an AWS account:  CLOUDKNOT_CLOUD=local python first_use.py
"""

import cloudknot as ck


def monte_pi_count(n):
    import random

    return sum(random.random() ** 2 + random.random() ** 2 <= 1.0 for _ in range(n))


def pi_from_future(future):
    counts = future.result()
    print(f"pi is about {4 * sum(counts) / (len(counts) * 10_000):.2f}")


knot = ck.Knot(name="pi-calc", func=monte_pi_count)

args = [10_000] * 20
future = knot.map(args)  # submits one array job of 20 children and returns
print(future.done())  # False until every child has ended
future.add_done_callback(pi_from_future)  # called with the future when it ends
counts = future.result()  # waits for the 20 counts, in the order of args

knot.view_jobs()  # prints a table: Job ID, Name, Status
print(knot.jobs[-1].done)  # True as soon as Batch reports the end
print(knot.jobs[-1].result())  # the same 20 counts, also in another session
