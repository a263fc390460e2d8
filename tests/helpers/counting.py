"""A cloud that remembers what it was asked: the cost of an operation is counted, not timed."""

import re

import cloudknot as ck

READS = re.compile(r"(describe|get|list|head|batch_get)_\w+")


class Counting:
    """What makes a cloud keep the names of the calls it makes, and ``service:name``."""

    def __init__(self, *arguments, **choices):
        super().__init__(*arguments, **choices)
        self.calls = []
        self.asked = []

    def forget(self):
        self.calls.clear()
        self.asked.clear()

    def _note(self, service, operation):
        self.calls.append(operation)
        self.asked.append(f"{service}:{operation}")

    def call(self, service, operation, **arguments):
        self._note(service, operation)
        return super().call(service, operation, **arguments)

    def pages(self, service, operation, **arguments):
        self._note(service, operation)
        return super().pages(service, operation, **arguments)

    @property
    def writes(self):
        return [call for call in self.calls if not READS.fullmatch(call)]


class CountingCloud(Counting, ck.LocalCloud):
    """A session's view of the running cloud."""
