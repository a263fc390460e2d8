"""Run only the failed elements again, in this session or in another one."""

import tempfile
from pathlib import Path

import cloudknot as ck


def size_of(path):
    import os

    print("measuring", path)
    return os.path.getsize(path)


folder = Path(tempfile.mkdtemp())
paths = [folder / f"scan-{number}" for number in range(4)]
for path in paths[:3]:
    path.write_text("x" * 100)

knot = ck.Knot(name="scans", func=size_of)
future = knot.map(map(str, paths))
try:
    future.result()
except FileNotFoundError as error:
    print("failed:", error.__notes__[0].partition(" (job")[0])

paths[3].write_text("x" * 50)  # the cause of the failure is fixed
retry = future.retry_failed(memory=2000, timeout=600)  # one job with one element; other results are kept
print(retry.result())

job = ck.Knot(name="scans").jobs[-1]  # in any session, on any machine
print(job.retry_failed().result())  # every element has a result, so nothing is submitted
print("calls of the first element:", list(job.logs(0)).count(f"measuring {paths[0]}"))
