"""The future of a map is also the sequence of its elements' futures."""

import asyncio
from concurrent.futures import as_completed

import cloudknot as ck


def nap(seconds):
    import time

    time.sleep(seconds)
    return seconds


knot = ck.Knot(name="naps", func=nap)
future = knot.map([0.3, 0.0, 0.1])

print(len(future), future[1].result())  # one element; the others may still run
print(sorted(element.result() for element in as_completed(future)))  # each as it ends
print(sum(element.result() for element in future.as_completed()))  # the same, for any number of elements


async def in_a_coroutine(future):
    return await future, await future[2], await future.job


print(asyncio.run(in_a_coroutine(future)))

# Wait with a limit. The job keeps running after it.
future = knot.map([600, 600])
try:
    future.result(timeout=0.5)
except ck.CKTimeoutError as error:
    print(error)

# End the Batch job. Elements with a result keep it.
print(future.cancel(), future.cancelled())
