"""Find the spots in a field of view with ImageJ. The function runs in a job, and starts Java there."""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
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
BLOCK = 1 << 20
"""Bytes of the movie in memory while it is downloaded."""
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
        # In one request: for each of the many that `download_file` makes, the embedded cloud reads the whole object.
        with (folder / "movie.tif").open("wb") as file:
            shutil.copyfileobj(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"], file, BLOCK)
        # Memory holds only the pages of the file that are in use, so the movie may be larger than the job's memory.
        movie = tifffile.memmap(folder / "movie.tif", mode="r")
        tifffile.imwrite(folder / "field.tif", field.crop(movie), photometric="minisblack")
        (folder / "detect.jy").write_text(script)
        spots = run_imagej(folder / "detect.jy", folder / "field.tif", folder / "spots.csv")
    spots[:, 1:3] += field.left, field.top
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Found(spots, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def run_imagej(script: Path, movie: Path, results: Path) -> NDArray[np.float64]:
    """Run the Jython script on a TIFF file. Return frame, x, y and contrast of each spot."""
    # Output and errors of Java go to the log of the job.
    subprocess.run([*JAVA, str(script), str(movie), str(results), str(SIGMA), str(THRESHOLD)], check=True)
    return np.loadtxt(results, delimiter=",", skiprows=1, ndmin=2).reshape(-1, 4)
