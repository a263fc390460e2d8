"""Run a Jython script with ImageJ, in a Java process of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
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
SIGMA = 1.5
"""Standard deviation of the brightness of a spot, in pixels."""
THRESHOLD = 15.0
"""The smallest contrast of a spot. The standard deviation of the contrast of noise is about 0.7."""


def run_imagej(script: Path, movie: Path, results: Path) -> NDArray[np.float64]:
    """Run the Jython script on a TIFF file. Return frame, x, y and contrast of each spot."""
    # Output and errors of Java go to the log of the job.
    subprocess.run([*JAVA, str(script), str(movie), str(results), str(SIGMA), str(THRESHOLD)], check=True)
    return np.loadtxt(results, delimiter=",", skiprows=1, ndmin=2).reshape(-1, 4)
