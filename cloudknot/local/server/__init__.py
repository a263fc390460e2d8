"""The embedded cloud's server process, ``python -m cloudknot.local.server``: HTTP, and the assembly of all parts.

`assembly` puts the parts together, and ``process/`` has the traits of the process. A request passes `application` and
the gate in ``iam/``. Then `dispatch` has ``batch/``, ``cloudformation/`` or the ``services/`` answer it. This folder
may import every other folder of the embedded cloud, and none of those imports this one.
"""
