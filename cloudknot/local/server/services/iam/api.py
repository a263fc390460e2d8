"""IAM: users with their access keys, groups, roles, instance profiles, and the policies of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial

from cloudknot.local.directory.database import Database
from cloudknot.local.directory.documents import Document, Documents
from cloudknot.local.iam.keys import AcceptedKey, Keys, Principal
from cloudknot.local.iam.requests.operations import Operation, Request, carry_out
from cloudknot.local.server.services.iam.policies import IamPolicies, check_without_policies
from cloudknot.local.server.services.iam.records import IamRecords, encoded, in_use, listed, missing, new_key, now
from cloudknot.local.server.services.service import with_tags, without_tags
from cloudknot.local.wsgi import Answer, ServiceError

MOST_KEYS = 2
"""Access keys of one user (IAM user guide, "IAM and AWS STS quotas")."""
LINKED_ROLES = {"batch": "Batch", "spot": "EC2Spot", "spotfleet": "EC2SpotFleet", "ecs": "ECS"}
"""The words in the names of service-linked roles, by the first part of the service's name."""
_EMPTY: dict[str, object] = {"inline": {}, "attached": []}
_SETTINGS = ("Description", "MaxSessionDuration")


class Iam:
    """The service IAM.

    Parameters
    ----------
    database : Database
    keys : Keys
        The accepted keys, among them those of users.
    """

    waits = False

    def __init__(self, database: Database, keys: Keys) -> None:
        self._records, self._keys = IamRecords(database), keys
        self._user_keys = Documents(database, "iam:key")
        self._operations: dict[str, Operation] = {
            **IamPolicies(self._records).operations,
            **self._principal_operations(),
            **self._profile_operations(),
            "CreateAccessKey": self._create_key,
            "DeleteAccessKey": self._delete_key,
            "ListAccessKeys": self._list_keys,
            "GetAccessKeyLastUsed": self._key_last_used,
            "GetAccountAuthorizationDetails": self._details,
        }
        for kind in ("User", "Role", "InstanceProfile"):
            self._operations |= {
                f"Tag{kind}": partial(self._tag, kind),
                f"Untag{kind}": partial(self._untag, kind),
                f"List{kind}Tags": partial(self._list_tags, kind),
            }

    def answer(self, operation: str, request: Request, caller: Principal | None) -> Answer:
        """Answer a call."""
        # Without a name, some operations are about the user that calls.
        if operation in _OF_CALLER and "UserName" not in request and caller is not None:
            request = {**request, "UserName": caller.name}
        return carry_out("iam", self._operations, operation, request)

    def _principal_operations(self) -> dict[str, Operation]:
        records = self._records
        return {
            "CreateUser": lambda request: {"User": records.add("User", request, **_EMPTY)},
            "GetUser": lambda request: {"User": records.get("User", request.get("UserName"))},
            "ListUsers": lambda request: listed("Users", records.under_path("User", request), request),
            "DeleteUser": self._delete_user,
            "CreateGroup": lambda request: {"Group": records.add("Group", request, **_EMPTY, users=[])},
            "GetGroup": self._group,
            "ListGroups": lambda request: listed("Groups", records.under_path("Group", request), request),
            "DeleteGroup": self._delete_group,
            "AddUserToGroup": self._add_to_group,
            "RemoveUserFromGroup": self._remove_from_group,
            "ListGroupsForUser": self._groups_of,
            "CreateRole": self._create_role,
            "CreateServiceLinkedRole": self._create_linked_role,
            "GetRole": lambda request: {"Role": _role(records.get("Role", request["RoleName"]))},
            "ListRoles": self._list_roles,
            "UpdateRole": self._update_role,
            "UpdateRoleDescription": self._update_role,
            "UpdateAssumeRolePolicy": self._update_trust,
            "PutRolePermissionsBoundary": self._put_boundary,
            "DeleteRolePermissionsBoundary": self._delete_boundary,
            "DeleteRole": self._delete_role,
        }

    def _profile_operations(self) -> dict[str, Operation]:
        records = self._records
        return {
            "CreateInstanceProfile": self._create_profile,
            "GetInstanceProfile": lambda request: {"InstanceProfile": self._profile(self._found_profile(request))},
            "ListInstanceProfiles": lambda request: self._list_profiles(
                records.under_path("InstanceProfile", request), request
            ),
            "ListInstanceProfilesForRole": lambda request: self._list_profiles(
                self._profiles_of(records.get("Role", request["RoleName"])["RoleName"]), request
            ),
            "AddRoleToInstanceProfile": self._add_role,
            "RemoveRoleFromInstanceProfile": self._remove_role,
            "DeleteInstanceProfile": self._delete_profile,
        }

    def _delete_user(self, request: Request) -> Answer:
        user = self._records.get("User", request["UserName"])
        check_without_policies(user)
        if any(key["UserName"] == user["UserName"] for key in self._user_keys.all()):
            raise in_use("delete access keys")
        if any(user["UserName"] in group["users"] for group in self._records.of["Group"].all()):
            raise in_use("remove users from group")
        del self._records.of["User"][user["UserName"]]
        return {}

    def _group(self, request: Request) -> Answer:
        group = self._records.get("Group", request["GroupName"])
        users = [self._records.get("User", name) for name in group["users"]]
        return {"Group": group, **listed("Users", users, request)}

    def _delete_group(self, request: Request) -> Answer:
        group = self._records.get("Group", request["GroupName"])
        check_without_policies(group)
        if group["users"]:
            raise in_use("remove users from group")
        del self._records.of["Group"][group["GroupName"]]
        return {}

    def _add_to_group(self, request: Request) -> Answer:
        group = self._records.get("Group", request["GroupName"])
        user = self._records.get("User", request["UserName"])["UserName"]
        group["users"] = [*(name for name in group["users"] if name != user), user]
        self._records.put("Group", group)
        return {}

    def _remove_from_group(self, request: Request) -> Answer:
        group = self._records.get("Group", request["GroupName"])
        user = self._records.get("User", request["UserName"])["UserName"]
        group["users"] = [name for name in group["users"] if name != user]
        self._records.put("Group", group)
        return {}

    def _groups_of(self, request: Request) -> Answer:
        user = self._records.get("User", request["UserName"])["UserName"]
        groups = [group for group in self._records.of["Group"].all() if user in group["users"]]
        return listed("Groups", groups, request)

    def _create_role(self, request: Request) -> Answer:
        settings = {name: request[name] for name in _SETTINGS if name in request}
        boundary = self._boundary(request["PermissionsBoundary"]) if "PermissionsBoundary" in request else {}
        trust = {"AssumeRolePolicyDocument": request["AssumeRolePolicyDocument"]}
        role = self._records.add(
            "Role", request, **_EMPTY, **{"MaxSessionDuration": 3600, **settings}, **boundary, **trust
        )
        return {"Role": _role(role)}

    def _boundary(self, arn: str) -> Document:
        self._records.policy(arn)
        return {"PermissionsBoundary": {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}}

    def _create_linked_role(self, request: Request) -> Answer:
        service = request["AWSServiceName"]
        first = service.partition(".")[0]
        suffix = f"_{request['CustomSuffix']}" if request.get("CustomSuffix") else ""
        name = f"AWSServiceRoleFor{LINKED_ROLES.get(first, first.title())}{suffix}"
        if name in self._records.of["Role"]:
            message = f"Service role name {name} has been taken in this account, please try a different suffix."
            raise ServiceError("InvalidInput", message)
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        described = {**request, "RoleName": name, "Path": f"/aws-service-role/{service}/"}
        return self._create_role({**described, "AssumeRolePolicyDocument": trust})

    def _list_roles(self, request: Request) -> Answer:
        return listed("Roles", [_role(role) for role in self._records.under_path("Role", request)], request)

    def _update_role(self, request: Request) -> Answer:
        role = self._records.get("Role", request["RoleName"])
        role.update({name: request[name] for name in _SETTINGS if name in request})
        self._records.put("Role", role)
        return {"Role": _role(role)}

    def _update_trust(self, request: Request) -> Answer:
        role = self._records.get("Role", request["RoleName"])
        self._records.put("Role", {**role, "AssumeRolePolicyDocument": request["PolicyDocument"]})
        return {}

    def _put_boundary(self, request: Request) -> Answer:
        role = self._records.get("Role", request["RoleName"])
        self._records.put("Role", {**role, **self._boundary(request["PermissionsBoundary"])})
        return {}

    def _delete_boundary(self, request: Request) -> Answer:
        role = self._records.get("Role", request["RoleName"])
        role.pop("PermissionsBoundary", None)
        self._records.put("Role", role)
        return {}

    def _delete_role(self, request: Request) -> Answer:
        role = self._records.get("Role", request["RoleName"])
        if self._profiles_of(role["RoleName"]):
            raise in_use("remove roles from instance profile")
        check_without_policies(role)
        del self._records.of["Role"][role["RoleName"]]
        return {}

    def _found_profile(self, request: Request) -> Document:
        name = request["InstanceProfileName"]
        try:
            return self._records.of["InstanceProfile"][name]
        except KeyError as error:
            raise missing(f"Instance Profile {name} cannot be found.") from error

    def _create_profile(self, request: Request) -> Answer:
        return {"InstanceProfile": self._profile(self._records.add("InstanceProfile", request, roles=[]))}

    def _profile(self, profile: Document) -> Document:
        roles = [self._records.of["Role"].get(name) for name in profile["roles"]]
        return {**profile, "Roles": [_role(role) for role in roles if role is not None]}

    def _list_profiles(self, profiles: Iterable[Document], request: Request) -> Answer:
        return listed("InstanceProfiles", [self._profile(profile) for profile in profiles], request)

    def _profiles_of(self, role: str) -> list[Document]:
        return [profile for profile in self._records.of["InstanceProfile"].all() if role in profile["roles"]]

    def _add_role(self, request: Request) -> Answer:
        profile = self._found_profile(request)
        role = self._records.get("Role", request["RoleName"])["RoleName"]
        if profile["roles"]:
            raise ServiceError("LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1", 409)
        self._records.put("InstanceProfile", {**profile, "roles": [role]})
        return {}

    def _remove_role(self, request: Request) -> Answer:
        profile, role = self._found_profile(request), request["RoleName"]
        if role not in profile["roles"]:
            raise missing(f"The role with name {role} cannot be found.")
        self._records.put("InstanceProfile", {**profile, "roles": []})
        return {}

    def _delete_profile(self, request: Request) -> Answer:
        profile = self._found_profile(request)
        if profile["roles"]:
            raise in_use("remove roles from instance profile")
        del self._records.of["InstanceProfile"][profile["InstanceProfileName"]]
        return {}

    def _create_key(self, request: Request) -> Answer:
        user = self._records.get("User", request.get("UserName"))
        name = user["UserName"]
        if sum(key["UserName"] == name for key in self._user_keys.all()) >= MOST_KEYS:
            raise ServiceError("LimitExceeded", f"Cannot exceed quota for AccessKeysPerUser: {MOST_KEYS}", 409)
        key = new_key()
        described = {"UserName": name, "AccessKeyId": key.access_key, "Status": "Active", "CreateDate": now()}
        self._user_keys[key.access_key] = described
        self._keys.add(AcceptedKey(key, Principal("User", name, user["Arn"])))
        return {"AccessKey": {**described, "SecretAccessKey": key.secret_key}}

    def _delete_key(self, request: Request) -> Answer:
        identifier = request["AccessKeyId"]
        key = self._user_keys.get(identifier)
        if key is None or key["UserName"] != request.get("UserName", key["UserName"]):
            raise missing(f"The Access Key with id {identifier} cannot be found.")
        del self._user_keys[identifier]
        self._keys.remove(identifier)
        return {}

    def _list_keys(self, request: Request) -> Answer:
        user = self._records.get("User", request.get("UserName"))["UserName"]
        keys = [key for key in self._user_keys.all() if key["UserName"] == user]
        return {**listed("AccessKeyMetadata", keys, request), "UserName": user}

    def _key_last_used(self, request: Request) -> Answer:
        key = self._user_keys.get(request["AccessKeyId"])
        if key is None:
            raise missing(f"The Access Key with id {request['AccessKeyId']} cannot be found.")
        # Uses are not recorded. AWS reports them hours later.
        unknown = {"ServiceName": "N/A", "Region": "N/A"}
        return {"UserName": key["UserName"], "AccessKeyLastUsed": unknown}

    def _tag(self, kind: str, request: Request) -> Answer:
        record = self._records.get(kind, request[f"{kind}Name"])
        self._records.put(kind, with_tags(record, "Tags", request))
        return {}

    def _untag(self, kind: str, request: Request) -> Answer:
        record = self._records.get(kind, request[f"{kind}Name"])
        self._records.put(kind, without_tags(record, "Tags", request["TagKeys"]))
        return {}

    def _list_tags(self, kind: str, request: Request) -> Answer:
        return listed("Tags", self._records.get(kind, request[f"{kind}Name"])["Tags"], request)

    def _details(self, request: Request) -> Answer:
        """Return all users, groups, roles and own policies with their policies, on one page."""
        kinds = request.get("Filter") or ["User", "Role", "Group", "LocalManagedPolicy"]
        lists = {"User": "UserPolicyList", "Group": "GroupPolicyList", "Role": "RolePolicyList"}
        answer: dict[str, object] = {"IsTruncated": False}
        for kind, name in lists.items():
            records = [_role(item) if kind == "Role" else item for item in self._records.of[kind].all()]
            rows = [_with_policies(record, name) for record in records]
            if kind == "Role":
                rows = [{**row, "InstanceProfileList": self._profiles_of(row["RoleName"])} for row in rows]
            answer[f"{kind}DetailList"] = rows if kind in kinds else []
        answer["Policies"] = self._own_policies() if "LocalManagedPolicy" in kinds else []
        return answer

    def _own_policies(self) -> list[Document]:
        policies = self._records.of["Policy"].all()
        versions = self._operations["GetPolicyVersion"]
        return [
            {
                **policy,
                "PolicyVersionList": [
                    versions({"PolicyArn": policy["Arn"], "VersionId": identifier})["PolicyVersion"]
                    for identifier in policy["versions"]
                ],
            }
            for policy in policies
        ]


_OF_CALLER = frozenset({"CreateAccessKey", "DeleteAccessKey", "GetUser", "ListAccessKeys"})


def _role(role: Document) -> Document:
    return {**role, "AssumeRolePolicyDocument": encoded(role["AssumeRolePolicyDocument"])}


def _with_policies(record: Document, name: str) -> Document:
    inline = [{"PolicyName": each, "PolicyDocument": encoded(text)} for each, text in record["inline"].items()]
    attached = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in record["attached"]]
    return {**record, name: inline, "AttachedManagedPolicies": attached}
