"""An embedded cloud that injects faults on request: lost answers, errors of services, killed attempts, forgotten jobs.

`cloud.FaultyCloud` starts its server, ``python -m tests.faulty_cloud``: the server of the product with a layer in
front of its services (`injector`, `answers`), a layer in front of its runner (`faulty_runner`), and a route of its own
(`route`). A test sets a `plan` with `switches`. All faults are off at first. Neither the client nor the worker knows
of them.
"""
