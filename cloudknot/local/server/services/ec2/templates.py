"""EC2's launch templates, with their versions. Compute environments name them; no machine starts from one."""

from __future__ import annotations

from cloudknot.local.directory.documents import Document
from cloudknot.local.directory.state import ACCOUNT
from cloudknot.local.iam.requests.operations import Operation, Request, page
from cloudknot.local.server.services.ec2.resources import Ec2Resources, now
from cloudknot.local.wsgi import Answer, ServiceError

CREATOR = f"arn:aws:iam::{ACCOUNT}:root"


class LaunchTemplates:
    """The operations on launch templates.

    Parameters
    ----------
    resources : Ec2Resources
    """

    def __init__(self, resources: Ec2Resources) -> None:
        self._resources = resources
        self.operations: dict[str, Operation] = {
            "CreateLaunchTemplate": self._create,
            "CreateLaunchTemplateVersion": self._create_version,
            "ModifyLaunchTemplate": self._modify,
            "DeleteLaunchTemplate": self._delete,
            "DescribeLaunchTemplates": self._describe,
            "DescribeLaunchTemplateVersions": self._versions,
        }
        self._describe_by_id = resources.operations["DescribeLaunchTemplates"]

    def _create(self, request: Request) -> Answer:
        name = request["LaunchTemplateName"]
        if self._resources.matching("launch-template", LaunchTemplateName=name):
            raise ServiceError(
                "InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use."
            )
        document = {
            "LaunchTemplateName": name,
            "CreateTime": now(),
            "CreatedBy": CREATOR,
            "DefaultVersionNumber": 1,
            "LatestVersionNumber": 0,
            "versions": [],
        }
        template = self._resources.add("launch-template", document, request)
        self._add_version(template, request)
        return {"LaunchTemplate": template}

    def _create_version(self, request: Request) -> Answer:
        return {"LaunchTemplateVersion": self._add_version(self._find(request), request)}

    def _add_version(self, template: Document, request: Request) -> Document:
        template["LatestVersionNumber"] += 1
        version = {
            "LaunchTemplateId": template["LaunchTemplateId"],
            "LaunchTemplateName": template["LaunchTemplateName"],
            "VersionNumber": template["LatestVersionNumber"],
            "VersionDescription": request.get("VersionDescription"),
            "CreateTime": now(),
            "CreatedBy": CREATOR,
            "LaunchTemplateData": request["LaunchTemplateData"],
        }
        template["versions"].append(version)
        self._resources.put("launch-template", template)
        return version

    def _modify(self, request: Request) -> Answer:
        template = self._find(request)
        (version,) = _selected(template, [str(request["DefaultVersion"])])
        template["DefaultVersionNumber"] = version["VersionNumber"]
        self._resources.put("launch-template", template)
        return {"LaunchTemplate": template}

    def _delete(self, request: Request) -> Answer:
        template = self._find(request)
        self._resources.delete("launch-template", template["LaunchTemplateId"])
        return {"LaunchTemplate": template}

    def _describe(self, request: Request) -> Answer:
        names = request.get("LaunchTemplateNames")
        if not names:
            return self._describe_by_id(request)
        return {"LaunchTemplates": [self._find({"LaunchTemplateName": name}) for name in names]}

    def _versions(self, request: Request) -> Answer:
        if "LaunchTemplateId" not in request and "LaunchTemplateName" not in request:
            found = [
                version for template in self._resources.of["launch-template"].all() for version in template["versions"]
            ]
            return {"LaunchTemplateVersions": found}
        template = self._find(request)
        versions = _selected(template, request.get("Versions") or [])
        default = template["DefaultVersionNumber"]
        rows = [{**version, "DefaultVersion": version["VersionNumber"] == default} for version in versions]
        shown, token = page(rows, request.get("NextToken"), request.get("MaxResults"))
        return {"LaunchTemplateVersions": shown, "NextToken": token}

    def _find(self, request: Request) -> Document:
        if "LaunchTemplateId" in request:
            return self._resources.get("launch-template", request["LaunchTemplateId"])
        name = request.get("LaunchTemplateName")
        found = self._resources.matching("launch-template", LaunchTemplateName=name)
        if not found:
            raise ServiceError(
                "InvalidLaunchTemplateName.NotFoundException",
                f"The specified launch template, with template name {name}, does not exist.",
            )
        return found[0]


def _selected(template: Document, numbers: list[str]) -> list[Document]:
    """Return the versions with these numbers, or all versions without a number."""
    words = {"$Latest": template["LatestVersionNumber"], "$Default": template["DefaultVersionNumber"]}
    versions = {str(version["VersionNumber"]): version for version in template["versions"]}
    wanted = [str(words.get(number, number)) for number in numbers] or list(versions)
    for number in wanted:
        if number not in versions:
            raise ServiceError(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"Could not find the specified version {number} for the launch template with ID "
                f"{template['LaunchTemplateId']}.",
            )
    return [versions[number] for number in wanted]
