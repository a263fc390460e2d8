"""Run only the failed elements again, with a fixed function."""

import cloudknot as ck


def tenth(x):
    return 10 / x


def tenth_or_zero(x):
    return 10 / x if x else 0.0


future = ck.Knot(name="tenths", func=tenth).map([1, 0, 5])  # tenth(0) raises ZeroDivisionError
future.exception()
fixed = ck.Knot(name="tenths", func=tenth_or_zero)
print(future.retry_failed(knot=fixed).result())
for use in future.job.functions():
    print(use.function, use.elements)
