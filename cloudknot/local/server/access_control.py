"""AccessControl: joins the parts of ``iam/``: the keys, the gate, and the credentials of jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Documents
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.accesses import Names
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.keys import AcceptedKey, Keys
from cloudknot.local.iam.policy_reader import PolicyReader
from cloudknot.local.iam.requests.operations import Request
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.iam.task_credentials import TaskCredentials
from cloudknot.local.server.services.ec2.api import Ec2
from cloudknot.local.server.services.ecr.api import Ecr
from cloudknot.local.server.services.iam.api import Iam
from cloudknot.local.server.services.service import ControlPlane
from cloudknot.local.server.services.sts import Sts
from cloudknot.local.wsgi import ServiceError

if TYPE_CHECKING:
    from cloudknot.aws.images.registry.client import Registry

CLOUDFORMATION = "cloudformation.amazonaws.com"
TOKENS = "credentials"
"""The folder of the token files. A job presents its token to get its credentials."""


class AccessControl:
    """The accepted keys, the permissions of their principals, and the services of the control plane.

    Parameters
    ----------
    database : Database
        Keeps the keys and the resources of the services.
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
    registry : Registry or None
        Keeps the images of ECR's repositories.
    """

    def __init__(
        self,
        database: Database,
        owner: AccessKey,
        endpoint: str,
        scratch: Path,
        bucket_owner: Callable[[str], str],
        registry: Registry | None,
        *,
        takes_keys: bool,
    ) -> None:
        self._bucket_owner = bucket_owner
        self.keys = Keys(owner, kept=Documents(database, "key"), takes_users=takes_keys)
        self._reader = PolicyReader(self._ask_iam)
        sts = Sts(self.keys, takes_keys, self._role)
        self.services = ControlPlane(
            {"iam": Iam(database, self.keys), "sts": sts, "ec2": Ec2(database), "ecr": Ecr(database, registry)},
            database,
            {"iam": self._reader.forget},
        )
        self._sts = sts
        self.credentials = TaskCredentials(self._job_session, self.keys, endpoint, scratch / TOKENS)

    def _ask_iam(self, operation: str, **arguments: object) -> Any:
        """Return IAM's answer to a call, or None if it refuses it, because a resource does not exist."""
        try:
            return self.services.call("iam", operation, **arguments)
        except ServiceError:
            return None

    def _role(self, name: str) -> Request:
        role: Request = self.services.call("iam", "GetRole", RoleName=name)["Role"]
        return {**role, "AssumeRolePolicyDocument": unquote(role["AssumeRolePolicyDocument"])}

    def _job_session(self, role: str, name: str, seconds: float) -> AcceptedKey:
        answer = self._ask_iam("GetRole", RoleName=role.rpartition("/")[2])
        if answer is None or answer["Role"]["Arn"] != role:
            message = f"The role {role} of this job does not exist. Create its knot again."
            raise ServiceError("AccessDenied", message)
        return self._sts.session(role, name, seconds)

    def gate(self, log_path: str) -> Gate:
        """Return the gate that every request passes."""
        return Gate(self.keys, self._reader.policies, Names(ACCOUNT, REGION, self._find), log_path)

    def is_owner(self, access_key: str) -> bool:
        """Return whether a key is the owner's, which may do everything."""
        return access_key == self.keys.owner.access_key

    def on_behalf_of(self, access_key: str) -> AcceptedKey | None:
        """Return the key for CloudFormation's calls on behalf of a key's owner; None if the key has ended."""
        caller = self.keys.find(access_key)
        if caller is None or caller.principal is None:
            return caller
        # The gate recognises these calls, and gives them the condition key aws:CalledVia.
        return replace(caller, principal=replace(caller.principal, called_via=CLOUDFORMATION))

    def _find(self, kind: str, name: str) -> str:
        """Return the ARN or the owner of a resource by its name, as described for `Names`; empty if it is missing."""
        if kind == "bucket":
            return self._bucket_owner(name)
        if kind == "boundary":
            return self._reader.boundary_of(name)
        if kind == "role":
            answer = self._ask_iam("GetRole", RoleName=name)
            return str(answer["Role"]["Arn"]) if answer else ""
        answer = self._ask_iam("GetInstanceProfile", InstanceProfileName=name)
        if answer is None:
            return ""
        profile = answer["InstanceProfile"]
        found = [profile] if kind == "profile" else profile["Roles"]
        return str(found[0]["Arn"]) if found else ""
