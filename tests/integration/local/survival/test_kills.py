"""SIGKILL at random moments under load: no acknowledged object is lost, and none is half there."""

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloudknot.local import LocalCloud
from cloudknot.local.directory.state import REGION, read_state
from tests.helpers.waiting import until
from tests.integration.local.survival.conftest import end
from tests.unit.local.s3.stores import Stores

BUCKET = "killed"
WRITERS = 6
SIZES = (0, 100, 32 * 1024 + 1, 3_000_000)
PART = 5 << 20
ABSENT = None
UNKNOWN = (BotoCoreError, OSError)
"""Errors that leave open whether the server has done what was asked for."""


def digest(data):
    return hashlib.sha256(data).digest()


class Writer:
    """A client that changes its own keys, and knows which states of each key are possible.

    ``possible`` has one state for each key after an acknowledged operation, and two after an interrupted one.
    """

    def __init__(self, number, seed):
        self.random = random.Random(f"{seed}-{number}")
        self.keys = [f"writer{number}/{name}" for name in range(8)]
        self.possible = {key: {ABSENT} for key in self.keys}
        self.acknowledged = {}
        # An upload takes much longer than the others. Among them, almost none would come to its end.
        mixed = [self.put] * 6 + [self.delete, self.delete_many, self.create, self.copy]
        self.operations = mixed if number else [self.upload]

    def run(self, s3, stop):
        while not stop.is_set():
            operation = self.random.choice(self.operations)
            try:
                operation(s3, self.random.choice(self.keys))
            except UNKNOWN:
                # The server was killed.
                return
            name = operation.__name__
            self.acknowledged[name] = self.acknowledged.get(name, 0) + 1

    def count(self):
        """Return the number of acknowledged operations."""
        return sum(self.acknowledged.values())

    def data(self):
        return self.random.randbytes(self.random.choice(SIZES))

    def change(self, key, state, call, **arguments):
        """Call S3. Until its answer, a key has its old states or the new one."""
        self.possible[key] = self.possible[key] | {state}
        call(Bucket=BUCKET, Key=key, **arguments)
        self.possible[key] = {state}

    def put(self, s3, key):
        data = self.data()
        self.change(key, digest(data), s3.put_object, Body=data)

    def delete(self, s3, key):
        self.change(key, ABSENT, s3.delete_object)

    def delete_many(self, s3, key):
        chosen = self.random.sample(self.keys, 3)
        for name in chosen:
            self.possible[name] = self.possible[name] | {ABSENT}
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": name} for name in chosen], "Quiet": True})
        self.possible.update({name: {ABSENT} for name in chosen})

    def create(self, s3, key):
        before, data = self.possible[key], self.data()
        try:
            self.change(key, digest(data), s3.put_object, Body=data, IfNoneMatch="*")
        except ClientError as error:
            # boto3 has no code for an answer that the kill has cut after its head, but a status.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412 or before == {ABSENT}:
                raise
            self.possible[key] = before
        else:
            assert ABSENT in before

    def copy(self, s3, key):
        (state,) = self.possible[key]
        if state is not ABSENT:
            target = self.random.choice(self.keys)
            source = {"Bucket": BUCKET, "Key": key}
            self.change(
                target, state, s3.copy_object, CopySource=source, Metadata={"a": "b"}, MetadataDirective="REPLACE"
            )

    def upload(self, s3, key):
        data = self.random.randbytes(PART + self.random.randrange(1, 1000))
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key).get("UploadId")
        if upload is None:
            # boto3 takes the body of an answer that the kill has cut after its head for an empty one.
            raise ConnectionError("The answer has no body.")
        parts = []
        for number, part in enumerate((data[:PART], data[PART:]), start=1):
            arguments = {"Bucket": BUCKET, "Key": key, "UploadId": upload, "PartNumber": number}
            parts.append({"PartNumber": number, "ETag": s3.upload_part(**arguments, Body=part)["ETag"]})
        chosen = {"MultipartUpload": {"Parts": parts}, "UploadId": upload}
        self.change(key, digest(data), s3.complete_multipart_upload, **chosen)

    def verify(self, s3):
        """Check all keys, and keep their true states."""
        listed = {
            item["Key"]
            for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.keys[0][:-1]}").get("Contents", [])
        }
        for key in self.keys:
            try:
                state = digest(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            except s3.exceptions.NoSuchKey:
                state = ABSENT
            assert state in self.possible[key], f"{key} has none of its {len(self.possible[key])} possible states"
            assert (key in listed) == (state is not ABSENT)
            self.possible[key] = {state}


def client_of(cloud):
    """Return a client that repeats nothing: a repeated request could hide a lost answer."""
    state = read_state(cloud.directory)
    return boto3.client(
        "s3",
        endpoint_url=state.endpoint,
        region_name=REGION,
        aws_access_key_id=state.access_key,
        aws_secret_access_key=state.secret_key,
        config=Config(
            retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, max_pool_connections=WRITERS
        ),
    )


def wait_for_load(writers, running):
    """Wait until each writer has done something from now on, or has ended with an error."""
    before = [writer.count() for writer in writers]

    def is_busy():
        counts = [writer.count() for writer in writers]
        return all(map(int.__gt__, counts, before)) or any(run.done() for run in running)

    until(is_busy)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.more)])
def test_sigkill_at_random_moments_under_load_loses_nothing_acknowledged(tmp_path, kills):
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    moments, writers = random.Random(seed), [Writer(number, seed) for number in range(WRITERS)]
    cloud = LocalCloud(tmp_path / "cloud")
    cloud.start()
    client_of(cloud).create_bucket(Bucket=BUCKET)
    for _ in range(kills):
        s3, stop = client_of(cloud), threading.Event()
        with ThreadPoolExecutor(WRITERS) as threads:
            running = [threads.submit(writer.run, s3, stop) for writer in writers]
            try:
                wait_for_load(writers, running)
                stop.wait(moments.uniform(0, 0.5))
                end(cloud)
            finally:
                stop.set()
        for run in running:
            run.result()
        cloud.start()
        s3 = client_of(cloud)
        for writer in writers:
            writer.verify(s3)
    cloud.stop()
    done = {name for writer in writers for name in writer.acknowledged}
    print("acknowledged", {name: sum(writer.acknowledged.get(name, 0) for writer in writers) for name in done})
    assert {"put", "upload"} <= done
    assert kills < 100 or done == {"put", "delete", "delete_many", "create", "copy", "upload"}
    # The check of the files after the last start deletes what the kills have left.
    stores = Stores(cloud.directory)
    stores.reopen()
    stores.close()
