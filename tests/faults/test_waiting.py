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
from cloudknot.collector import LONGEST_LOOK, RENEWAL, Collector
from cloudknot.errors import CloudError, CredentialsError
from cloudknot.local import Faults
from tests.waiting import LONG, until


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.05)
    return "done"


def outages(caplog):
    return [record.getMessage() for record in caplog.records if "Cannot look for results" in record.getMessage()]


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
        (tmp_path / "credentials").write_text(
            f"[lab]\naws_access_key_id = {settings['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {secret}\n"
        )

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    write(settings["AWS_SECRET_ACCESS_KEY"])
    lab = ck.Cloud("us-east-1", "lab", endpoint_url=settings["AWS_ENDPOINT_URL"])
    future = ck.BatchJob(knot_of(wait_for).map([str(tmp_path / "go")]).job.job_id, cloud=lab).future()
    future.add_done_callback(lambda _: None)
    until(lambda: future.job.states)
    write("revoked")
    with switches.on(Faults(expired=True)):
        until(lambda: outages(caplog))
    # AWS takes keys again, but those in the file are wrong until somebody renews them.
    with pytest.raises(ck.CredentialsError, match="SignatureDoesNotMatch"):
        future.job.describe_jobs()
    (tmp_path / "go").touch()
    write(settings["AWS_SECRET_ACCESS_KEY"])
    assert future.result(LONG) == ["done"]
    assert len(outages(caplog)) == 1


class Silence:
    """A source that does not answer, a sink that notes when it is given up, and a clock that is set by hand."""

    patience = 1800.0

    def __init__(self, error):
        self.error, self.now, self.given_up_with = error, 0.0, []

    def poll(self, known):
        raise self.error

    def give_up(self, error):
        self.given_up_with.append(error)


def look(collector, silence, seconds):
    silence.now += seconds
    collector._look_patiently(None)
    return bool(silence.given_up_with)


def test_a_sleep_of_the_machine_is_no_silence_of_the_cloud():
    silence = Silence(CloudError("no answer"))
    collector = Collector(silence, silence, None, 1, 1, clock=lambda: silence.now)
    assert not look(collector, silence, 0)
    assert not look(collector, silence, 8 * 3600)
    awake = [look(collector, silence, 60) for _ in range(30)]
    assert awake.index(True) == (1800 - LONGEST_LOOK) / 60 - 1


def test_expired_credentials_are_borne_for_a_day():
    silence = Silence(CredentialsError("expired"))
    collector = Collector(silence, silence, None, 1, 1, clock=lambda: silence.now)
    seconds = 0
    while not look(collector, silence, 100):
        seconds += 100
    assert RENEWAL - 200 <= seconds <= RENEWAL + 200


def test_a_cloud_that_has_ended_is_not_waited_for():
    silence = Silence(CloudError("no answer"))
    silence.patience = 0.0
    assert look(Collector(silence, silence, None, 1, 1, clock=lambda: silence.now), silence, 0)


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
    assert "The job goes on: cloudknot.Knot(name='interrupted').jobs shows it, in any session" in told
    assert job.status == "RUNNING"
    (tmp_path / "go").touch()
    assert ck.Knot(name="interrupted", cloud=cloud).jobs[-1].result(LONG) == [42]
