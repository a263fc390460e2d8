"""Find the spots in a field of view with ImageJ. The function runs in a job, and starts Java there."""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import tifffile
from fields import Field
from numpy.typing import NDArray

JARS = ("/usr/share/java/jython.jar", "/usr/share/java/ij.jar")
"""Where Debian's packages `jython` and `libij-java` have Jython and ImageJ."""
JAVA = (
    "java",
    # Debian's command `jython` ignores CLASSPATH, so Java itself has to find ImageJ.
    *("-cp", ":".join(JARS)),
    # A container has no screen.
    "-Djava.awt.headless=true",
    "-Dpython.home=/usr/share/jython",
    # The user of a job may not write into Jython's directory.
    "-Dpython.cachedir.skip=true",
    # Nothing of Python's site packages is needed, and Jython starts in half the time.
    "-Dpython.import.site=false",
    # A job has one vCPU. Its memory limit is also the limit of its container, which Java knows.
    *("-XX:ActiveProcessorCount=1", "-XX:+UseSerialGC", "-XX:MaxRAMPercentage=75"),
    "org.python.util.jython",
)
HEAD = 1 << 16
"""Bytes at the start of a movie that hold the description of its frames."""
SIGMA = 1.5
"""Standard deviation of the brightness of a spot, in pixels."""
THRESHOLD = 15.0
"""The smallest contrast of a spot. The standard deviation of the contrast of noise is about 0.7."""


@dataclass(frozen=True)
class Found:
    """The result for one field of view.

    Attributes
    ----------
    spots : array
        A row for each spot: frame, x and y in pixels of the movie, and contrast.
    cpu_seconds : float
        CPU time of ImageJ.
    megabytes : float
        Peak memory of ImageJ.
    """

    spots: NDArray[np.float64]
    cpu_seconds: float
    megabytes: float


def find_spots(key: str, field: Field, *, bucket: str, script: str) -> Found:
    """Return the spots in one field of view of a movie in S3. ``script`` is the Jython script ``detect.jy``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        download(bucket, key, field, folder / "field.tif")
        (folder / "detect.jy").write_text(script)
        spots = run_imagej(folder / "detect.jy", folder / "field.tif", folder / "spots.csv")
    spots[:, 1:3] += field.left, field.top
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Found(spots, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def download(bucket: str, key: str, field: Field, path: Path) -> None:
    """Store the field of a movie in S3 as a TIFF file. Only the rows of the field are read, frame by frame."""
    s3 = boto3.client("s3")

    def read(start: int, count: int) -> bytes:
        return s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + count - 1}")["Body"].read()

    # The pixels of the frames lie one after the other, behind a description of all of them.
    first = tifffile.TiffFile(BytesIO(read(0, HEAD))).pages.first
    frames, height, width = json.loads(first.description)["shape"]
    row = width * first.dtype.itemsize
    with tifffile.TiffWriter(path) as writer:
        for frame in range(frames):
            start = first.dataoffsets[0] + (frame * height + field.top) * row
            rows = np.frombuffer(read(start, (field.bottom - field.top) * row), first.dtype).reshape(-1, width)
            writer.write(rows[:, field.left : field.right], contiguous=True, photometric="minisblack")


def run_imagej(script: Path, movie: Path, results: Path) -> NDArray[np.float64]:
    """Run the Jython script on a TIFF file. Return frame, x, y and contrast of each spot."""
    # Output and errors of Java go to the log of the job.
    subprocess.run([*JAVA, str(script), str(movie), str(results), str(SIGMA), str(THRESHOLD)], check=True)
    return np.loadtxt(results, delimiter=",", skiprows=1, ndmin=2).reshape(-1, 4)
