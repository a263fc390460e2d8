"""Diffusion MRI: maps of fractional anisotropy for many subjects. Each job fetches its scan from S3.

On this machine, without an AWS account:  CLOUDKNOT_CLOUD=local python diffusion_mri.py
On AWS:                                   python diffusion_mri.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from figure import draw
from pipeline import process_subject
from scans import FILES, Scan, from_files, to_files
from subjects import make_scan

import cloudknot as ck

FOLDER = "diffusion-mri"
"""The first part of the keys of all scans in the bucket."""
TOLERANCE = 1e-4
"""The largest difference from the local map. Another CPU rounds differently; noise changes a map by about 0.03."""


def anisotropy(subject: str, bucket: str) -> np.ndarray:
    """Fetch the scan of a subject from S3, and return its map of fractional anisotropy. This runs in the job."""
    import boto3

    s3 = boto3.client("s3")
    files = {name: s3.get_object(Bucket=bucket, Key=f"{subject}/{name}")["Body"].read() for name in FILES}
    return process_subject(from_files(files))


def make_knot() -> ck.Knot:
    """Return the knot. Its jobs may read all buckets of the account, by the policy of a Pars of its own."""
    pars = ck.Pars(name="diffusion-mri", policies="AmazonS3ReadOnlyAccess")
    # The peak is 310 MB for 20 voxels along an edge, of which 175 MB are imports.
    return ck.Knot(name="diffusion-mri", func=anisotropy, pars=pars, job_def_vcpus=1, memory=1000)


def upload(s3: Any, bucket: str, scans: dict[str, Scan]) -> None:
    """Store the files of each subject in a folder of the bucket."""
    for subject, scan in scans.items():
        for name, content in to_files(scan).items():
            s3.put_object(Bucket=bucket, Key=f"{subject}/{name}", Body=content)


def delete(s3: Any, bucket: str, scans: dict[str, Scan]) -> None:
    """Delete the files of the subjects."""
    for subject in scans:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"{subject}/{name}"} for name in FILES]})


def maps_from_jobs(scans: dict[str, Scan]) -> list[np.ndarray]:
    """Return the maps of all subjects, computed by one job for each."""
    knot = make_knot()
    bucket, s3 = knot.job_definition.output_bucket, knot.cloud.client("s3")
    try:
        upload(s3, bucket, scans)
        start = time.monotonic()
        # A job has one vCPU. Without the variable, NumPy would start a thread for each CPU of the machine.
        future = knot.map(scans, kwargs={"bucket": bucket}, env_vars={"OMP_NUM_THREADS": "1"})
        maps = future.result()
    finally:
        delete(s3, bucket, scans)
    print(f"{len(scans)} jobs: {time.monotonic() - start:.1f} s")
    return maps


def maps_from_here(scans: dict[str, Scan]) -> list[np.ndarray]:
    """Return the same maps, computed in this process one after the other."""
    start = time.monotonic()
    maps = [process_subject(scan) for scan in scans.values()]
    print(f"this process: {time.monotonic() - start:.1f} s")
    return maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subjects", type=int, default=8, help="number of subjects (default: %(default)s)")
    parser.add_argument("--edge", type=int, default=20, help="voxels along an edge of a scan (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="four subjects with 8 voxels along an edge")
    parser.add_argument("--figure", type=Path, help="the picture (default: fa.png, or quick.png with --quick)")
    options = parser.parse_args()
    subjects, edge = (4, 8) if options.quick else (options.subjects, options.edge)
    # The small scans do not replace the picture of the page.
    figure = options.figure or Path("quick.png" if options.quick else "fa.png")

    scans = {f"{FOLDER}/sub-{number:03}": make_scan(number, edge) for number in range(subjects)}
    maps, expected = maps_from_jobs(scans), maps_from_here(scans)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(maps, expected, strict=True))
    print(f"largest difference between a job's map and the local map: {difference:.1e}")
    assert difference <= TOLERANCE
    draw(list(scans.values()), maps, figure)
    print(f"saved {figure}")


if __name__ == "__main__":
    main()
