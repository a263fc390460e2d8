"""Injected faults, all off by default: a session sets a `plan` with `switches`, and the server receives it by `route`.

`requests` makes requests go wrong, `attempts` stands in front of the runner and kills attempts.
"""
