"""Find the spots in a field of view with ImageJ. The function runs in a job, and starts Java there."""

from __future__ import annotations

import json
import resource
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import tifffile
from fields import Field
from imagej import run_imagej
from numpy.typing import NDArray

HEAD = 1 << 16
"""Bytes at the start of a movie that hold the description of its frames."""


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
