"""IAM's managed policies with their versions, and the inline and attached policies of users, groups and roles."""

from __future__ import annotations

from functools import partial

from cloudknot.local.directory.documents import Document
from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.requests.operations import Operation, Request
from cloudknot.local.server.services.iam.managed_policies import aws_policies
from cloudknot.local.server.services.iam.records import (
    IamRecords,
    checked_policy,
    encoded,
    in_use,
    listed,
    missing,
    now,
)
from cloudknot.local.wsgi import Answer, ServiceError

HOLDERS = ("User", "Group", "Role")
MOST_ATTACHED = 20
"""Managed policies of one holder: the highest quota that AWS grants (IAM user guide, "IAM and AWS STS quotas")."""
MOST_VERSIONS = 5


class IamPolicies:
    """The operations on policies.

    Parameters
    ----------
    records : IamRecords
    """

    def __init__(self, records: IamRecords) -> None:
        self._records = records
        self.operations: dict[str, Operation] = {
            "CreatePolicy": self._create,
            "GetPolicy": lambda request: {"Policy": self._described(records.policy(request["PolicyArn"]))},
            "DeletePolicy": self._delete,
            "ListPolicies": self._list,
            "CreatePolicyVersion": self._create_version,
            "GetPolicyVersion": self._version,
            "ListPolicyVersions": self._versions,
            "DeletePolicyVersion": self._delete_version,
            "SetDefaultPolicyVersion": self._set_default,
            "ListEntitiesForPolicy": self._entities,
        }
        for kind in HOLDERS:
            self.operations |= {
                f"Put{kind}Policy": partial(self._put_inline, kind),
                f"Get{kind}Policy": partial(self._inline, kind),
                f"Delete{kind}Policy": partial(self._delete_inline, kind),
                f"List{kind}Policies": partial(self._list_inline, kind),
                f"Attach{kind}Policy": partial(self._attach, kind),
                f"Detach{kind}Policy": partial(self._detach, kind),
                f"ListAttached{kind}Policies": partial(self._list_attached, kind),
            }

    def _create(self, request: Request) -> Answer:
        name, path = request["PolicyName"], request.get("Path") or "/"
        arn = f"arn:aws:iam::{ACCOUNT}:policy{path}{name}"
        if arn in self._records.of["Policy"]:
            message = f"A policy called {name} already exists. Duplicate names are not allowed."
            raise ServiceError("EntityAlreadyExists", message, 409)
        time = now()
        policy = self._records.add(
            "Policy",
            request,
            DefaultVersionId="v1",
            Description=request.get("Description"),
            IsAttachable=True,
            UpdateDate=time,
            versions={"v1": {"Document": checked_policy(request["PolicyDocument"]), "CreateDate": time}},
            next=2,
        )
        return {"Policy": self._described(policy)}

    def _described(self, policy: Document) -> Document:
        arn = policy["Arn"]
        records = [record for kind in HOLDERS for record in self._records.of[kind].all()]
        return {
            **policy,
            "AttachmentCount": sum(arn in record["attached"] for record in records),
            "PermissionsBoundaryUsageCount": sum(_boundary(record) == arn for record in records),
        }

    def _own(self, arn: str) -> Document:
        try:
            return self._records.of["Policy"][arn]
        except KeyError as error:
            raise missing(f"Policy {arn} was not found.") from error

    def _delete(self, request: Request) -> Answer:
        policy = self._own(request["PolicyArn"])
        if self._described(policy)["AttachmentCount"]:
            raise ServiceError("DeleteConflict", "Cannot delete a policy attached to entities.", 409)
        if len(policy["versions"]) > 1:
            message = "This policy has more than one version. Before you delete a policy, delete its other versions."
            raise ServiceError("DeleteConflict", message, 409)
        del self._records.of["Policy"][policy["Arn"]]
        return {}

    def _list(self, request: Request) -> Answer:
        scope, prefix = request.get("Scope", "All"), request.get("PathPrefix") or "/"
        policies = [self._described(policy) for policy in self._records.of["Policy"].all()] if scope != "AWS" else []
        policies += aws_policies().values() if scope != "Local" else ()
        if request.get("OnlyAttached"):
            attached = {
                arn for kind in HOLDERS for record in self._records.of[kind].all() for arn in record["attached"]
            }
            policies = [policy for policy in policies if policy["Arn"] in attached]
        return listed("Policies", [policy for policy in policies if policy["Path"].startswith(prefix)], request)

    def _create_version(self, request: Request) -> Answer:
        policy = self._own(request["PolicyArn"])
        if len(policy["versions"]) >= MOST_VERSIONS:
            message = (
                "A managed policy can have up to 5 versions. Before you create a new version, you must delete an "
                "existing version."
            )
            raise ServiceError("LimitExceeded", message, 409)
        identifier = f"v{policy['next']}"
        document = checked_policy(request["PolicyDocument"])
        policy["versions"][identifier] = {"Document": document, "CreateDate": now()}
        policy["next"] += 1
        if request.get("SetAsDefault"):
            policy["DefaultVersionId"] = identifier
        self._records.put("Policy", policy)
        return {"PolicyVersion": _version_of(policy, identifier, with_document=False)}

    def _version(self, request: Request) -> Answer:
        policy = self._records.policy(request["PolicyArn"])
        return {"PolicyVersion": _version_of(policy, request["VersionId"])}

    def _versions(self, request: Request) -> Answer:
        policy = self._records.policy(request["PolicyArn"])
        rows = [_version_of(policy, identifier, with_document=False) for identifier in policy["versions"]]
        return listed("Versions", rows, request)

    def _delete_version(self, request: Request) -> Answer:
        policy, identifier = self._own(request["PolicyArn"]), request["VersionId"]
        _version_of(policy, identifier)
        if identifier == policy["DefaultVersionId"]:
            raise ServiceError("DeleteConflict", "Cannot delete the default version of a policy.", 409)
        del policy["versions"][identifier]
        self._records.put("Policy", policy)
        return {}

    def _set_default(self, request: Request) -> Answer:
        policy = self._own(request["PolicyArn"])
        _version_of(policy, request["VersionId"])
        self._records.put("Policy", {**policy, "DefaultVersionId": request["VersionId"]})
        return {}

    def _entities(self, request: Request) -> Answer:
        arn = self._records.policy(request["PolicyArn"])["Arn"]
        holders = {
            kind: [item for item in self._records.of[kind].all() if arn in item["attached"]] for kind in HOLDERS
        }
        return {f"Policy{kind}s": items for kind, items in holders.items()} | {"IsTruncated": False}

    def _put_inline(self, kind: str, request: Request) -> Answer:
        record = self._records.get(kind, request[f"{kind}Name"])
        record["inline"][request["PolicyName"]] = checked_policy(request["PolicyDocument"])
        self._records.put(kind, record)
        return {}

    def _inline(self, kind: str, request: Request) -> Answer:
        record, name = self._records.get(kind, request[f"{kind}Name"]), request["PolicyName"]
        if name not in record["inline"]:
            raise missing(f"The {kind.lower()} policy with name {name} cannot be found.")
        holder = {f"{kind}Name": record[f"{kind}Name"]}
        return {**holder, "PolicyName": name, "PolicyDocument": encoded(record["inline"][name])}

    def _delete_inline(self, kind: str, request: Request) -> Answer:
        self._inline(kind, request)
        record = self._records.get(kind, request[f"{kind}Name"])
        del record["inline"][request["PolicyName"]]
        self._records.put(kind, record)
        return {}

    def _list_inline(self, kind: str, request: Request) -> Answer:
        return listed("PolicyNames", sorted(self._records.get(kind, request[f"{kind}Name"])["inline"]), request)

    def _attach(self, kind: str, request: Request) -> Answer:
        record, arn = self._records.get(kind, request[f"{kind}Name"]), request["PolicyArn"]
        self._records.policy(arn)
        if arn not in record["attached"]:
            if len(record["attached"]) >= MOST_ATTACHED:
                message = f"Cannot exceed quota for PoliciesPer{kind}: {MOST_ATTACHED}"
                raise ServiceError("LimitExceeded", message, 409)
            record["attached"].append(arn)
            self._records.put(kind, record)
        return {}

    def _detach(self, kind: str, request: Request) -> Answer:
        record, arn = self._records.get(kind, request[f"{kind}Name"]), request["PolicyArn"]
        if arn not in record["attached"]:
            raise missing(f"Policy {arn} was not found.")
        record["attached"].remove(arn)
        self._records.put(kind, record)
        return {}

    def _list_attached(self, kind: str, request: Request) -> Answer:
        arns = self._records.get(kind, request[f"{kind}Name"])["attached"]
        rows = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in arns]
        return listed("AttachedPolicies", rows, request)


def check_without_policies(record: Document) -> None:
    """Refuse to delete a user, group or role that has policies."""
    if record["attached"]:
        raise in_use("detach all policies")
    if record["inline"]:
        raise in_use("delete policies")


def _boundary(record: Document) -> str:
    return str(record.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""))


def _version_of(policy: Document, identifier: str, *, with_document: bool = True) -> Document:
    if identifier not in policy["versions"]:
        raise missing(f"Policy {policy['Arn']} version {identifier} does not exist or is not attachable.")
    version = policy["versions"][identifier]
    return {
        "VersionId": identifier,
        "IsDefaultVersion": identifier == policy["DefaultVersionId"],
        "CreateDate": version["CreateDate"],
        **({"Document": encoded(version["Document"])} if with_document else {}),
    }
