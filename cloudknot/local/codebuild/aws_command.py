"""The stand-in for the AWS command line in builds: the two commands of cloudknot's buildspec, with AWS's own options.

Its calls have the permissions of the project's role, as on AWS.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from cloudknot.aws import clients
from cloudknot.aws.cloud import Cloud
from cloudknot.errors import CloudknotError

QUERY = "authorizationData[0].authorizationToken"
FAILED = 254
"""The exit status of the AWS command line when a service refuses a request."""


def main(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit status."""
    options = _parse(arguments)
    cloud = Cloud(os.environ["AWS_REGION"])
    try:
        if options.service == "s3api":
            _get_object(cloud, options)
        else:
            print(clients.ecr(cloud).get_authorization_token()["authorizationData"][0]["authorizationToken"])
    except CloudknotError as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aws", description=__doc__)
    services = parser.add_subparsers(dest="service", required=True)
    s3 = services.add_parser("s3api").add_subparsers(required=True).add_parser("get-object")
    s3.add_argument("--bucket", required=True)
    s3.add_argument("--key", required=True)
    s3.add_argument("--expected-bucket-owner", required=True)
    s3.add_argument("outfile")
    ecr = services.add_parser("ecr").add_subparsers(required=True).add_parser("get-authorization-token")
    ecr.add_argument("--output", choices=["text"], required=True)
    ecr.add_argument("--query", choices=[QUERY], required=True)
    return parser.parse_args(arguments)


def _get_object(cloud: Cloud, options: argparse.Namespace) -> None:
    body = clients.s3(cloud).get_object(
        Bucket=options.bucket, Key=options.key, ExpectedBucketOwner=options.expected_bucket_owner
    )["Body"]
    with open(options.outfile, "wb") as file:
        shutil.copyfileobj(body, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
