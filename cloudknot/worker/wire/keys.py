"""The keys of a run's objects in its bucket.

The client makes the run id before it submits, and all objects of the run lie under its prefix::

    cloudknot.jobs/<knot>/<run id>/manifest.json      everything that a worker or a later session must know
                                   function           its function, where the image does not hold it
                                   inputs             the pickled elements, one after the other
                                   inputs.index       their offsets, unless all are padded to one size
                                   submission.json    ids and names of the Batch jobs
                                   started.json       the same, written by the first child when it starts
                                   round.1.json       the manifest of the first retry; then 2, 3, ...
                                   todo.1             the elements of that round
                                   submission.1.json  its Batch job
                                   outputs/000000000-250   a pack: the outcomes of 250 elements from element 0
                                   outputs/000000007-1.1   the outcome of element 7 in round 1
                                   failures/<job id>/1     a failed first attempt, if another one follows
    cloudknot.jobs/<knot>/shared/<digest>/object      keyword arguments of all elements, for any number of runs
                                          used-by/<run id>    the runs that use them
                                          given-up-by/<run id>    runs that are deleting them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

RUNS = "cloudknot.jobs"
SHARED = "shared"
"""The folder, beside those of a knot's runs, of what several runs read."""
SHARED_OBJECT = "object"
"""Its name; beside it are the marks of who uses it."""


class Location(NamedTuple):
    """Which pack: the first element in it, how many, and the round of the run that stored it (0 is the map's own)."""

    first: int
    number: int
    round: int = 0


@dataclass(frozen=True)
class RunKeys:
    """Where the objects of one run are in its bucket.

    ``prefix`` is ``cloudknot.jobs/<knot>/<run id>``.
    """

    bucket: str
    prefix: str

    @classmethod
    def of(cls, bucket: str, knot: str, run_id: str) -> RunKeys:
        return cls(bucket, f"{RUNS}/{knot}/{run_id}")

    @classmethod
    def parse(cls, url: str) -> RunKeys:
        """Read ``s3://bucket/prefix``."""
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket or not prefix.strip("/"):
            raise ValueError(f"{url!r} is not of the form s3://bucket/prefix")
        return cls(bucket, prefix.strip("/"))

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def knot(self) -> str:
        return self.prefix.split("/")[-2]

    @property
    def run_id(self) -> str:
        return self.prefix.split("/")[-1]

    @property
    def manifest(self) -> str:
        return f"{self.prefix}/manifest.json"

    @property
    def inputs(self) -> str:
        return f"{self.prefix}/inputs"

    @property
    def index(self) -> str:
        return f"{self.prefix}/inputs.index"

    @property
    def submission(self) -> str:
        return self.submission_of(0)

    def job_name(self, round: int = 0) -> str:
        """Batch's name of the jobs of one round."""
        return f"{self.knot}-{self.run_id}" + (f"-{round}" if round else "")

    def submission_of(self, round: int) -> str:
        """Key of the record of one round's submission."""
        return f"{self.prefix}/submission{f'.{round}' if round else ''}.json"

    def started_of(self, round: int) -> str:
        """Key of the same record, as the first child makes it; it names no other independent job."""
        return f"{self.prefix}/started{f'.{round}' if round else ''}.json"

    @property
    def rounds(self) -> str:
        """Prefix of what is stored of the rounds after the first."""
        return f"{self.prefix}/round."

    def round(self, number: int) -> str:
        """Key of the manifest of a round after the first."""
        return f"{self.rounds}{number}.json"

    def round_of(self, key: str) -> int:
        """The number of the round that a round's manifest is of."""
        return int(key[len(self.rounds) :].removesuffix(".json"))

    def todo(self, round: int) -> str:
        """Key of the elements that a round after the first runs: sorted indices, as the index has its offsets."""
        return f"{self.prefix}/todo.{round}"

    @property
    def function(self) -> str:
        return f"{self.prefix}/function"

    @property
    def outputs(self) -> str:
        return f"{self.prefix}/outputs/"

    def output(self, first: int, count: int, round: int = 0) -> str:
        """Key of a pack that holds elements ``first`` to ``first + count - 1``, stored by a child of that round."""
        return f"{self.outputs}{first:09d}-{count}{f'.{round}' if round else ''}"

    def parse_output(self, key: str) -> Location:
        """What an output key names."""
        first, _, rest = key[len(self.outputs) :].partition("-")
        count, _, round = rest.partition(".")
        return Location(int(first), int(count), int(round or 0))


def shared_key(knot: str, digest: str) -> str:
    """Key of an object that runs of a knot share, in a folder whose name is the digest of its content."""
    return f"{RUNS}/{knot}/{SHARED}/{digest}/{SHARED_OBJECT}"
