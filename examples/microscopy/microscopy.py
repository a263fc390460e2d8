"""Microscopy: find particles in movies with ImageJ, link them into tracks, and measure their diffusion.

Each movie is in S3. A job finds the spots in one field of view of a movie, and another job links the spots of all
fields into tracks.

On this machine, with Java, Jython and ImageJ:  CLOUDKNOT_CLOUD=local python microscopy.py
On AWS, with a Docker engine for the image:     python microscopy.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import figure
import numpy as np
import tifffile
from compare import compare
from detect import find_spots
from fields import Field, join, split
from imagej import JARS
from movies import Truth, make_movie, make_truth
from track import link_spots

import cloudknot as ck

FOLDER = "movies"
"""The first part of the keys of all movies in the bucket."""


@dataclass(frozen=True)
class Movie:
    """A movie in S3: its key, its true particles, and one of its frames."""

    key: str
    truth: Truth
    frame: np.ndarray


@dataclass(frozen=True)
class Knots:
    """The two knots, and the S3 client and bucket for the movies."""

    detect: ck.Knot
    link: ck.Knot
    s3: object
    bucket: str


def chosen_cloud() -> ck.Cloud:
    """Return the cloud of the settings, to upload the movies with the same credentials as the knots."""
    return ck.LocalCloud() if os.environ.get("CLOUDKNOT_CLOUD") == "local" else ck.Cloud()


def packages(cloud: ck.Cloud) -> list[str]:
    """Return the Debian packages for the image. Jobs that are processes use those of this machine instead."""
    # A cloud without a store of its own has its images in a registry, for containers.
    if cloud.image_store is None:
        return ["jython", "libij-java"]
    missing = [path for path in JARS if not Path(path).exists()] + ["java"] * (shutil.which("java") is None)
    if missing:
        sys.exit(f"{', '.join(missing)} not found. Run on containers, or on Debian: apt install jython libij-java")
    return []


def make_knots(cloud: ck.Cloud) -> Knots:
    """Return the knots. Jobs of the first one may read all buckets of the account."""
    base = os.environ.get("BASE_IMAGE")  # the default works if this machine can pull it
    detect = ck.Knot(
        name="microscopy-detect",
        func=find_spots,
        pars=ck.Pars(name="microscopy", policies="AmazonS3ReadOnlyAccess", cloud=cloud),
        apt_packages=packages(cloud),
        base_image=base,
        memory=2000,
        # GiB of disk: each job of a machine stores its movie there.
        volume_size=64,
        cloud=cloud,
    )
    link = ck.Knot(name="microscopy-link", func=link_spots, base_image=base, memory=2000, cloud=cloud)
    return Knots(detect, link, cloud.client("s3"), detect.job_definition.output_bucket)


@contextmanager
def uploaded(knots: Knots, count: int, frames: int, size: int, particles: int):
    """Make movies and store them in S3. Yield them, and delete them at the end."""
    movies = []
    try:
        for seed in range(count):
            truth = make_truth(seed, frames, size, particles)
            key, content = f"{FOLDER}/{seed:03}.tif", make_movie(truth, seed, size)
            knots.s3.put_object(Bucket=knots.bucket, Key=key, Body=content)
            movies.append(Movie(key, truth, tifffile.imread(BytesIO(content), key=frames // 2)))
        yield movies
    finally:
        for movie in movies:
            knots.s3.delete_object(Bucket=knots.bucket, Key=movie.key)


def search(knots: Knots, movies: list[Movie], fields: list[Field], memory: int | None = None) -> list[np.ndarray]:
    """Return the spots of each movie, from one job for each field. Print time and memory."""
    elements = [(movie.key, field) for movie in movies for field in fields]
    # Data files do not travel with a function, so the map sends the script.
    script = Path(__file__).with_name("detect.jy").read_text()
    start = time.monotonic()
    found = knots.detect.map(
        elements, starmap=True, kwargs={"bucket": knots.bucket, "script": script}, memory=memory
    ).result()
    wall = time.monotonic() - start
    spots = [
        join(fields, [part.spots for part in found[first : first + len(fields)]])
        for first in range(0, len(found), len(fields))
    ]
    cpu, peak = (max(getattr(part, name) for part in found) for name in ("cpu_seconds", "megabytes"))
    print(
        f"{len(found)} fields: {sum(map(len, spots))} spots in {wall:.1f} s; "
        f"at most {cpu:.1f} s of CPU and {peak:.0f} MB in a job"
    )
    return spots


def search_whole(knots: Knots, movie: Movie, size: int) -> np.ndarray:
    """Return the spots of a movie, from one job for the whole movie."""
    # ImageJ holds all frames in memory.
    (spots,) = search(knots, [movie], split(size, 1), memory=7500)
    return spots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--movies", type=int, default=2, help="number of movies (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=100, help="frames of a movie (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1024, help="pixels along an edge (default: %(default)s)")
    parser.add_argument("--across", type=int, default=2, help="fields of view along an edge (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one movie of 60 frames with 256 pixels along an edge")
    parser.add_argument("--whole", action="store_true", help="also measure a whole movie as one field")
    parser.add_argument("--figure", type=Path, help="default: microscopy.png, or quick.png with --quick")
    options = parser.parse_args()
    # The small movie does not replace the picture of the page.
    path = options.figure or Path("quick.png" if options.quick else "microscopy.png")
    count, frames, size = (1, 60, 256) if options.quick else (options.movies, options.frames, options.size)
    fields = split(size, options.across)

    knots = make_knots(chosen_cloud())
    with uploaded(knots, count, frames, size, particles=size**2 // 3500) as movies:
        whole = search_whole(knots, movies[0], size) if options.whole else None
        spots = search(knots, movies, fields)
    if whole is not None:
        # The script rounds positions in a field.
        assert np.allclose(whole, spots[0], rtol=0, atol=0.001), "the whole movie has other spots than its fields"
    tracks = knots.link.map(spots, kwargs={"frames": frames}).result()
    for movie, found in zip(movies, tracks, strict=True):
        print(f"{movie.key}: {found.shape[1]} tracks; {compare(found, movie.truth)}")
    figure.save(figure.draw(movies[0].frame, tracks[0], fields), path)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
