"""CloudFormation's answers: a stack as DescribeStacks shows it, and any answer as XML. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

from cloudknot.local.cloudformation.records import StackRecord

NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


def stack_answer(record: StackRecord) -> dict[str, Any]:
    """One entry of DescribeStacks."""
    wanted = record.wanted
    return {
        "StackId": record.id,
        "StackName": record.name,
        "Description": wanted.template.get("Description"),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.parameters.items()],
        "CreationTime": record.created,
        "DeletionTime": record.deleted,
        "LastUpdatedTime": record.updated,
        "StackStatus": record.status,
        "StackStatusReason": record.reason or None,
        "DisableRollback": False,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in record.outputs.items()],
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags.items()],
    }


def render(action: str, answer: Mapping[str, Any]) -> bytes:
    """An answer in the format of AWS's query protocol."""
    return (
        f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>{_xml(answer)}</{action}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def _xml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{key}>{_xml(item)}</{key}>" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return "".join(f"<member>{_xml(item)}</member>" for item in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return escape(str(value).lower() if isinstance(value, bool) else str(value))
