"""boto3's s3transfer moves files, and every kind of checksum is verified, stored and returned."""

import base64
import hashlib
import io
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from boto3.s3.transfer import TransferConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudknot.local.s3.protocol.checksums import ALGORITHMS, CYCLIC, combined, encoded, new_hash, table_step
from tests.integration.local.s3.conftest import client_of, code

MB = 1024 * 1024
PART = 5 * MB
SETTINGS = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
AVAILABLE = ("CRC32", "SHA1", "SHA256")
"""The algorithms that botocore computes without ``awscrt``."""


def checksum(algorithm, data):
    found = new_hash(algorithm)
    found.update(data)
    return encoded(found.digest())


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, MB + 1, PART - 1, PART, 3 * PART + 7])
    def test_file_comes_back_as_it_was(self, plain, bucket, tmp_path, size):
        data = os.urandom(size)
        (tmp_path / "sent").write_bytes(data)
        plain.upload_file(str(tmp_path / "sent"), bucket, "file", Config=SETTINGS, ExtraArgs={"Metadata": {"a": "b"}})
        plain.download_file(bucket, "file", str(tmp_path / "received"), Config=SETTINGS)
        assert (tmp_path / "received").read_bytes() == data
        plain.copy({"Bucket": bucket, "Key": "file"}, bucket, "copy", Config=SETTINGS)
        assert plain.get_object(Bucket=bucket, Key="copy")["Body"].read() == data

    def test_many_threads_move_files_of_their_own(self, plain, bucket):
        bodies = {f"threads/{number}": os.urandom(number * 100_000) for number in range(24)}

        def move(key):
            plain.upload_fileobj(io.BytesIO(bodies[key]), bucket, key, Config=SETTINGS)
            received = io.BytesIO()
            plain.download_fileobj(bucket, key, received, Config=SETTINGS)
            return received.getvalue() == bodies[key]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(move, bodies)) == [True] * len(bodies)


class TestChecksums:
    @pytest.mark.parametrize("algorithm", AVAILABLE)
    @pytest.mark.parametrize("size", [0, 5, 100_000, MB + 1])
    def test_checksum_of_boto3_is_kept(self, plain, bucket, algorithm, size):
        data = os.urandom(size)
        put = plain.put_object(Bucket=bucket, Key="sum", Body=data, ChecksumAlgorithm=algorithm)
        head = plain.head_object(Bucket=bucket, Key="sum", ChecksumMode="ENABLED")
        name = f"Checksum{algorithm}"
        assert put[name] == head[name] == checksum(algorithm, data)
        assert head["ChecksumType"] == "FULL_OBJECT"
        assert name not in plain.head_object(Bucket=bucket, Key="sum")
        attributes = plain.get_object_attributes(
            Bucket=bucket, Key="sum", ObjectAttributes=["Checksum", "ObjectSize", "ETag"]
        )
        assert (attributes["Checksum"][name], attributes["ObjectSize"]) == (head[name], size)
        assert attributes["ETag"] == head["ETag"].strip('"')

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_given_checksum_is_verified(self, plain, bucket, algorithm):
        data, name = os.urandom(1000), f"Checksum{algorithm}"
        plain.put_object(Bucket=bucket, Key="given", Body=data, **{name: checksum(algorithm, data)})
        wrong = checksum(algorithm, data[1:])
        assert code(plain.put_object, Bucket=bucket, Key="given", Body=data, **{name: wrong}) == "BadDigest"
        assert plain.head_object(Bucket=bucket, Key="given", ChecksumMode="ENABLED")[name] == checksum(algorithm, data)

    @pytest.mark.parametrize(
        ("algorithm", "kind"),
        [*((name, "COMPOSITE") for name in AVAILABLE), ("CRC32", "FULL_OBJECT")],
    )
    def test_checksum_of_parts_has_its_type(self, plain, bucket, algorithm, kind):
        bodies, name = [os.urandom(PART), b"", b"end"], f"Checksum{algorithm}"
        choices = {"Bucket": bucket, "Key": "parts"}
        upload = plain.create_multipart_upload(**choices, ChecksumAlgorithm=algorithm, ChecksumType=kind)
        assert (upload["ChecksumAlgorithm"], upload["ChecksumType"]) == (algorithm, kind)
        choices["UploadId"] = upload["UploadId"]
        parts = []
        for number, body in enumerate((bodies[0], bodies[2]), 1):
            part = plain.upload_part(**choices, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
            assert part[name] == checksum(algorithm, body)
            parts.append({"PartNumber": number, "ETag": part["ETag"], name: part[name]})
        wrong = [parts[0] | {name: parts[1][name]}, parts[1]]
        assert code(plain.complete_multipart_upload, **choices, MultipartUpload={"Parts": wrong}) == "InvalidPart"
        whole = plain.complete_multipart_upload(**choices, MultipartUpload={"Parts": parts})
        if kind == "FULL_OBJECT":
            expected = checksum(algorithm, b"".join(bodies))
        else:
            expected = checksum(algorithm, b"".join(base64.b64decode(part[name]) for part in parts)) + "-2"
        head = plain.head_object(Bucket=bucket, Key="parts", ChecksumMode="ENABLED")
        assert whole[name] == head[name] == expected
        assert whole["ChecksumType"] == head["ChecksumType"] == kind
        # A copy is one object.
        copied = plain.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "parts"})
        assert copied["CopyObjectResult"][name] == checksum(algorithm, b"".join(bodies))

    def test_types_that_s3_lacks_are_refused(self, plain, bucket):
        create = plain.create_multipart_upload, {"Bucket": bucket, "Key": "types"}
        for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
            assert code(create[0], **create[1], ChecksumAlgorithm=algorithm, ChecksumType=kind) == "InvalidRequest"

    def test_checksum_protects_a_transfer_of_parts(self, embedded, plain, bucket):
        data = os.urandom(2 * PART)
        plain.upload_fileobj(
            io.BytesIO(data), bucket, "protected", Config=SETTINGS, ExtraArgs={"ChecksumAlgorithm": "SHA256"}
        )
        digests = [hashlib.sha256(part).digest() for part in (data[:PART], data[PART:])]
        expected = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + "-2"
        assert plain.head_object(Bucket=bucket, Key="protected", ChecksumMode="ENABLED")["ChecksumSHA256"] == expected
        client = client_of(embedded, response_checksum_validation="when_supported")
        assert client.get_object(Bucket=bucket, Key="protected")["Body"].read() == data


class TestCyclicChecksums:
    def test_tables_give_the_published_check_values(self):
        # "Catalogue of parametrised CRC algorithms": CRC-32/ISCSI and CRC-64/NVME of the digits from 1 to 9.
        assert table_step("CRC32C", b"123456789", 0) == 0xE3069283
        assert table_step("CRC64NVME", b"123456789", 0) == 0xAE8B14860A799888
        assert table_step("CRC32", b"123456789", 0) == zlib.crc32(b"123456789")

    @pytest.mark.parametrize("algorithm", sorted(CYCLIC))
    @settings(max_examples=20)
    @given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    def test_checksums_of_parts_combine_to_that_of_the_whole(self, algorithm, parts):
        pairs = [(checksum(algorithm, part), len(part)) for part in parts]
        assert combined(algorithm, pairs) == checksum(algorithm, b"".join(parts))

    @pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME"])
    def test_tables_agree_with_library(self, algorithm):
        library = pytest.importorskip("awscrt.checksums", reason="awscrt is not installed")
        data = os.urandom(10_000)
        assert getattr(library, algorithm.lower())(data, 0) == table_step(algorithm, data, 0)


class TestRefusedBodies:
    @pytest.mark.parametrize("size", [1000, 3 * MB])
    def test_refused_body_leaves_connection_usable(self, plain, bucket, size):
        body = os.urandom(size)
        wrong = {"Bucket": bucket, "Key": "refused", "Body": body, "ChecksumSHA256": checksum("SHA256", b"other")}
        for _ in range(3):
            assert code(plain.put_object, Bucket="no-such-bucket-here", Key="k", Body=body) == "NoSuchBucket"
            assert code(plain.put_object, **wrong) == "BadDigest"
            plain.put_object(Bucket=bucket, Key="taken", Body=body)
            assert (
                code(plain.put_object, Bucket=bucket, Key="taken", Body=body, IfNoneMatch="*") == "PreconditionFailed"
            )
            assert plain.get_object(Bucket=bucket, Key="taken")["Body"].read() == body
        assert code(plain.head_object, Bucket=bucket, Key="refused") == "404"
