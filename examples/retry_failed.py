"""Run again what failed, and nothing else; also in another session."""

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

paths[3].write_text("x" * 50)  # what was wrong is put right
again = future.retry_failed(memory=2000, timeout=600)  # one job of one element; the other three are kept
print(again.result())

job = ck.Knot(name="scans").jobs[-1]  # in any session, on any machine
print(job.retry_failed().result())  # nothing failed any more, so nothing is submitted
print("calls of the first element:", list(job.logs(0)).count(f"measuring {paths[0]}"))
