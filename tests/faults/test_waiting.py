"""Waits for results survive expired credentials, outages of the embedded cloud, sleep of the machine, and Ctrl-C."""

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
from cloudknot.run.collect.timers import LONGEST_POLL, OutageTimer
from tests.faulty_cloud.plan import Faults
from tests.helpers.waiting import LONG, until


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.05)
    return "done"


def wait_or_fail(path):
    """Wait for a file, and fail if it has any content."""
    wait_for(path)
    with open(path) as file:
        if file.read():
            raise LookupError(path)
    return "done"


def outage_warnings(caplog):
    """Return the warnings about outages."""
    return [message for message in caplog.messages if "Cannot look for results" in message]


@pytest.mark.parametrize(("faults", "warnings"), [({"expired": True}, 1), ({"silent": True}, 0)])
def test_wait_continues_after_outage(knot_of, switches, caplog, tmp_path, faults, warnings):
    """Expired credentials need one warning, since a person must renew them. A short silence ends by itself."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    future = knot_of(wait_for).map([str(tmp_path / "go")])
    until(lambda: future.job.status == "RUNNING")
    waiting = threading.Thread(target=future.result, args=(LONG,))
    waiting.start()
    with switches.on(Faults(**faults)):
        # The job is not affected. It ends during the outage.
        (tmp_path / "go").touch()
        until(lambda: sum(switches.injected().values()) > 4)
        assert not future.done()
    assert future.result(LONG) == ["done"]
    waiting.join(LONG)
    assert len(outage_warnings(caplog)) == warnings
    assert all("aws sso login" in warning for warning in outage_warnings(caplog))


def test_wait_uses_keys_renewed_in_shared_credentials_file(cloud, knot_of, switches, monkeypatch, caplog, tmp_path):
    """`aws configure` and other tools renew keys like this while a session waits."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    settings = cloud.environment()

    def write_credentials(secret):
        new = tmp_path / "new"
        new.write_text(
            f"[lab]\naws_access_key_id = {settings['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {secret}\n"
        )
        # Replace the file in one step: in a half-written file, a reader would miss the profile and warn, too.
        new.replace(tmp_path / "credentials")

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    write_credentials(settings["AWS_SECRET_ACCESS_KEY"])
    lab = ck.Cloud("us-east-1", "lab", endpoint_url=settings["AWS_ENDPOINT_URL"])
    future = ck.Knot(name=knot_of(wait_for).name, cloud=lab).map([str(tmp_path / "go")])
    future.add_done_callback(lambda _: None)
    until(lambda: future.job.states)
    write_credentials("revoked")
    with switches.on(Faults(expired=True)):
        until(lambda: outage_warnings(caplog))
        with pytest.raises(ck.CredentialsError, match=r"ExpiredToken|SignatureDoesNotMatch"):
            future.job._view.describe_jobs()
    # The cloud accepts keys again, but the keys in the file stay wrong until someone renews them.
    with pytest.raises(ck.CredentialsError, match="SignatureDoesNotMatch"):
        future.job._view.describe_jobs()
    (tmp_path / "go").touch()
    write_credentials(settings["AWS_SECRET_ACCESS_KEY"])
    assert future.result(LONG) == ["done"]
    assert len(outage_warnings(caplog)) == 1


class Limits:
    """Limits for waits as a cloud has them, with a clock that tests set by hand."""

    def __init__(self, patience=1800.0, renewal=24 * 3600.0):
        self.patience, self.renewal, self.now, self.outages = patience, renewal, 0.0, Outages()

    def clock(self):
        return self.now


def fail_to_look(timer, limits, seconds, error):
    """Let time pass, report another failed look for results, and return whether the wait gives up."""
    limits.now += seconds
    return timer.should_give_up(error, limits.now)


def test_wait_does_not_count_sleep_of_machine_as_silence():
    limits, error = Limits(), CloudError("no answer")
    timer = OutageTimer(limits, limits.clock)
    assert not fail_to_look(timer, limits, 0, error)
    assert not fail_to_look(timer, limits, 8 * 3600, error)
    # Of the eight hours, the timer counts only the longest time that a look can take.
    awake = [fail_to_look(timer, limits, 60, error) for _ in range(30)]
    assert awake.index(True) == (1800 - LONGEST_POLL) / 60 - 1


def test_answer_from_cloud_resets_outage_timer():
    limits, error = Limits(), CloudError("no answer")
    timer = OutageTimer(limits, limits.clock)
    for _ in range(10):
        assert not any(fail_to_look(timer, limits, 100, error) for _ in range(18))
        timer.answered(limits.now)


def test_wait_gives_up_on_expired_credentials_after_one_day():
    limits, error = Limits(), CredentialsError("expired")
    timer = OutageTimer(limits, limits.clock)
    seconds = 0
    while not fail_to_look(timer, limits, 100, error):
        seconds += 100
    assert limits.renewal - 200 <= seconds <= limits.renewal + 200


def test_wait_gives_up_at_once_without_patience():
    limits = Limits(patience=0.0)
    assert fail_to_look(OutageTimer(limits, limits.clock), limits, 0, CloudError("no answer"))
    assert fail_to_look(OutageTimer(limits, limits.clock), limits, 0, CredentialsError("expired"))


def test_five_concurrent_waits_issue_one_warning_for_each_outage(caplog):
    caplog.set_level(logging.WARNING, logger="cloudknot")
    limits, gone, expired = Limits(), CloudError("no answer"), CredentialsError("expired")
    timers = [OutageTimer(limits, limits.clock) for _ in range(5)]
    for _ in range(3):
        assert not any(fail_to_look(timer, limits, 1, gone) for timer in timers)
    assert [str(gone) in warning for warning in outage_warnings(caplog)] == [True]
    # The machine slept meanwhile. The network is back, but the login has expired: another outage.
    assert not any(fail_to_look(timer, limits, 3600, expired) for timer in timers)
    assert [str(expired) in warning for warning in outage_warnings(caplog)] == [False, True]
    # An answer to a look that began before the outage does not end the outage.
    timers[0].answered(limits.now - 4 * 3600 - 1)
    assert not any(fail_to_look(timer, limits, 1, expired) for timer in timers)
    assert len(outage_warnings(caplog)) == 2
    timers[0].answered(limits.now)
    # An error of a look that began before the last answer belongs to the old outage.
    assert not timers[1].should_give_up(expired, limits.now - 1)
    assert len(outage_warnings(caplog)) == 2
    assert not any(fail_to_look(timer, limits, 1, expired) for timer in timers)
    assert len(outage_warnings(caplog)) == 3


def test_clouds_with_same_login_share_outages(tmp_path):
    first, second = (ck.Cloud("us-east-1", "lab", endpoint_url="http://127.0.0.1:9") for _ in range(2))
    assert first.outages is second.outages
    assert ck.Cloud("us-east-1", endpoint_url="http://127.0.0.1:9").outages is not first.outages
    assert ck.LocalCloud(tmp_path).outages is ck.LocalCloud(tmp_path).outages
    assert ck.LocalCloud(tmp_path / "other").outages is not ck.LocalCloud(tmp_path).outages


@pytest.mark.parametrize("faults", [{"expired": True}, {"silent": True}])
def test_concurrent_waits_for_several_maps_issue_one_warning_of_outage(
    cloud, knot_of, switches, caplog, tmp_path, faults
):
    """Three maps with four futures: the first map has a second future, as in another session."""
    caplog.set_level(logging.WARNING, logger="cloudknot")
    # Calls through `LocalCloud` repeat a request for longer than this test lasts.
    session = ImpatientCloud(cloud, patience=1800.0) if "silent" in faults else ck.LocalCloud(cloud.directory)
    jobs = [knot_of(wait_for).map([str(tmp_path / "go")]).job for _ in range(3)]
    futures = [ck.BatchJob(job.job_id, cloud=session).future() for job in (*jobs, jobs[0])]
    for future in futures:
        future.add_done_callback(lambda _: None)
        until(lambda future=future: future.job.states)
    with switches.on(Faults(**faults)):
        until(lambda: outage_warnings(caplog))
        # Twelve faults: by then, every future has met the outage.
        until(lambda: switches.injected()[next(iter(switches.injected()))] > 12)
        (tmp_path / "go").touch()
        assert not any(future.done() for future in futures)
    assert [future.result(LONG) for future in futures] == [["done"]] * 4
    assert len(outage_warnings(caplog)) == 1


class ImpatientCloud(ck.Cloud):
    """The embedded cloud as a plain `Cloud`, with its own limits for outages: in a call and in a wait."""

    def __init__(self, cloud, patience, renewal=None, in_a_call=0.3):
        settings = cloud.environment()
        super().__init__("us-east-1", endpoint_url=settings["AWS_ENDPOINT_URL"])
        self._limits = patience, patience if renewal is None else renewal
        key = {
            name.lower(): value for name, value in settings.items() if name.startswith(("AWS_ACCESS", "AWS_SECRET"))
        }
        arguments = {"region_name": "us-east-1", **key}
        self.door = Door(arguments, self.endpoint_url, isolated=True, patience=in_a_call)

    @property
    def patience(self):
        return self._limits[0]

    @property
    def renewal(self):
        return self._limits[1]


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
        "batch:describe_jobs needs a resource that does not exist.*ResourceNotFoundException",
    ),
}


@pytest.mark.parametrize(("faults", "error_class", "message"), GIVE_UPS.values(), ids=GIVE_UPS)
def test_new_future_of_job_continues_after_earlier_future_gave_up(
    cloud, knot_of, switches, tmp_path, faults, error_class, message
):
    job = knot_of(wait_for).map([str(tmp_path / "one"), str(tmp_path / "two")]).job
    later = ck.BatchJob(job.job_id, cloud=ImpatientCloud(cloud, patience=0.5))
    future = later.future()
    (tmp_path / "one").touch()
    assert future[0].result(LONG) == "done"
    with switches.on(Faults(**faults)):
        with pytest.raises(ck.BatchJobFailedError, match=message) as caught:
            future.result(LONG)
        assert isinstance(caught.value.__cause__, error_class)
        assert (caught.value.index, caught.value.job_id) == (1, f"{job.job_id}:1")
        # During the outage, another wait raises the same error.
        with pytest.raises(ck.CloudknotError) as again:
            later.result(LONG)
        assert isinstance(again.value, error_class) or isinstance(again.value.__cause__, error_class)
    advice = f"future.job.result(), or in another session with cloudknot.Knot(name={job.keys.knot!r}).jobs."
    assert str(caught.value).endswith(advice)
    assert not later.done
    # The old future keeps its results and its error.
    assert future[0].result() == "done"
    assert future.exception() is not None
    waiting = later.future()
    assert not waiting.done()
    (tmp_path / "two").touch()
    assert later.result(LONG) == ["done", "done"]
    assert later.future() is waiting
    assert later.done


def test_retry_submits_nothing_until_s3_shows_failed_elements(cloud, knot_of, switches, tmp_path):
    """One element failed, and one has a result that the session did not see before the outage."""
    job = knot_of(wait_or_fail).map([str(tmp_path / "one"), str(tmp_path / "two")]).job
    later = ck.BatchJob(job.job_id, cloud=ImpatientCloud(cloud, patience=0.5))
    until(lambda: later.future().job.states)
    with switches.on(Faults(silent=True)):
        assert later.future().exception(LONG) is not None
    (tmp_path / "one").touch()
    (tmp_path / "two").write_text("fail")
    until(lambda: job.status == "FAILED")
    # Batch reports the end of the job, but S3 does not answer with its results.
    with switches.on(Faults(errors=1.0, only="/outputs/")), pytest.raises(ck.CloudError) as caught:
        later.retry_failed()
    assert caught.value.__notes__ == ["Nothing was submitted."]
    assert later._run.rounds.newest.number == 0
    (tmp_path / "two").write_text("")
    assert later.retry_failed().result(LONG) == ["done", "done"]
    assert list(later._run.rounds.newest.elements) == [1]


WAITING_SESSION = """
import sys, threading, time, traceback
import cloudknot as ck

def slow(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.05)
    return 42

def report_wait(main):
    while "wait_for" not in [frame.name for frame in traceback.extract_stack(sys._current_frames()[main])]:
        time.sleep(0.05)
    print(future.job.job_id, flush=True)

future = ck.Knot(name="interrupted", func=slow, cloud="local").map([sys.argv[1]])
threading.Thread(target=report_wait, args=[threading.get_ident()], daemon=True).start()
future.result()
"""


def test_ctrl_c_leaves_job_running_and_shows_how_to_find_it(cloud, tmp_path):
    environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "PYTHONPATH": os.getcwd()}
    (tmp_path / "script.py").write_text(WAITING_SESSION)
    command = [sys.executable, "script.py", str(tmp_path / "go")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as process:
        job = ck.BatchJob(process.stdout.readline().strip(), cloud=cloud)
        until(lambda: job.status == "RUNNING")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGINT
    assert "The job keeps running. Find it in any session: cloudknot.Knot(name='interrupted').jobs." in errors
    assert job.status == "RUNNING"
    (tmp_path / "go").touch()
    assert ck.Knot(name="interrupted", cloud=cloud).jobs[-1].result(LONG) == [42]


def identity(x):
    return x


def test_worker_stores_result_before_it_ends(knot_of, switches):
    """Batch terminates the job while the worker repeats a refused write."""
    with switches.on(Faults(errors=1, only="/outputs/")):
        future = knot_of(identity).map([7])
        until(lambda: sum(switches.injected().values()) >= 2)
        future.job.terminate("While it stores")
        # The worker repeats the write after SIGTERM, too.
        refused = sum(switches.injected().values())
        until(lambda: sum(switches.injected().values()) > refused)
    assert future.result(LONG) == [7]
    # The result is there before Batch has noted the end of the job.
    until(lambda: future.job.status == "FAILED")


def raise_other_error(path):
    try:
        wait_for(path)
    except BaseException as error:
        raise RuntimeError("the library was interrupted") from error


def test_worker_stores_no_failure_for_stopped_function_that_raises_other_error(knot_of, tmp_path):
    """A stored failure would keep later attempts from computing the element."""
    future = knot_of(raise_other_error).map([str(tmp_path / "go")])
    until(lambda: future.job.status == "RUNNING")
    until(lambda: future.job.log_urls)
    # Batch reports RUNNING before the worker has called the function.
    time.sleep(1)
    future.job.terminate("A test of it")
    assert isinstance(future.exception(LONG), JobCancelledError)
    assert next(future.job._view.list_packs(0), []) == []
