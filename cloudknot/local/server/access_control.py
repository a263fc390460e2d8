"""Access control: the parts of `cloudknot.local.iam`, put together for the server.

They are the layer in front of moto, the gate, and the credentials of jobs.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from pathlib import Path
from wsgiref.types import WSGIApplication

from cloudknot.aws.door import Door
from cloudknot.errors import CloudError
from cloudknot.local.iam.accesses import Names
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.keys import Identities, Keys, Known
from cloudknot.local.iam.policy_reader import PolicyReader
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.iam.task_credentials import TaskCredentials
from cloudknot.local.server.control_plane import ControlPlane
from cloudknot.local.state import ACCOUNT, REGION

CLOUDFORMATION = "cloudformation.amazonaws.com"
TOKENS = "credentials"
"""Folder of the files that jobs show to get their credentials."""


class AccessControl:
    """Who is let in, and what they may do.

    Parameters
    ----------
    others : WSGI application
        Answers for the services.
    owner : AccessKey
        May do everything.
    endpoint : str
    scratch : Path
        A directory of the cloud's that lives as long as its process.
    takes_keys : bool
        Whether keys that are made by IAM and STS are accepted.
    """

    def __init__(
        self,
        others: WSGIApplication,
        owner: AccessKey,
        endpoint: str,
        scratch: Path,
        *,
        takes_keys: bool,
    ) -> None:
        self._endpoint = endpoint
        self.keys = Keys(owner)
        self.application = Identities(others, self.keys, takes_keys)
        self.plane = ControlPlane(self.application, owner, endpoint, REGION)
        self._reader = PolicyReader(self.plane.query)
        self.application.on_change, self.application.trust = self._reader.forget, self._reader.trust
        self.credentials = TaskCredentials(self.plane.query, self.keys, endpoint, scratch / TOKENS)
        self._doors: dict[str, Door] = {}
        self._lock = threading.Lock()

    def gate(self, log_path: str) -> Gate:
        """The gate; see there."""
        return Gate(self.keys, self._reader.statements, Names(ACCOUNT, REGION, self._find), log_path)

    def door_of(self, access_key: str) -> Door:
        """Calls of CloudFormation on behalf of the owner of a key, which may do what that key may."""
        with self._lock:
            if access_key not in self._doors:
                key = self._on_behalf(access_key)
                arguments = {
                    "region_name": REGION,
                    "aws_access_key_id": key.access_key,
                    "aws_secret_access_key": key.secret_key,
                }
                self._doors[access_key] = Door(arguments, self._endpoint, isolated=True)
            return self._doors[access_key]

    def _on_behalf(self, access_key: str) -> AccessKey:
        """A key of CloudFormation's own for calls in the name of somebody else."""
        known = self.keys.find(access_key)
        if known is None or known.principal is None:
            return self.keys.owner
        key = AccessKey(f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        self.keys.add(Known(key, replace(known.principal, called_via=CLOUDFORMATION), known.expires))
        return key

    def _find(self, kind: str, name: str) -> str:
        """An ARN by its resource's name; see `Names`. Empty when there is no such resource."""
        if kind == "role":
            return (self._reader.trust(name) or ("",))[0]
        try:
            found = self.plane.query("iam", "GetInstanceProfile", InstanceProfileName=name)
        except CloudError:
            return ""
        where = "InstanceProfile/{*}Arn" if kind == "profile" else "Roles//{*}Arn"
        return found.findtext(f".//{{*}}{where}") or ""
