"""Small reads without botocore's GetObject: the same bytes, and whatever goes wrong is left to GetObject."""

from datetime import UTC, datetime

import pytest
from botocore.session import Session
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

import cloudknot as ck
from cloudknot.aws.s3.timestamps import parse_quickly
from cloudknot.errors import CredentialsError, ResourceDoesNotExistException
from cloudknot.local import Faults, FaultSwitches
from cloudknot.worker.s3.plain_requests import PlainRequests

KEYS = ["plain", "a folder/with space", "plus+and~tilde=&?#%41", "ünï/文"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """One of its own, since faults are set and requests counted."""
    with ck.LocalCloud(tmp_path_factory.mktemp("reading")) as cloud:
        cloud.storage.ensure_bucket({})
        yield cloud


@pytest.fixture
def asked(cloud):
    """The operations that the S3 client was asked for."""
    seen = []

    def note(model, **_):
        seen.append(model.name)

    events = cloud.client("s3").meta.events
    events.register("before-call", note)
    yield seen
    events.unregister("before-call", note)


@pytest.fixture
def reads(cloud):
    return PlainRequests(cloud.door._botocore, cloud.client("s3"), "test")


def requests(cloud):
    return cloud.status().requests["others"].get("s3:GetObject", (0, 0, 0))[0]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 10), (7, 300), (255, None), (200, 10_000)])
def test_the_bytes_are_those_of_get_object(cloud, asked, key, start, end):
    data = bytes(range(256))
    cloud.storage.put(key, data)
    asked.clear()
    before = requests(cloud)
    assert cloud.storage.fetch(key, start, end) == data[start:end]
    assert (asked, requests(cloud) - before) == ([], 1)
    assert cloud.storage.get(key, start, end) == data[start:end]


def test_what_is_not_there_is_told_as_ever(cloud, asked):
    with pytest.raises(ResourceDoesNotExistException):
        cloud.storage.fetch("missing")
    assert asked == ["GetObject"]


@pytest.mark.parametrize("faults", [Faults(truncated=0.5), Faults(errors=0.5), Faults(dropped=0.5)], ids=str)
def test_under_faults_the_bytes_are_the_same(cloud, asked, faults):
    data = bytes(100_000)
    cloud.storage.put("long", data)
    asked.clear()
    with FaultSwitches(cloud).on(faults) as switches:
        assert all(cloud.storage.fetch("long") == data for _ in range(20))
        injected = sum(switches.injected().values())
    assert 0 < asked.count("GetObject") <= injected


def test_half_an_answer_is_none(cloud, reads):
    cloud.storage.put("half", bytes(100_000))
    with FaultSwitches(cloud).on(Faults(truncated=1.0)):
        assert reads.get(cloud.bucket, "half", {}) is None
    assert reads.get(cloud.bucket, "half", {}) == bytes(100_000)


@pytest.mark.parametrize("faults", [Faults(refused="AccessDenied"), Faults(expired=True)], ids=str)
def test_who_is_refused_does_not_ask_in_this_way_again(cloud, reads, faults):
    cloud.storage.put("kept", b"x")
    with FaultSwitches(cloud).on(faults) as switches:
        assert reads.get(cloud.bucket, "kept", {}) is None
        assert reads.get(cloud.bucket, "kept", {}) is None
        assert sum(switches.injected().values()) == 1


def test_who_has_renewed_credentials_does(cloud, asked):
    cloud.storage.put("renewed", b"x")
    with FaultSwitches(cloud).on(Faults(expired=True)), pytest.raises(CredentialsError):
        cloud.storage.fetch("renewed")
    asked.clear()
    before = requests(cloud)
    assert [cloud.storage.fetch("renewed") for _ in range(2)] == [b"x", b"x"]
    assert (asked, requests(cloud) - before) == ([], 2)


def test_a_botocore_that_names_its_connections_otherwise_is_asked_as_well(cloud):
    """No private name of a client is used."""
    cloud.storage.put("kept", b"x")

    class OtherClient:
        meta = cloud.client("s3").meta

    assert PlainRequests(cloud.door._botocore, OtherClient(), "test").get(cloud.bucket, "kept", {}) == b"x"


def test_requests_go_to_the_region_on_aws():
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
    assert PlainRequests(session, client, "test", Connection).get("bucket", "a b", {"Range": "bytes=0-1"}) is None
    ((url, headers),) = sent
    assert url == "https://s3.eu-west-1.amazonaws.com/bucket/a%20b"
    assert headers["Range"] == "bytes=0-1"
    assert b"/eu-west-1/s3/aws4_request" in headers["Authorization"].encode()


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.sampled_from([0, 1, 2, 3, 4]))
def test_times_are_those_that_botocore_reads(moment, form):
    session = Session()
    parse_quickly(session)
    parse = session.get_component("response_parser_factory")._defaults["timestamp_parser"]
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


def test_a_reader_is_not_disturbed_by_another_that_is_refused_meanwhile(cloud):
    """While it signs, which may renew credentials, the other one finds that such reads are refused."""
    cloud.storage.put("beside", b"x")

    class Session:
        def get_credentials(self):
            with FaultSwitches(cloud).on(Faults(refused="AccessDenied")):
                other = PlainRequests(cloud.door._botocore, cloud.client("s3"), "test")
                assert other.get(cloud.bucket, "beside", {}) is None
                reads._is_usable = other._is_usable
            return cloud.door._botocore.get_credentials()

    reads = PlainRequests(Session(), cloud.client("s3"), "test")
    assert reads.get(cloud.bucket, "beside", {}) == b"x"
    assert reads.get(cloud.bucket, "beside", {}) is None


def test_without_credentials_nothing_is_asked(cloud):
    class Session:
        def get_credentials(self):
            return None

    before = requests(cloud)
    assert PlainRequests(Session(), cloud.client("s3"), "test").get(cloud.bucket, "beside", {}) is None
    assert requests(cloud) == before
