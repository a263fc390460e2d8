"""Injected faults for tests, all off by default. Neither the client nor the worker knows of them.

A session sets a `plan` with `switches`, and the server receives it through `route`. `requests` injects faults into
requests. `faulty_runner` stands in front of the runner and ends attempts.
"""
