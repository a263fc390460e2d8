"""The embedded cloud at the limits of its machine: each limit is one clear error at once, and nothing is half made."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading

import pytest

import cloudknot as ck
from cloudknot.aws.door import Door
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.local import LocalCloud, wsgi
from cloudknot.local.directory.documents import cloud_database
from cloudknot.local.iam.accesses import Names
from cloudknot.local.iam.gate import Gate
from cloudknot.local.iam.keys import Keys
from cloudknot.local.iam.policy_reader import Policies
from cloudknot.local.iam.requests.received import RECEIVED
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.runners.images.environments import ENVIRONMENTS_VARIABLE
from cloudknot.local.server.http.server import http_server
from cloudknot.local.server.registry import registry_of
from cloudknot.local.server.services.ecr.api import Ecr
from cloudknot.local.server.services.service import ControlPlane
from tests.conftest import CACHE
from tests.helpers.paths import ROOT
from tests.helpers.waiting import LONG, until

CAPABILITY = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
START = """
import sys
from cloudknot.errors import CloudknotError
from cloudknot.local import LocalCloud

try:
    print("started", LocalCloud(sys.argv[1]).start().pid)
except CloudknotError as error:
    print(type(error).__name__, error)
"""
SHIFTED_CLOCK = """
import datetime, time

real_time, real_datetime = time.time, datetime.datetime

class Shifted(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

time.time = lambda: real_time() + {seconds}
datetime.datetime = Shifted
"""


def session(program, *arguments, timeout=100, **options):
    """Run a program in a session of its own, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [*options.pop("prefix", ()), sys.executable, "-c", program, *map(str, arguments)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout, env=environment, **options
    )
    return run.stdout + run.stderr


class TestClock:
    def test_clock_of_session_an_hour_off_is_one_error_and_cloud_can_be_stopped(self, own_cloud, tmp_path):
        (tmp_path / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(seconds=-3600))
        shifted = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        output = session(START, own_cloud.directory, env=shifted)
        assert output.startswith("ClockSkewError The clock of this session")
        assert "differ by 60 minutes" in output
        stop = "import sys; from cloudknot.local import LocalCloud; print(LocalCloud(sys.argv[1]).stop())"
        assert session(stop, own_cloud.directory, env=shifted) == "True\n"
        assert LocalCloud(own_cloud.directory).status() is None


def repeated(byte, count):
    return byte * count


def chatty(lines):
    for _ in range(lines):
        print("x" * 1000, flush=True)
    return lines


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Yield the directory of a disk of 24 MB. Environments are on another disk, and shared with other tests."""
    monkeypatch.setenv(ENVIRONMENTS_VARIABLE, str(CACHE / "environments"))
    place = tmp_path / "small"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"this test mounts a small disk, but cannot: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk, free):
    """Fill a disk, except for some bytes."""
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    os.truncate(disk / "filler", max(0, (disk / "filler").stat().st_size - free))


def knot_on(cloud, func, **choices):
    return ck.Knot(name="disk", func=func, requirements=[], cloud=cloud, **choices)


class TestFullDisk:
    def test_job_whose_result_finds_no_space_ends_with_that_reason(self, small_disk):
        with LocalCloud(small_disk / "cloud", vcpus=2) as cloud:
            knot = knot_on(cloud, repeated, retries=2)
            assert knot.map([(b"x", 5_000_000)], starmap=True).result(LONG) == [b"x" * 5_000_000]
            # Enough for the inputs and a small result. A large result is refused before the disk is full.
            fill(small_disk, 4_000_000)
            future = knot.map([(b"x", 12_000_000), (b"x", 1)], starmap=True)
            with pytest.raises(ck.WorkerDiedError, match=r"disk of the machine.* is full.*No space left.*Free space"):
                future[0].result(LONG)
            assert future[1].result(LONG) == b"x"
            disk = os.statvfs(small_disk)
            assert disk.f_bavail * disk.f_frsize > 1_000_000
            (small_disk / "filler").unlink()
            assert len(future.retry_failed().result(LONG)[0]) == 12_000_000

    def test_call_of_session_that_finds_no_space_is_not_repeated(self, small_disk):
        with LocalCloud(small_disk / "cloud") as cloud:
            cloud.storage.ensure_bucket({})
            fill(small_disk, 0)
            sent = []
            cloud.door.client("s3").meta.events.register("before-send", lambda **_: sent.append(1))
            with pytest.raises(ck.CloudError, match=r"^A disk of the embedded cloud is full.*Free space there"):
                cloud.storage.put("large", bytes(4_000_000))
            assert len(sent) == 1
            (small_disk / "filler").unlink()
            cloud.storage.put("large", bytes(4_000_000))
            assert cloud.storage.get("large") == bytes(4_000_000)

    def test_deletions_free_a_disk_that_takes_no_new_objects(self, small_disk):
        """The store leaves a reserve, because a deletion writes to the disk, too."""
        with LocalCloud(small_disk / "cloud") as cloud:
            cloud.storage.ensure_bucket({})
            keys = [f"object{number}" for number in range(24)]
            with pytest.raises(ck.CloudError, match=r"^A disk of the embedded cloud is full"):
                # A disk of 24 MB has no room for all of them.
                list(map(cloud.storage.put, keys, [bytes(1_000_000)] * len(keys)))
            assert cloud.storage.get(keys[0]) == bytes(1_000_000)
            cloud.storage.delete(*keys)
            until(lambda: os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 10_000_000)
            cloud.storage.put("object", bytes(1_000_000))

    def test_runs_on_full_disk_can_be_deleted(self, small_disk):
        with LocalCloud(small_disk / "cloud", vcpus=2) as cloud:
            knot = knot_on(cloud, repeated)
            job = knot.map([b"x", b"y"], kwargs={"count": 3_000_000}).job
            assert [len(value) for value in job.result(LONG)] == [3_000_000] * 2
            fill(small_disk, 200_000)
            numbers = itertools.count()
            with pytest.raises(ck.CloudError, match=r"^A disk of the embedded cloud is full.*job\.clobber\(\)"):
                # For small objects, the store looks at the disk only ten times in a second.
                until(lambda: cloud.storage.put(f"small{next(numbers)}", b"x"))
            job.clobber()
            assert len(knot.jobs) == 0
            # Without a wait: the freed space is there for the next call.
            cloud.storage.put("large", bytes(1_000_000))

    def test_cloud_on_full_disk_does_not_start_and_leaves_nothing(self, small_disk):
        fill(small_disk, 0)
        with pytest.raises(ck.CloudknotConfigurationError, match=r"cannot write to its directory .*No space left on"):
            LocalCloud(small_disk / "cloud").start()
        assert [path.name for path in small_disk.iterdir()] == ["filler"]

    @pytest.mark.large
    def test_jobs_on_full_disk_of_cloud_end_with_that_reason(self, small_disk):
        with LocalCloud(small_disk / "cloud", vcpus=2) as cloud:
            knot = knot_on(cloud, chatty)
            assert knot.map([1]).result(LONG) == [1]
            # Enough for the inputs. The output of the jobs finds no space.
            fill(small_disk, 2_000_000)
            for element in knot.map([5000, 5000]):
                with pytest.raises((ck.BatchJobFailedError, OSError), match="No space left on device"):
                    element.result(LONG)
            (small_disk / "filler").unlink()
            assert knot.map([1]).result(LONG) == [1]


def available(*prefix):
    """Return a command's prefix. Skip the test where the prefix does not work."""
    try:
        run = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if run.returncode:
        pytest.skip(f"{' '.join(map(str, prefix))} does not work here: {run.stderr.strip()}")
    return prefix


class TestProcessLimits:
    def test_low_soft_limit_of_open_files_is_raised_as_far_as_needed(self, own_cloud):
        program = "import resource as r; from cloudknot.local import LocalCloud; import sys\n"
        program += "LocalCloud(sys.argv[1]).call('sts', 'get_caller_identity'); print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
        output = session(program, own_cloud.directory, prefix=available("prlimit", "--nofile=64:4096"))
        assert output == "1024\n"

    def test_low_hard_limit_of_open_files_is_one_error_and_nothing_is_made(self, tmp_path):
        output = session(START, tmp_path / "new", prefix=available("prlimit", "--nofile=64:64"))
        assert output.startswith("CloudknotConfigurationError This process may open 64 files at a time, and cloudknot")
        assert "`ulimit -n 1024`" in output
        assert not (tmp_path / "new").exists()
        # A session with a running cloud, or with AWS, meets the limit at its first call.
        program = "import cloudknot as ck\ntry: ck.Cloud().call('sts', 'x')\nexcept ck.CloudknotError as e: print(e)"
        assert "may open 64 files" in session(program, prefix=available("prlimit", "--nofile=64:64"))

    def test_low_limit_of_processes_is_one_error_and_nothing_is_made(self, tmp_path):
        # The limit does not apply to root. The capability lets another user read the files of these tests.
        user = () if os.getuid() else ("setpriv", "--reuid=65534", "--clear-groups", *CAPABILITY)
        output = session(START, tmp_path / "new", prefix=available(*user, "prlimit", "--nproc=40:40"))
        assert output.startswith("CloudknotConfigurationError Your user may have 40 processes and threads at a time")
        assert "`ulimit -u 4096`" in output
        assert not (tmp_path / "new").exists()


class TestReadOnlyHome:
    def test_read_only_home_is_one_error_with_a_fix(self, tmp_path):
        home = tmp_path / "home"
        home.mkdir()
        mount = f'mount -t tmpfs -o ro tmpfs "{home}" && exec "$@"'
        prefix = available("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
        program = """
from cloudknot.errors import CloudknotError
from cloudknot.local import LocalCloud
import cloudknot as ck
for act in (LocalCloud().start, lambda: ck.set_region("eu-west-1")):
    try:
        print("done", act())
    except CloudknotError as error:
        print(type(error).__name__, error)
"""
        cloud, config = session(program, env={"HOME": str(home)}, prefix=prefix).splitlines()
        assert cloud.startswith("CloudknotConfigurationError The embedded cloud cannot write to its directory")
        assert "Read-only file system" in cloud
        assert "CLOUDKNOT_LOCAL_DIR" in cloud
        assert config.startswith("CloudknotConfigurationError The config file")
        assert "CLOUDKNOT_CONFIG_FILE" in config


@contextlib.contextmanager
def ecr_with(directory, registry):
    """Yield a door to an ECR with this registry and the repository ``images``, and the list of its operations."""
    asked = []
    database = cloud_database(directory)
    Ecr(database).answer("CreateRepository", {"repositoryName": "images"}, None)
    ecr = Ecr(database, registry_of(RegistryLogin(registry, "AWS", ""), timeout=0.5))
    services = ControlPlane({"ecr": ecr}, database, {})
    names = Names("1", "us-east-1", lambda kind, name: "")
    gate = Gate(Keys(AccessKey("AKIA", "secret")), lambda principal: Policies(), names, "")

    def answer(environ, start_response):
        found, _, _ = gate.receive(environ[wsgi.ADMISSION], environ["wsgi.input"])
        asked.append(found.call.operation)
        try:
            return services({**environ, RECEIVED: found}, start_response)
        except wsgi.ServiceError as error:
            return wsgi.refuse(environ, start_response, "ecr", error)

    server = http_server(answer, gate.admit, 0)
    threading.Thread(target=server.run, daemon=True).start()
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    url = f"http://127.0.0.1:{server.effective_port}"
    try:
        yield Door({"region_name": "us-east-1", **keys}, url, isolated=True), asked
    finally:
        server.close()


class TestRegistry:
    @pytest.mark.parametrize("listens", [True, False], ids=["silent", "down"])
    def test_registry_that_does_not_answer_is_one_error_that_names_it(self, listens, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as registry:
            address = f"127.0.0.1:{registry.getsockname()[1]}"
            if not listens:
                registry.close()
            with ecr_with(tmp_path, address) as (door, asked):
                with pytest.raises(ck.CloudError, match=f"^The registry {address} does not answer") as caught:
                    door.call("ecr", "describe_images", repositoryName="images")
                assert "AWS" not in str(caught.value)
                # It is not repeated.
                assert len(asked) == 1
