"""The embedded cloud's server process, ``python -m cloudknot.local.server``: HTTP, and the parts put together.

A request passes `application`, then the gate of `iam`, the faults, and one of batch, cloudformation, or the layers in
front of moto. This folder may import every other folder of the embedded cloud; none of those imports this one.
"""
