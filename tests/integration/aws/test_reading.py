"""Small reads without botocore return the bytes of GetObject, and leave every failure to GetObject.

The embedded cloud injects the faults. A fake connection stands for the network to AWS.
"""

import io
from datetime import UTC, datetime

import pytest
from botocore.session import Session
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.aws.sdk.timestamps import parse_quickly
from cloudknot.errors import CredentialsError, ResourceDoesNotExistException
from cloudknot.worker.s3.owners import BucketOwners
from cloudknot.worker.s3.plain_requests import PlainRequests
from cloudknot.worker.s3.server import server_of_client
from tests.faulty_cloud.cloud import FaultyCloud
from tests.faulty_cloud.plan import Faults
from tests.faulty_cloud.switches import FaultSwitches

KEYS = ["plain", "a folder/with space", "plus+and~tilde=&?#%41", "ünï/文"]
OWNERS = BucketOwners(lambda: "123456789012")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud of this module only, since the tests set faults and count requests."""
    with FaultyCloud(tmp_path_factory.mktemp("reading")) as cloud:
        cloud.storage.ensure_bucket({})
        yield cloud


@pytest.fixture
def operations(cloud):
    """Yield the names of the operations that botocore's S3 client performs."""
    names = []

    def note(model, **_):
        names.append(model.name)

    events = cloud.door.client("s3").meta.events
    events.register("before-call", note)
    yield names
    events.unregister("before-call", note)


@pytest.fixture
def reads(cloud):
    return PlainRequests(server_of_client(cloud.door.session(), cloud.client("s3")), "test", OWNERS)


def get_object_requests(cloud):
    """Return the number of GetObject requests that the cloud has served."""
    return cloud.status().requests["others"].get("s3:GetObject", (0, 0, 0))[0]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 10), (7, 300), (255, None), (200, 10_000)])
def test_fetch_returns_bytes_of_get_object_in_one_request(cloud, operations, key, start, end):
    data = bytes(range(256))
    cloud.storage.put(key, data)
    operations.clear()
    before = get_object_requests(cloud)
    assert cloud.storage.fetch(key, start, end) == data[start:end]
    assert (operations, get_object_requests(cloud) - before) == ([], 1)
    assert cloud.storage.get(key, start, end) == data[start:end]


def test_fetch_of_missing_key_calls_only_get_object(cloud, operations):
    with pytest.raises(ResourceDoesNotExistException):
        cloud.storage.fetch("missing")
    assert operations == ["GetObject"]


@pytest.mark.parametrize("faults", [Faults(truncated=0.5), Faults(errors=0.5), Faults(dropped=0.5)], ids=str)
def test_fetch_returns_all_bytes_despite_faults(cloud, operations, faults):
    data = bytes(100_000)
    cloud.storage.put("long", data)
    operations.clear()
    with FaultSwitches(cloud).on(faults) as switches:
        assert all(cloud.storage.fetch("long") == data for _ in range(20))
        injected = sum(switches.injected().values())
    assert injected > 0
    # A request that fails is repeated as a plain one first.
    assert operations.count("GetObject") <= injected


def test_truncated_answer_returns_none(cloud, reads):
    cloud.storage.put("half", bytes(100_000))
    with FaultSwitches(cloud).on(Faults(truncated=1.0)):
        assert reads.get(cloud.bucket, "half", {}) is None
    assert reads.get(cloud.bucket, "half", {}) == bytes(100_000)


def test_plain_listing_is_boto3s(cloud, reads):
    keys = [f"listed/{name}" for name in ("a b", "c+d", "e%20f", "g&<h>", "ö", "z/z")]
    for number, key in enumerate(keys):
        cloud.storage.put(key, bytes(number))
    found, query = [], {"prefix": "listed/", "start-after": "listed/a", "max-keys": "4"}
    while True:
        page = reads.list(cloud.bucket, query)
        found.append(page.objects)
        if not page.token:
            break
        query["continuation-token"] = page.token
    assert [len(page) for page in found] == [4, 2]
    expected = [(stored.key, stored.size) for page in cloud.storage.pages("listed/", "listed/a") for stored in page]
    assert [item for page in found for item in page] == expected
    assert sorted(keys) == [key for key, _ in expected]
    assert reads.list(cloud.bucket, {"prefix": "no/such/"}).objects == ()
    with FaultSwitches(cloud).on(Faults(truncated=1.0)):
        assert reads.list(cloud.bucket, {"prefix": "listed/"}) is None


@pytest.mark.parametrize("faults", [Faults(refused="AccessDenied"), Faults(expired=True)], ids=str)
def test_refused_reader_sends_no_second_plain_request(cloud, reads, faults):
    cloud.storage.put("kept", b"x")
    with FaultSwitches(cloud).on(faults) as switches:
        assert reads.get(cloud.bucket, "kept", {}) is None
        assert reads.get(cloud.bucket, "kept", {}) is None
        assert sum(switches.injected().values()) == 1


def test_session_with_renewed_credentials_uses_plain_requests_again(cloud, operations):
    cloud.storage.put("renewed", b"x")
    with FaultSwitches(cloud).on(Faults(expired=True)), pytest.raises(CredentialsError):
        cloud.storage.fetch("renewed")
    operations.clear()
    before = get_object_requests(cloud)
    assert [cloud.storage.fetch("renewed") for _ in range(2)] == [b"x", b"x"]
    assert (operations, get_object_requests(cloud) - before) == ([], 2)


def test_plain_requests_need_only_clients_meta(cloud):
    """`PlainRequests` must not use private names of a client. Other versions of botocore may rename them."""
    cloud.storage.put("kept", b"x")

    class OtherClient:
        meta = cloud.door.client("s3").meta

    assert (
        PlainRequests(server_of_client(cloud.door.session(), OtherClient()), "test", OWNERS).get(
            cloud.bucket, "kept", {}
        )
        == b"x"
    )


def test_plain_request_goes_to_regions_endpoint_on_aws():
    session = Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret")
    sent = []

    class Connection:
        sock = None

        def __init__(self, url):
            self.url = url

        def connect(self):
            pass

        def request(self, method, path, body, headers):
            sent.append((self.url + path, headers))
            raise OSError("no network")

        def close(self):
            pass

    client = session.create_client("s3", region_name="eu-west-1")
    assert (
        PlainRequests(server_of_client(session, client), "test", OWNERS, Connection).get(
            "bucket", "a b", {"Range": "bytes=0-1"}
        )
        is None
    )
    ((url, headers),) = sent
    assert url == "https://s3.eu-west-1.amazonaws.com/bucket/a%20b"
    assert headers["Range"] == "bytes=0-1"
    assert b"/eu-west-1/s3/aws4_request" in headers["Authorization"].encode()


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.sampled_from([0, 1, 2, 3, 4]))
def test_quick_parser_reads_timestamps_as_botocore_does(moment, form):
    session = Session()
    parse_quickly(session)
    parse = session.get_component("response_parser_factory")._defaults["timestamp_parser"]
    # AWS sends milliseconds at most.
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    text = [
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        moment.isoformat(),
        moment.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        int(moment.timestamp()),
        moment.replace(tzinfo=None).isoformat(),
    ][form]
    assert parse(text) == parse_timestamp(text)
    assert parse(text).utcoffset() == parse_timestamp(text).utcoffset()


def test_plain_request_completes_although_concurrent_one_is_refused(cloud):
    """The other reader is refused while this one signs. Signing may take long, since it may renew credentials."""
    cloud.storage.put("beside", b"x")

    class Session:
        def get_credentials(self):
            with FaultSwitches(cloud).on(Faults(refused="AccessDenied")):
                other_reader = PlainRequests(
                    server_of_client(cloud.door.session(), cloud.client("s3")), "test", OWNERS
                )
                assert other_reader.get(cloud.bucket, "beside", {}) is None
                reads._is_usable = other_reader._is_usable
            return cloud.door.session().get_credentials()

    reads = PlainRequests(server_of_client(Session(), cloud.client("s3")), "test", OWNERS)
    assert reads.get(cloud.bucket, "beside", {}) == b"x"
    assert reads.get(cloud.bucket, "beside", {}) is None


def test_reader_without_credentials_sends_no_request(cloud):
    class Session:
        def get_credentials(self):
            return None

    before = get_object_requests(cloud)
    assert (
        PlainRequests(server_of_client(Session(), cloud.client("s3")), "test", OWNERS).get(cloud.bucket, "beside", {})
        is None
    )
    assert get_object_requests(cloud) == before


def test_public_client_has_transfer_methods_of_boto3(cloud, tmp_path):
    cloud.storage.ensure_bucket({})
    source, target, client = tmp_path / "source", tmp_path / "target", cloud.client("s3")
    source.write_bytes(b"movie")
    client.upload_file(str(source), cloud.bucket, "movie")
    client.copy({"Bucket": cloud.bucket, "Key": "movie"}, cloud.bucket, "second")
    client.download_file(Bucket=cloud.bucket, Key="second", Filename=str(target))
    assert target.read_bytes() == b"movie"
    with target.open("wb") as file:
        client.upload_fileobj(io.BytesIO(b"other"), cloud.bucket, "movie")
        client.download_fileobj(cloud.bucket, "movie", file)
    assert target.read_bytes() == b"other"
