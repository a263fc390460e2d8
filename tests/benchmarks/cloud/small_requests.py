"""Measure the CPU time of the embedded cloud's server for one small request to S3, by kind of request and of key.

    python -m tests.benchmarks.cloud.small_requests
    python -m tests.benchmarks.cloud.small_requests --requests 500 --size 100

CPU times come from the kernel's accounts of the server process. All requests are signed before, and sent over one
connection, each after the answer to the one before.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cloudknot as ck
from tests.benchmarks.cloud.element_cost import accounts
from tests.helpers.raw_requests import Key, connected, key_of

BUCKET = "small"
ROLE = "worker"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["logs:*", "sqs:SendMessage"], "Resource": "*"},
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"arn:aws:s3:::{BUCKET}/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{BUCKET}"},
    ],
}


def role_key(cloud: ck.LocalCloud) -> Key:
    """Return a key of a role with a policy like a worker's."""
    iam = cloud.client("iam")
    arn = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    iam.put_role_policy(RoleName=ROLE, PolicyName="s3", PolicyDocument=json.dumps(POLICY))
    found = cloud.client("sts").assume_role(RoleArn=arn, RoleSessionName="benchmark")["Credentials"]
    return Key(key_of(cloud).host, found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


def requests(key: Key, count: int, size: int) -> dict[str, list[bytes]]:
    """Return signed requests by kind."""
    body = os.urandom(size)
    owner = ("x-amz-expected-bucket-owner", "123456789012")

    def signed(method: str, uri: str, body: bytes = b"") -> bytes:
        return key.request(method, uri, owner, body=body).replace(b"\r\nConnection: close", b"")

    paths = [f"/{BUCKET}/cloudknot.jobs/knot/run/results/{number:06}" for number in range(count)]
    return {
        "PUT": [signed("PUT", path, body) for path in paths],
        "GET": [signed("GET", path) for path in paths],
        "HEAD": [signed("HEAD", path) for path in paths],
        "list": [signed("GET", f"/{BUCKET}?list-type=2&max-keys=10&prefix=cloudknot.jobs%2F")] * count,
    }


def answers(connection: socket.socket, kind: str) -> Iterator[None]:
    """Read answers from a connection, one each time."""
    with connection.makefile("rb") as file:
        while True:
            status = file.readline().split()
            assert status[1] == b"200", status
            length = 0
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            file.read(0 if kind == "HEAD" else length)
            yield


def measure(pid: int, host: str, kind: str, signed: list[bytes]) -> tuple[float, float]:
    """Send requests. Return the milliseconds for each: the server's CPU time, and on the clock."""
    with connected(host) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answered = answers(connection, kind)
        before, start = accounts(pid)[0], time.perf_counter()
        for request in signed:
            connection.sendall(request)
            next(answered)
        used, clock = accounts(pid)[0] - before, time.perf_counter() - start
    return 1e3 * used / len(signed), 1e3 * clock / len(signed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="of each kind; default: 2000")
    parser.add_argument("--size", type=int, default=1024, help="bytes in an object; default: 1024")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ck.LocalCloud(Path(directory) / "cloud", iam=True) as cloud:
        cloud.client("s3").create_bucket(Bucket=BUCKET)
        status = cloud.status()
        assert status is not None
        for name, key in (("owner", key_of(cloud)), ("role", role_key(cloud))):
            for kind, signed in requests(key, options.requests, options.size).items():
                used, clock = measure(status.pid, key.host, kind, signed)
                print(f"  {name:6} {kind:6} {used:8.3f} ms of CPU   {clock:8.3f} ms on the clock")


if __name__ == "__main__":
    main()
