"""Function uses: the function behind each result of a run, whose retries may have run other functions than the map."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.run.collect.pack_cache import submit
from cloudknot.run.collect.run_view import READERS
from cloudknot.worker.wire.failure import VALUE

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView
    from cloudknot.worker.wire.manifest import Manifest


class FunctionUse(NamedTuple):
    """A function, and the elements with a result that it made.

    Attributes
    ----------
    function : str
        Its name; empty if the session that submitted the round had found the knot by name.
    image : str
        The address of its image.
    digest : str
        The tag of the image: the digest of its content, with the function.
    job_definition : str
        ARN of the revision that ran it.
    rounds : list of int
        Its rounds: 0 is the map, 1 the first retry.
    elements : list of int
        Indices of the elements.
    """

    function: str
    image: str
    digest: str
    job_definition: str
    rounds: list[int]
    elements: list[int]


def function_uses(view: RunView) -> list[FunctionUse]:
    """Return the function behind each result that is stored so far. Reads the heads of all packs."""
    makers = _makers(view)
    uses: dict[tuple[str, str], FunctionUse] = {}
    for round in view.run.rounds:
        elements = makers.get(round.number, [])
        manifest = round.submission.manifest
        use = uses.setdefault((manifest.image, manifest.job_definition), _use(manifest))
        use.rounds.append(round.number)
        use.elements.extend(elements)
    # Elements of several rounds are in the order of the rounds.
    return [use._replace(elements=sorted(use.elements)) for use in uses.values() if use.elements]


def _use(manifest: Manifest) -> FunctionUse:
    # A tag has no slash, but the port of a registry has a colon before one.
    _, _, digest = manifest.image.rpartition("/")[2].partition(":")
    return FunctionUse(manifest.function, manifest.image, digest, manifest.job_definition, [], [])


def _makers(view: RunView) -> dict[int, list[int]]:
    """Return the elements with a value, by the number of the round that stored it."""
    round_of: dict[int, int] = {}
    with ThreadPoolExecutor(READERS, thread_name_prefix="cloudknot-fetch") as pool:
        for page in view.list_packs(0):
            reads = [(location, submit(pool, view.kinds, location)) for location, _ in page]
            for location, read in reads:
                for index, kind in enumerate(read.result(), location.first):
                    if kind == VALUE:
                        # A later round runs only elements without a value, so there is one round for each.
                        round_of[index] = max(location.round, round_of.get(index, 0))
    makers: dict[int, list[int]] = {}
    for index, round in round_of.items():
        makers.setdefault(round, []).append(index)
    return makers
