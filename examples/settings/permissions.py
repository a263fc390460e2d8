"""Try a policy on the embedded cloud before you attach it on AWS. Its user may run knots, but not create them."""

import subprocess
import sys
from tempfile import TemporaryDirectory

import cloudknot as ck


def square(x):
    return x * x


def policy(level, account):
    """Return the policy that `cloudknot permissions` prints."""
    command = [sys.executable, "-m", "cloudknot", "permissions", level, "--account", account]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


with TemporaryDirectory() as directory, ck.LocalCloud(directory, iam=True) as owner:
    ck.Knot(name="squares", func=square, cloud=owner)

    iam = owner.client("iam")
    iam.create_user(UserName="ann")
    iam.put_user_policy(UserName="ann", PolicyName="run", PolicyDocument=policy("run", owner.account))
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    ann = ck.LocalCloud(
        directory,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )

    knot = ck.Knot(name="squares", cloud=ann)  # created by the owner
    print(knot.map(range(5)).result())
    try:
        knot.clobber()
    except ck.PermissionDeniedError as error:
        print(error)
