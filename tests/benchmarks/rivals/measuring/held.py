"""Turns that wait between two pieces of work, so that contestants with long start-ups can take turns at each piece."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TypeVar

from tests.benchmarks.rivals.environments import NotInstallable
from tests.benchmarks.rivals.measuring.supervisor import End, Measurement, Outcome, Start, TurnFailed, steps
from tests.benchmarks.rivals.measuring.watch import adopt_orphans
from tests.benchmarks.rivals.plan import Turn

LONGEST = 900
"""Seconds after which a step has failed. The turn's own supervisor gives up earlier, with a reason."""
Kind = TypeVar("Kind", Start, Measurement, End)


class HeldTurn:
    """A turn with a supervisor in a process of its own, because a supervisor counts the times of all descendants."""

    def __init__(self, turn: Turn, rounds: int) -> None:
        self.turn = turn
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_hold, args=(replace(turn, jobs=turn.jobs * rounds), theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._measurements: list[Measurement] = []
        self.start = self._step(Start)

    def work(self, workload: str) -> Sequence[Measurement]:
        """Do the next round of this workload, in all ways."""
        done: list[Measurement] = []
        for _ in [job for job in self.turn.jobs if job.workload == workload]:
            self._pipe.send(None)
            done.append(self._step(Measurement))
        self._measurements += done
        return done

    def outcome(self) -> Outcome:
        """Return all measurements, when all work is done."""
        self._pipe.send(None)
        return Outcome(self.start, tuple(self._measurements), self._step(End))

    def stop(self) -> None:
        """End all processes of the turn."""
        self._pipe.close()
        self._process.join(LONGEST)

    def _step(self, kind: type[Kind]) -> Kind:
        if not self._pipe.poll(LONGEST):
            raise TimeoutError(f"{self.turn.contestant}: no answer in {LONGEST} seconds")
        step = self._pipe.recv()
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, kind)
        return step


def _hold(turn: Turn, pipe: Connection) -> None:
    """Send each step of the turn, and wait for the word to go on. The end of the pipe ends the turn."""
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.closing(steps(turn)) as remaining, contextlib.suppress(EOFError, BrokenPipeError):
        try:
            for step in remaining:
                pipe.send(step)
                pipe.recv()
        except (TurnFailed, NotInstallable) as error:
            pipe.send(error)
