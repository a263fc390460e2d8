"""Three ways to choose the embedded cloud. Without any of them, jobs run on AWS."""

import os

import cloudknot as ck


def square(x):
    return x * x


# With an argument.
knot = ck.Knot(name="squares", func=square, cloud="local")
print("argument:", knot.map(range(5)).result())

# With an environment variable. Set it in the shell, and no line of the script changes.
os.environ["CLOUDKNOT_CLOUD"] = "local"
knot = ck.Knot(name="squares", func=square)
print("variable:", knot.map(range(5)).result())

# With an object. The end of the block stops the cloud, unless it ran before.
with ck.LocalCloud() as cloud:
    knot = ck.Knot(name="squares", func=square, cloud=cloud)
    print("object:", knot.map(range(5)).result())
