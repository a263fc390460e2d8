"""The embedded cloud: AWS's API on this machine, for first steps and for tests.

Only this folder imports waitress. The client reaches it only through `cloudknot.aws.cloud.choose_cloud`, and a session
on AWS loads none of these modules::

    this session       session/        LocalCloud: find the running cloud, start it, recover it, stop it
                       options, directory/  the user's options; the files in the cloud's directory
                       admin           requests to the cloud's own routes: status, stop, log
                       runners/images  write images as directories with virtual environments, and remove unused ones
    server process     server/         HTTP, the route of a request through the folders below, and small services
                       iam/            signatures, keys, policies
                       s3/             buckets and objects on the disk, and S3's protocol
                       batch/          jobs, job queues and compute environments
                       cloudformation/ stacks
                       runners/        attempts of jobs, as processes or as containers

Importing this package loads none of these modules. A public name is loaded at its first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudknot.local.admin import CloudStatus
    from cloudknot.local.session.cloud import LocalCloud

__all__ = ["CloudStatus", "LocalCloud"]

_MODULE_OF = {
    "CloudStatus": "admin",
    "LocalCloud": "session.cloud",
}


# Type checkers must not see this function: they would accept any name as an attribute of the module.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value  # So that the next use does not call this function again.
        return value


def __dir__() -> list[str]:
    return list(__all__)
