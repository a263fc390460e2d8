"""Share the queue and the machines of another knot, and use a CloudFormation template of your own."""

import subprocess
import sys

import cloudknot as ck


def square(x):
    return x * x


def cube(x):
    return x**3


first = ck.Knot("first", func=square, max_vcpus=512)
second = ck.Knot("second", func=cube, compute=first)  # or compute="first"
print(first.map([2]).result(), second.map([2]).result(), second.compute)

# The same as in a shell: cloudknot template knot -o mine.yaml
subprocess.run([sys.executable, "-m", "cloudknot", "template", "knot", "-o", "mine.yaml"], check=True)
with open("mine.yaml", encoding="utf-8") as file:
    text = file.read()
with open("mine.yaml", "w", encoding="utf-8") as file:
    file.write(text.replace("RetentionInDays: 90", "RetentionInDays: 365"))

knot = ck.Knot("long-logs", func=square, template="mine.yaml")
print(knot.map([3]).result())

for each in (second, first, knot):
    each.clobber()
