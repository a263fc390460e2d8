"""Stop the embedded cloud in the middle of a session, and start it again: knots and results are kept."""

import cloudknot as ck


def square(x):
    return x * x


with ck.LocalCloud() as cloud:
    knot = ck.Knot(name="squares", func=square, cloud=cloud)
    knot.map(range(5)).result()
    cloud.stop()
    cloud.start()
    print("after a restart:", knot.jobs[-1].result())
