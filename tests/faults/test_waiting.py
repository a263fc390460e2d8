"""Waiting for results while credentials expire, the network goes away, or the machine sleeps."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import cloudknot as ck
from cloudknot.aws.door import Door
from cloudknot.aws.outages import Outages
from cloudknot.errors import CloudError, CredentialsError, JobCancelledError
from cloudknot.local import Faults
from cloudknot.run.collect.outage_timer import LONGEST_LOOK, OutageTimer
from tests.helpers.waiting import LONG, until


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.05)
    return "done"


def wait_or_fail(path):
    wait_for(path)
    with open(path) as file:
        if file.read():
            raise LookupError(path)
    return "done"


OTHERS = set()
"""Collectors that ran before the test: maps that an earlier test left meet the same outage, and warn of it."""


@pytest.fixture(autouse=True)
def note_other_collectors():
    OTHERS.clear()
    OTHERS.update(each.ident for each in threading.enumerate() if each.name == "cloudknot-collector")


def outages(caplog):
    own = [record for record in caplog.records if record.thread not in OTHERS]
    return [record.getMessage() for record in own if "Cannot look for results" in record.getMessage()]


@pytest.mark.parametrize(("faults", "warnings"), [({"expired": True}, 1), ({"silent": True}, 0)])
def test_a_wait_goes_on_after_an_outage(knot_of, switches, caplog, tmp_path, faults, warnings):
    """Expired credentials are told once, since somebody has to renew them; a short silence passes by itself."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    future = knot_of(wait_for).map([str(tmp_path / "go")])
    until(lambda: future.job.status == "RUNNING")
    waiting = threading.Thread(target=future.result, args=(LONG,))
    waiting.start()
    with switches.on(Faults(**faults)):
        # The job goes on meanwhile, and ends.
        (tmp_path / "go").touch()
        until(lambda: sum(switches.injected().values()) > 4)
        assert not future.done()
    assert future.result(LONG) == ["done"]
    waiting.join(LONG)
    assert len(outages(caplog)) == warnings
    assert all("aws sso login" in warning for warning in outages(caplog))


def test_keys_that_are_renewed_in_the_shared_file_are_taken(cloud, knot_of, switches, monkeypatch, caplog, tmp_path):
    """As `aws sso login`, `aws configure` or a tool of one's own do it, while this process waits."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    settings = cloud.environment()

    def write(secret):
        new = tmp_path / "new"
        new.write_text(
            f"[lab]\naws_access_key_id = {settings['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {secret}\n"
        )
        # In one step: a reader of a file that is only half written would find no profile, and warn of that, too.
        new.replace(tmp_path / "credentials")

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    write(settings["AWS_SECRET_ACCESS_KEY"])
    lab = ck.Cloud("us-east-1", "lab", endpoint_url=settings["AWS_ENDPOINT_URL"])
    future = ck.Knot(name=knot_of(wait_for).name, cloud=lab).map([str(tmp_path / "go")])
    future.add_done_callback(lambda _: None)
    until(lambda: future.job.states)
    write("revoked")
    with switches.on(Faults(expired=True)):
        until(lambda: outages(caplog))
        with pytest.raises(ck.CredentialsError, match=r"ExpiredToken|SignatureDoesNotMatch"):
            future.job._view.describe_jobs()
    # AWS takes keys again, but those in the file are wrong until somebody renews them.
    with pytest.raises(ck.CredentialsError, match="SignatureDoesNotMatch"):
        future.job._view.describe_jobs()
    (tmp_path / "go").touch()
    write(settings["AWS_SECRET_ACCESS_KEY"])
    assert future.result(LONG) == ["done"]
    assert len(outages(caplog)) == 1


class Bounds:
    """How long a wait bears what, and a clock that is set by hand."""

    def __init__(self, patience=1800.0, renewal=24 * 3600.0):
        self.patience, self.renewal, self.now, self.outages = patience, renewal, 0.0, Outages()

    def clock(self):
        return self.now


def look(silence, bounds, seconds, error):
    """Another look in vain, so many seconds later; whether it was the last one."""
    bounds.now += seconds
    return silence.should_give_up(error, bounds.now)


def test_a_sleep_of_the_machine_is_no_silence_of_the_cloud():
    bounds, error = Bounds(), CloudError("no answer")
    silence = OutageTimer(bounds, bounds.clock)
    assert not look(silence, bounds, 0, error)
    assert not look(silence, bounds, 8 * 3600, error)
    awake = [look(silence, bounds, 60, error) for _ in range(30)]
    assert awake.index(True) == (1800 - LONGEST_LOOK) / 60 - 1


def test_each_silence_is_counted_from_its_beginning():
    bounds, error = Bounds(), CloudError("no answer")
    silence = OutageTimer(bounds, bounds.clock)
    for _ in range(10):
        assert not any(look(silence, bounds, 100, error) for _ in range(18))
        silence.answered(bounds.now)


def test_expired_credentials_are_borne_for_a_day():
    bounds, error = Bounds(), CredentialsError("expired")
    silence = OutageTimer(bounds, bounds.clock)
    seconds = 0
    while not look(silence, bounds, 100, error):
        seconds += 100
    assert bounds.renewal - 200 <= seconds <= bounds.renewal + 200


def test_a_cloud_that_has_ended_is_not_waited_for():
    bounds = Bounds(patience=0.0)
    assert look(OutageTimer(bounds, bounds.clock), bounds, 0, CloudError("no answer"))
    assert look(OutageTimer(bounds, bounds.clock), bounds, 0, CredentialsError("expired"))


def test_an_outage_is_told_once_whoever_waits_and_again_when_there_is_another(caplog):
    caplog.set_level(logging.WARNING, logger="cloudknot")
    bounds, gone, expired = Bounds(), CloudError("no answer"), CredentialsError("expired")
    waits = [OutageTimer(bounds, bounds.clock) for _ in range(5)]
    for _ in range(3):
        assert not any(look(silence, bounds, 1, gone) for silence in waits)
    assert [str(gone) in each for each in outages(caplog)] == [True]
    # The machine slept over it: the network is there again, and the login is over.
    assert not any(look(silence, bounds, 3600, expired) for silence in waits)
    assert [str(expired) in each for each in outages(caplog)] == [False, True]
    # Answers to one that had begun to look before the outage do not end it.
    waits[0].answered(bounds.now - 4 * 3600 - 1)
    assert not any(look(silence, bounds, 1, expired) for silence in waits)
    assert len(outages(caplog)) == 2
    waits[0].answered(bounds.now)
    # One that had begun to look before the others were answered is late, and nothing new.
    assert not waits[1].should_give_up(expired, bounds.now - 1)
    assert len(outages(caplog)) == 2
    assert not any(look(silence, bounds, 1, expired) for silence in waits)
    assert len(outages(caplog)) == 3


def test_clouds_that_have_a_login_in_common_tell_of_an_outage_once(tmp_path):
    first, second = (ck.Cloud("us-east-1", "lab", endpoint_url="http://127.0.0.1:9") for _ in range(2))
    assert first.outages is second.outages
    assert ck.Cloud("us-east-1", endpoint_url="http://127.0.0.1:9").outages is not first.outages
    assert ck.LocalCloud(tmp_path).outages is ck.LocalCloud(tmp_path).outages
    assert ck.LocalCloud(tmp_path / "other").outages is not ck.LocalCloud(tmp_path).outages


@pytest.mark.parametrize("faults", [{"expired": True}, {"silent": True}])
def test_many_waits_are_told_of_an_outage_once(cloud, knot_of, switches, caplog, tmp_path, faults):
    """Three maps, and one of them looked at by another session's object as well."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    # A call of the `LocalCloud` that submits bears a silence for longer than this test takes.
    other = Brief(cloud, patience=1800.0) if "silent" in faults else ck.LocalCloud(cloud.directory)
    jobs = [knot_of(wait_for).map([str(tmp_path / "go")]).job for _ in range(3)]
    futures = [ck.BatchJob(job.job_id, cloud=other).future() for job in (*jobs, jobs[0])]
    for future in futures:
        future.add_done_callback(lambda _: None)
        until(lambda future=future: future.job.states)
    with switches.on(Faults(**faults)):
        until(lambda: outages(caplog))
        # Longer than each of them takes to notice.
        until(lambda: switches.injected()[next(iter(switches.injected()))] > 12)
        (tmp_path / "go").touch()
        assert not any(future.done() for future in futures)
    assert [future.result(LONG) for future in futures] == [["done"]] * 4
    assert len(outages(caplog)) == 1


class Brief(ck.Cloud):
    """The embedded cloud as a `Cloud` with bounds of its own: how long it may be silent, in a call and in a wait."""

    def __init__(self, cloud, patience, renewal=None, in_a_call=0.3):
        settings = cloud.environment()
        super().__init__("us-east-1", endpoint_url=settings["AWS_ENDPOINT_URL"])
        self._bounds = patience, patience if renewal is None else renewal
        key = {
            name.lower(): value for name, value in settings.items() if name.startswith(("AWS_ACCESS", "AWS_SECRET"))
        }
        arguments = {"region_name": "us-east-1", **key}
        self.door = Door(arguments, self.endpoint_url, isolated=True, patience=in_a_call)

    @property
    def patience(self):
        return self._bounds[0]

    @property
    def renewal(self):
        return self._bounds[1]


GIVE_UPS = {
    "silence": ({"silent": True}, ck.CloudError, "got no answer"),
    "expired": ({"expired": True}, ck.CredentialsError, "aws sso login"),
    "denied by S3": (
        {"refused": "AccessDenied"},
        ck.PermissionDeniedError,
        "do not allow s3:list_objects_v2.*AccessDenied",
    ),
    "denied by Batch": (
        {"refused": "AccessDeniedException", "services": ("batch",)},
        ck.PermissionDeniedError,
        "do not allow batch:describe_jobs.*AccessDeniedException",
    ),
    "not found": (
        {"refused": "ResourceNotFoundException", "services": ("batch",)},
        ck.ResourceDoesNotExistException,
        "AWS did not find .* batch:describe_jobs .*ResourceNotFoundException",
    ),
}


@pytest.mark.parametrize(("faults", "kind", "text"), GIVE_UPS.values(), ids=GIVE_UPS)
def test_a_job_that_was_given_up_is_looked_at_anew(cloud, knot_of, switches, tmp_path, faults, kind, text):
    job = knot_of(wait_for).map([str(tmp_path / "one"), str(tmp_path / "two")]).job
    later = ck.BatchJob(job.job_id, cloud=Brief(cloud, patience=0.5))
    future = later.future()
    (tmp_path / "one").touch()
    assert future[0].result(LONG) == "done"
    with switches.on(Faults(**faults)):
        with pytest.raises(ck.BatchJobFailedError, match=text) as caught:
            future.result(LONG)
        assert isinstance(caught.value.__cause__, kind)
        assert (caught.value.index, caught.value.job_id) == (1, f"{job.job_id}:1")
        # Who looks while it lasts is told the same again.
        with pytest.raises(ck.CloudknotError) as again:
            later.result(LONG)
        assert isinstance(again.value, kind) or isinstance(again.value.__cause__, kind)
    told = f"future.job.result(), or in another session with cloudknot.Knot(name={job.keys.knot!r}).jobs."
    assert str(caught.value).endswith(told)
    assert not later.done
    # The future that was given up stays as it is, with what it knew.
    assert future[0].result() == "done"
    assert future.exception() is not None
    waiting = later.future()
    assert not waiting.done()
    (tmp_path / "two").touch()
    assert later.result(LONG) == ["done", "done"]
    assert later.future() is waiting
    assert later.done


def test_nothing_is_run_again_while_nobody_knows_what_failed(cloud, knot_of, switches, tmp_path):
    """A map of which one element failed and one has a result that was not seen before the network went away."""
    job = knot_of(wait_or_fail).map([str(tmp_path / "one"), str(tmp_path / "two")]).job
    later = ck.BatchJob(job.job_id, cloud=Brief(cloud, patience=0.5))
    until(lambda: later.future().job.states)
    with switches.on(Faults(silent=True)):
        assert later.future().exception(LONG) is not None
    (tmp_path / "one").touch()
    (tmp_path / "two").write_text("fail")
    until(lambda: job.status == "FAILED")
    # Batch says that the job has ended, and S3 does not say with what.
    with switches.on(Faults(errors=1.0, only="/outputs/")), pytest.raises(ck.CloudError) as caught:
        later.retry_failed()
    assert caught.value.__notes__ == ["Nothing was submitted."]
    assert later._run.rounds.newest.number == 0
    (tmp_path / "two").write_text("")
    assert later.retry_failed().result(LONG) == ["done", "done"]
    assert list(later._run.rounds.newest.elements) == [1]


INTERRUPTED = """
import sys, time
import cloudknot as ck

def slow(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.05)
    return 42

future = ck.Knot(name="interrupted", func=slow, cloud="local").map([sys.argv[1]])
print(future.job.job_id, flush=True)
future.result()
"""


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(cloud, tmp_path):
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
    (tmp_path / "script.py").write_text(INTERRUPTED)
    command = [sys.executable, "script.py", str(tmp_path / "go")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as process:
        job = ck.BatchJob(process.stdout.readline().strip(), cloud=cloud)
        until(lambda: job.status == "RUNNING")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGINT
    assert "The job keeps running. Find it in any session: cloudknot.Knot(name='interrupted').jobs." in told
    assert job.status == "RUNNING"
    (tmp_path / "go").touch()
    assert ck.Knot(name="interrupted", cloud=cloud).jobs[-1].result(LONG) == [42]


def quick(x):
    return x


def test_what_is_being_stored_when_a_job_is_stopped_is_stored(knot_of, switches):
    """S3 refuses it for a while, in which Batch stops the job."""
    refused = Faults(errors=1, only="/outputs/", limit=7)
    with switches.on(refused):
        future = knot_of(quick).map([7])
        until(lambda: sum(switches.injected().values()) >= 2)
        future.job.terminate("While it stores")
        assert future.result(LONG) == [7]
    assert future.job.status == "FAILED"


def makes_another_error(path):
    try:
        wait_for(path)
    except BaseException as error:
        raise RuntimeError("the library was interrupted") from error


def test_a_stop_that_the_function_makes_another_error_of_is_no_failure_of_it(knot_of, tmp_path):
    """It would be stored, and no later attempt would compute the element."""
    future = knot_of(makes_another_error).map([str(tmp_path / "go")])
    until(lambda: future.job.status == "RUNNING")
    until(lambda: future.job.log_urls)
    time.sleep(1)
    future.job.terminate("A test of it")
    assert isinstance(future.exception(LONG), JobCancelledError)
    assert next(future.job._view.list_packs(0), []) == []
