"""AccessControl: joins the parts of ``iam/``: the layer in front of moto, the gate, and the credentials of jobs."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from wsgiref.types import WSGIApplication

from cloudknot.aws.door import Door
from cloudknot.errors import CloudError
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.accesses import Names
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.keys import AcceptedKey, IdentityLayer, Keys
from cloudknot.local.iam.policy_reader import PolicyReader
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.iam.task_credentials import TaskCredentials
from cloudknot.local.server.control_plane import ControlPlane

CLOUDFORMATION = "cloudformation.amazonaws.com"
STACK_AGENT = "cloudknot-stacks"
"""The user agent of CloudFormation's own calls for a stack."""
TOKENS = "credentials"
"""The folder of the token files. A job presents its token to get its credentials."""


class AccessControl:
    """The accepted keys, and the permissions of their principals.

    Parameters
    ----------
    services : WSGI application
        Answers requests to AWS's services.
    owner : AccessKey
        The key that may do everything.
    endpoint : str
        The URL of the cloud.
    scratch : Path
        A directory that lives as long as the server process.
    bucket_owner : callable
        Returns the account that owns a bucket, or an empty string if the bucket does not exist.
    takes_keys : bool
        Whether the cloud accepts keys that IAM and STS create.
    """

    def __init__(
        self,
        services: WSGIApplication,
        owner: AccessKey,
        endpoint: str,
        scratch: Path,
        bucket_owner: Callable[[str], str],
        *,
        takes_keys: bool,
    ) -> None:
        self._endpoint, self._bucket_owner = endpoint, bucket_owner
        self.keys = Keys(owner)
        self.application = IdentityLayer(services, self.keys, takes_keys)
        self.plane = ControlPlane(self.application, owner)
        self._reader = PolicyReader(self.plane.query)
        self.application.on_change, self.application.trust = self._reader.forget, self._reader.trust
        self.credentials = TaskCredentials(self.plane.query, self.keys, endpoint, scratch / TOKENS)
        self._doors: dict[str, Door] = {}
        self._lock = threading.Lock()

    def gate(self, log_path: str) -> Gate:
        """Return the gate that every request passes."""
        return Gate(self.keys, self._reader.policies, Names(ACCOUNT, REGION, self._find), log_path)

    def door_of(self, access_key: str) -> Door:
        """Return a door for CloudFormation's calls on behalf of a key's owner, with the permissions of that key."""
        with self._lock:
            if access_key not in self._doors:
                key = self._on_behalf(access_key)
                arguments = {
                    "region_name": REGION,
                    "aws_access_key_id": key.access_key,
                    "aws_secret_access_key": key.secret_key,
                }
                self._doors[access_key] = Door(arguments, self._endpoint, isolated=True, agent=STACK_AGENT)
            return self._doors[access_key]

    def is_owner(self, access_key: str) -> bool:
        """Return whether a key is the owner's, which may do everything."""
        return access_key == self.keys.owner.access_key

    def _on_behalf(self, access_key: str) -> AccessKey:
        """Return CloudFormation's own key for calls on behalf of the owner of ``access_key``."""
        caller = self.keys.find(access_key)
        if caller is None or caller.principal is None:
            return self.keys.owner
        # A key of its own, by which the gate recognises these calls and gives them the condition key aws:CalledVia.
        key = AccessKey(f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        self.keys.add(AcceptedKey(key, replace(caller.principal, called_via=CLOUDFORMATION), caller.expires))
        return key

    def _find(self, kind: str, name: str) -> str:
        """Return the ARN or the owner of a resource by its name, as described for `Names`; empty if it is missing."""
        if kind == "bucket":
            return self._bucket_owner(name)
        if kind == "role":
            return (self._reader.trust(name) or ("",))[0]
        if kind == "boundary":
            return self._reader.boundary_of(name)
        try:
            answer = self.plane.query("iam", "GetInstanceProfile", InstanceProfileName=name)
        except CloudError:
            return ""
        path = "InstanceProfile/{*}Arn" if kind == "profile" else "Roles//{*}Arn"
        return answer.findtext(f".//{{*}}{path}") or ""
