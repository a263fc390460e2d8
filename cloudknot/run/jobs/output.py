"""The output of a job's child jobs, line by line: once, or until the job has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cloudknot.aws import batch, clients
from cloudknot.errors import refuse

if TYPE_CHECKING:
    from cloudknot.run.collect.run_view import RunView

MAX_FOLLOWED = batch.DESCRIBE_LIMIT
"""Child jobs whose output can be followed together: Batch describes as many in one request."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between two readings of the logs. The pause doubles while there are no new lines."""


class LogLine(NamedTuple):
    """A line of output: the number of the child job, its attempt from 1, and the text without a newline."""

    child: int
    attempt: int
    message: str


class Output:
    """The output of a job, or of the child jobs that ran one of its elements.

    Parameters
    ----------
    view : RunView
    index : int or None
        The element. None for all child jobs.
    catch_up : callable
        Reads rounds that other sessions have added.
    has_ended : callable
        Returns whether the job has ended.
    sleep : callable
        Waits for a number of seconds.
    """

    def __init__(
        self,
        view: RunView,
        index: int | None,
        catch_up: Callable[[], None],
        has_ended: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._view, self._index, self._sleep = view, index, sleep
        self._catch_up, self._has_ended = catch_up, has_ended
        # Where the next reading of a log stream continues.
        self._tokens: dict[batch.LogStream, str] = {}

    @property
    def _children(self) -> Sequence[int]:
        rounds = self._view.run.rounds
        return range(rounds.children) if self._index is None else rounds.children_of(self._index)

    def lines(self) -> Iterator[LogLine]:
        """Yield the lines that were not read yet, child by child and attempt by attempt."""
        self._catch_up()
        read = clients.logs(self._view.cloud).get_log_events
        for child, described in self._view.describe(self._children).items():
            for attempt, stream in enumerate(batch.log_streams(described), 1):
                pages = batch.log_pages(read, stream, self._tokens.get(stream, ""))
                for messages, self._tokens[stream] in pages:
                    yield from (LogLine(child, attempt, message) for message in messages)

    def follow(self) -> Iterator[LogLine]:
        """Yield all lines, and wait for more until the job has ended.

        Raises
        ------
        CloudknotInputError
            The job has too many child jobs to follow all of them.
        """
        if (number := len(self._children)) > MAX_FOLLOWED:
            refuse(
                problem=f"The job has {number:,} child jobs, and the output of {MAX_FOLLOWED} can be followed.",
                fix="Name an element: cloudknot logs JOB INDEX --follow.",
            )
        pause = SHORTEST_PAUSE
        while True:
            # Asked before the logs: lines that arrive after the end are read once more below.
            ended = self._has_ended()
            pause = min(2 * pause, LONGEST_PAUSE)
            for line in self.lines():
                pause = SHORTEST_PAUSE
                yield line
            if ended:
                # CloudWatch Logs shows the last lines a moment after the end.
                self._sleep(SHORTEST_PAUSE)
                yield from self.lines()
                return
            self._sleep(pause)

    def labelled(self, line: LogLine) -> str:
        """Return the text of a line, with its elements in front if several child jobs print."""
        rounds = self._view.run.rounds
        if self._index is not None or rounds.children == 1:
            return line.message
        first, last = rounds.ends_of(line.child)
        return f"[{first}] {line.message}" if first == last else f"[{first}-{last}] {line.message}"
