"""Three ways to choose the embedded cloud. Without any of them it is AWS."""

import os

import cloudknot as ck


def square(x):
    return x * x


# By an argument.
knot = ck.Knot(name="squares", func=square, cloud="local")
print("argument:", knot.map(range(5)).result())

# By an environment variable, which is better set in the shell: then no line of the program changes.
os.environ["CLOUDKNOT_CLOUD"] = "local"
knot = ck.Knot(name="squares", func=square)
print("variable:", knot.map(range(5)).result())

# By an object. At the end of the block it stops the cloud, unless that ran before.
with ck.LocalCloud() as cloud:
    knot = ck.Knot(name="squares", func=square, cloud=cloud)
    print("object:", knot.map(range(5)).result())
