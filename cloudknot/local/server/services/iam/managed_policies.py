"""The managed policies of AWS itself, from the data that comes with moto."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from cloudknot.local.server.services.moto_files import moto_file

PREFIX = "arn:aws:iam::aws:policy"
Policy = dict[str, Any]
"""A policy in the form of IAM's description, without its document."""


@cache
def aws_policies() -> dict[str, Policy]:
    """Return the policies of AWS by their ARNs, without their documents."""
    entries: dict[str, dict[str, Any]] = json.loads(_text())
    return {f"{PREFIX}{entry['Path']}{name}": _described(name, entry) for name, entry in entries.items()}


@lru_cache(maxsize=64)
def aws_policy(arn: str) -> tuple[Policy, dict[str, Any]] | None:
    """Return a policy and its document, or None if AWS has no such policy."""
    name = arn.rpartition("/")[2]
    text = _text()
    # Parsing only this entry: all 1,500 of them would take 30 MB of memory, and most clouds need four.
    start = text.find(f'\n "{name}":{{')
    if not arn.startswith(f"{PREFIX}/") or start < 0:
        return None
    entry, _ = json.JSONDecoder().raw_decode(text, text.index("{", start))
    described = _described(name, entry)
    return (described, entry["Document"]) if described["Arn"] == arn else None


def _described(name: str, entry: dict[str, Any]) -> Policy:
    return {
        "PolicyName": name,
        # Made up: AWS does not publish its ids.
        "PolicyId": f"ANPA{sha256(name.encode()).hexdigest()[:17].upper()}",
        "Arn": f"{PREFIX}{entry['Path']}{name}",
        "Path": entry["Path"],
        "DefaultVersionId": entry["DefaultVersionId"],
        "AttachmentCount": 0,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "CreateDate": entry["CreateDate"],
        "UpdateDate": entry["UpdateDate"],
    }


def _text() -> str:
    # The file is loaded by itself: importing it from its package would load all of moto's IAM.
    spec = spec_from_file_location("managed_policies_of_aws", moto_file("iam", "aws_managed_policies.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.aws_managed_policies_data
    return text
