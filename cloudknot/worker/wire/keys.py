"""The S3 keys of a run's objects.

The client makes the run id before it submits. All objects of the run lie under its prefix::

    cloudknot.jobs/<knot>/<run id>/manifest.json      the description of the run, for workers and later sessions
                                   function           the run's own function, if the image does not contain it
                                   inputs             the pickled elements, one after the other
                                   inputs.index       their offsets, unless all are padded to one size
                                   submission.json    ids and names of the Batch jobs
                                   started.json       the same, written by the first child when it starts
                                   round.1.json       the manifest of the first retry; then 2, 3, ...
                                   todo.1             the elements of that round
                                   submission.1.json  its Batch job
                                   outputs/000000000-250   a pack: outcomes of some of the 250 elements from element 0
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
# Shared objects are the one exception to the rule that a run lies under its own prefix. Otherwise every map would
# upload hundreds of megabytes again.
SHARED = "shared"
"""Folder of the shared objects, beside the folders of a knot's runs."""
SHARED_OBJECT = "object"
"""Name of a shared object in its folder, beside the marks of the runs that use it."""


class Location(NamedTuple):
    """The position of a pack: its first element, the size of its gap, and the round that stored it (0: the map).

    The pack has at most as many entries as its gap has elements, see `pack_order`.
    """

    first: int
    number: int
    round: int = 0

    def fits(self, count: int, chunksize: int) -> bool:
        """Return whether a run of ``count`` elements, with at most ``chunksize`` in a child, can have this pack."""
        return self.number <= chunksize and self.first + self.number <= count


@dataclass(frozen=True)
class RunKeys:
    """The keys of the objects of one run.

    Attributes
    ----------
    bucket : str
    prefix : str
        ``cloudknot.jobs/<knot>/<run id>``.
    """

    bucket: str
    prefix: str

    @classmethod
    def of(cls, bucket: str, knot: str, run_id: str) -> RunKeys:
        """Return the keys of a run by its id."""
        return cls(bucket, f"{RUNS}/{knot}/{run_id}")

    @classmethod
    def parse(cls, url: str) -> RunKeys:
        """Read ``s3://bucket/prefix``."""
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket or not prefix.strip("/"):
            raise ValueError(f"{url!r} is not the URL of a run. Write it as s3://bucket/prefix.")
        return cls(bucket, prefix.strip("/"))

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def knot(self) -> str:
        """The name of the knot."""
        return self.prefix.split("/")[-2]

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.prefix.split("/")[-1]

    @property
    def manifest(self) -> str:
        """Key of the run's manifest."""
        return f"{self.prefix}/manifest.json"

    @property
    def inputs(self) -> str:
        """Key of the pickled elements."""
        return f"{self.prefix}/inputs"

    @property
    def index(self) -> str:
        """Key of the input index."""
        return f"{self.prefix}/inputs.index"

    @property
    def submission(self) -> str:
        """Key of the record of the map's own submission."""
        return self.submission_of(0)

    def job_name(self, round: int = 0) -> str:
        """Return the name of a round's jobs in Batch."""
        return f"{self.knot}-{self.run_id}" + (f"-{round}" if round else "")

    def submission_of(self, round: int) -> str:
        """Return the key of the record of a round's submission."""
        return f"{self.prefix}/submission{f'.{round}' if round else ''}.json"

    def started_of(self, round: int) -> str:
        """Return the key of the record that a round's first child writes. It names no other independent job."""
        # A key of its own, because under the client's key it would outlive a map that the client takes back.
        return f"{self.prefix}/started{f'.{round}' if round else ''}.json"

    @property
    def rounds(self) -> str:
        """Prefix of the manifests of the rounds after the first."""
        return f"{self.prefix}/round."

    def round(self, number: int) -> str:
        """Return the key of the manifest of a round after the first."""
        return f"{self.rounds}{number}.json"

    def round_of(self, key: str) -> int | None:
        """Return the number of the round from the key of its manifest; None for a foreign object."""
        digits = key[len(self.rounds) :].removesuffix(".json")
        number = int(digits) if _is_number(digits) else 0
        return number if number and self.round(number) == key else None

    def todo(self, round: int) -> str:
        """Return the key of the elements of a round after the first: sorted indices, stored as the index's offsets."""
        return f"{self.prefix}/todo.{round}"

    @property
    def function(self) -> str:
        """Key of the run's own function."""
        return f"{self.prefix}/function"

    @property
    def outputs(self) -> str:
        """Prefix of the packs."""
        return f"{self.prefix}/outputs/"

    def output(self, first: int, count: int, round: int = 0) -> str:
        """Return the key of a pack for the gap of elements ``first`` to ``first + count - 1``, stored in a round."""
        # The key names the gap, not the elements of the pack, so that two attempts meet under one key. A listing still
        # shows where outcomes can be, to the collector and to a later attempt.
        # Nine digits, so that S3 lists packs in the order of their elements.
        return f"{self.outputs}{first:09d}-{count}{f'.{round}' if round else ''}"

    def parse_output(self, key: str) -> Location | None:
        """Return the location of a pack from its key; None for a foreign object."""
        # Other programs may leave objects in the bucket. One of them must not cost the results of a run.
        first, _, rest = key[len(self.outputs) :].partition("-")
        count, _, round = rest.partition(".")
        if not all(map(_is_number, (first, count, round or "0"))):
            return None
        location = Location(int(first), int(count), int(round or 0))
        return location if location.number and self.output(*location) == key else None


def shared_key(knot: str, digest: str) -> str:
    """Return the key of a shared object of a knot. Its folder is named by the digest of its content."""
    return f"{RUNS}/{knot}/{SHARED}/{digest}/{SHARED_OBJECT}"


def _is_number(text: str) -> bool:
    """Return whether a text is a number of ASCII digits, of a length that no key exceeds."""
    return text.isascii() and text.isdigit() and len(text) <= 18
