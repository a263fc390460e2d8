"""The environment variables of cloudknot. A name that nothing reads is refused: it would silently have no effect."""

from __future__ import annotations

import os

from cloudknot.errors import CloudknotConfigurationError
from cloudknot.options.validators import near_matches

PREFIX = "CLOUDKNOT_"
OF_SETTINGS = {
    "cloud": "CLOUDKNOT_CLOUD",
    "builder": "CLOUDKNOT_BUILDER",
    "ecr-repo": "CLOUDKNOT_ECR_REPO",
    "permissions-boundary": "CLOUDKNOT_PERMISSIONS_BOUNDARY",
    "s3-bucket": "CLOUDKNOT_S3_BUCKET",
    "s3-bucket-owner": "CLOUDKNOT_S3_BUCKET_OWNER",
    "s3-bucket-policy": "CLOUDKNOT_S3_BUCKET_POLICY",
    "s3-sse": "CLOUDKNOT_S3_SSE",
}
"""The variable of each setting in the config file."""
OTHERS = (
    *("CLOUDKNOT_CONFIG_FILE", "CLOUDKNOT_PROGRESS", "CLOUDKNOT_TRACEBACK"),
    *("CLOUDKNOT_LOCAL_DIR", "CLOUDKNOT_LOCAL_ENVIRONMENTS", "CLOUDKNOT_LOCAL_GB"),
    *("CLOUDKNOT_REGISTRY_USERNAME", "CLOUDKNOT_REGISTRY_PASSWORD"),
)
OF_JOBS = ("CLOUDKNOT_MANIFEST", "CLOUDKNOT_CHILD", "CLOUDKNOT_ELEMENT")
"""Variables that a job gets. A function in a job may use cloudknot itself."""
OF_TESTS = ("CLOUDKNOT_TEST_", "CLOUDKNOT_CI_", "CLOUDKNOT_DOCKER_")
"""Prefixes of variables of cloudknot's own tests."""
OF_AWS = {"CLOUDKNOT_REGION": "AWS_REGION", "CLOUDKNOT_PROFILE": "AWS_PROFILE"}
"""Names that one may expect, with the variables of AWS that have this meaning."""


def check_variables() -> None:
    """Raise `CloudknotConfigurationError` for a variable ``CLOUDKNOT_...`` that cloudknot does not read."""
    known = {*OF_SETTINGS.values(), *OTHERS, *OF_JOBS}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and not name.startswith(OF_TESTS):
            raise CloudknotConfigurationError(
                f"cloudknot does not read the environment variable {name}, so it would have no effect. {_fix(name)}"
            )


def _fix(name: str) -> str:
    if name in OF_AWS:
        return f"Rename it to {OF_AWS[name]}, or unset it: `unset {name}`."
    near = near_matches(name, [*OF_SETTINGS.values(), *OTHERS])
    matches = f"Near matches: {', '.join(near)}. " if near else ""
    return f"{matches}Rename it, or unset it: `unset {name}`."
