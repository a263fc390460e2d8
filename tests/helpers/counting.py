"""A cloud that records its calls: tests count the cost of an operation and do not time it."""

import re

import cloudknot as ck

READS = re.compile(r"(describe|get|list|head|batch_get)_\w+")
"""Operations that change nothing in the account."""


class Counting:
    """A mixin for a cloud that records each call: its name in `calls`, ``service:name`` in `service_calls`."""

    def __init__(self, *arguments, **choices):
        super().__init__(*arguments, **choices)
        self.calls = []
        self.service_calls = []

    def forget(self):
        """Start to count anew."""
        self.calls.clear()
        self.service_calls.clear()

    def _note(self, service, operation):
        self.calls.append(operation)
        self.service_calls.append(f"{service}:{operation}")

    def call(self, service, operation, **arguments):
        self._note(service, operation)
        return super().call(service, operation, **arguments)

    def pages(self, service, operation, **arguments):
        self._note(service, operation)
        return super().pages(service, operation, **arguments)

    @property
    def writes(self):
        """The recorded calls that change something."""
        return [call for call in self.calls if not READS.fullmatch(call)]


class CountingCloud(Counting, ck.LocalCloud):
    """A session's connection to the embedded cloud, with recorded calls."""


def hook(door, method, before=None, after=None):
    """Have a door call functions with the key before and after each plain request, such as ``"put_quickly"``.

    These requests are made without botocore, so it has no events for them.
    """
    request = getattr(door, method)

    def hooked(bucket, key, *arguments):
        if before is not None:
            before(key)
        answer = request(bucket, key, *arguments)
        if after is not None:
            after(key)
        return answer

    setattr(door, method, hooked)
