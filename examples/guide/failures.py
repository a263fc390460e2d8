"""Read the failures of elements, the results of the others, and their output."""

import time

import cloudknot as ck


def reciprocal(x):
    print(f"working on {x}")
    if x < 0:
        import os

        os._exit(9)  # the process dies, as when it runs out of memory
    return 1 / x


def output_of(job, index):
    """Return the output of an element, line by line."""
    # A line reaches the log shortly after it is printed.
    for _ in range(100):
        if lines := list(job.logs(index)):
            return lines
        time.sleep(0.1)
    return []


knot = ck.Knot(name="reciprocals", func=reciprocal)
future = knot.map([1, 0, 4, -1])

try:
    future.result()
except ZeroDivisionError as error:  # the first failure, by position in the input
    print("raised:", error)
    print("notes:", *error.__notes__, sep="\n  ")  # the element, its job, and where its output is
    print("traceback:", "return 1 / x" in str(error.__cause__))  # the traceback in the job, as text

good = [element.result() for element in future if element.exception() is None]
print("good:", good)

try:
    future[3].result()
except ck.WorkerDiedError as error:
    print("died:", error.index, error.exit_code)

print("output:", output_of(future.job, 2))
print("urls:", len(future.job.log_urls))
