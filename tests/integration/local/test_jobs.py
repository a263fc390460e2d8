"""Jobs of the embedded cloud run as real processes: their environment, exit codes, termination and logs."""

import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudknot.image.publish import publish
from cloudknot.local import LocalCloud
from cloudknot.local.batch.logs import LogShipper
from cloudknot.local.batch.records import Task
from tests.helpers.batch import WORKER, Client, Image, alive, until_written
from tests.helpers.waiting import until


class TestEnvironment:
    def test_job_gets_its_own_environment_without_users_variables(self, client, directory):
        job_id = client.submit(*WORKER, "show", environment={"MINE": "yes"})
        report = client.shown(job_id)
        variables, environment = report["environment"], directory / "environments" / "none"
        assert variables["MINE"] == "yes"
        assert variables["AWS_BATCH_JOB_ID"] == job_id
        assert variables["AWS_ENDPOINT_URL"] == client.cloud.endpoint_url
        assert variables["PATH"].startswith(str(directory / "images" / "worker" / "environment" / "bin"))
        assert variables["HOME"] == report["directory"]
        allowed = {"MINE", "PATH", "HOME", "LANG", "LC_ALL", "TZ"}
        assert {name for name in variables if not name.startswith("AWS_")} <= allowed
        assert "AWS_BATCH_JOB_ARRAY_INDEX" not in variables
        # `sys.prefix` may be the link in the image's directory or the environment behind it.
        assert report["prefix"] == str(environment.resolve()) or Path(report["prefix"]).resolve() == environment
        assert "/somewhere/of/the/user" not in report["path"]

    def test_job_starts_in_empty_directory_that_is_deleted_afterwards(self, client):
        report = client.shown(client.submit(*WORKER, "show"))
        assert report["files"] == []
        until(lambda: not Path(report["directory"]).exists())

    def test_child_jobs_get_their_index_and_array_size(self, client):
        array = client.submit(*WORKER, "show", size=3)
        environments = [client.shown(f"{array}:{index}")["environment"] for index in range(3)]
        assert [variables["AWS_BATCH_JOB_ARRAY_INDEX"] for variables in environments] == ["0", "1", "2"]
        assert {variables["AWS_BATCH_JOB_ARRAY_SIZE"] for variables in environments} == {"3"}
        assert [variables["AWS_BATCH_JOB_ID"] for variables in environments] == [
            f"{array}:{index}" for index in range(3)
        ]

    def test_parameters_replace_their_placeholders_in_command(self, client):
        client.define("echo", client.image, command=["echo", "Ref::word", "Ref::unknown"])
        job = client.wait(client.submit(jobDefinition="echo", parameters={"word": "it"}))
        assert job["container"]["command"] == ["echo", "it", "Ref::unknown"]
        assert until(lambda: client.lines(job["container"]["logStreamName"])) == ["it Ref::unknown"]

    def test_python_command_runs_interpreter_of_image(self, client, directory):
        job = client.wait(client.submit("python", "-c", "import sys; print(sys.prefix)"))
        (line,) = until(lambda: client.lines(job["container"]["logStreamName"]))
        assert Path(line).resolve() == (directory / "environments" / "none").resolve()


class TestOutcomes:
    @pytest.mark.parametrize(
        ("command", "exit_code"),
        [
            (("leave", "0"), 0),
            (("leave", "9"), 9),
            (("fall", str(int(signal.SIGKILL))), 137),
            (("fall", str(int(signal.SIGTERM))), 143),
            (("throw",), 1),
            (("sys_exit", "text"), 1),
        ],
    )
    def test_job_reports_exit_code_of_its_process(self, client, command, exit_code):
        job = client.run(*command)
        assert job["container"]["exitCode"] == exit_code
        assert job["status"] == ("FAILED" if exit_code else "SUCCEEDED")
        assert job["statusReason"] == "Essential container in task exited"
        assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]

    def test_missing_command_ends_with_exit_code_127(self, client):
        assert client.wait(client.submit("no-such-command"))["container"]["exitCode"] == 127

    def test_log_ends_with_exception(self, client):
        stream = client.run("throw")["container"]["logStreamName"]
        # The traceback has several lines, and the first of them may arrive alone.
        assert until(lambda: client.lines(stream)[-1:] == ["RuntimeError: thrown by the job"])

    def test_job_waits_for_its_threads_and_atexit_functions(self, client):
        job = client.run("linger")
        assert job["container"]["exitCode"] == 7
        lines = until(lambda: (found := client.lines(job["container"]["logStreamName"]))[1:] and found)
        assert lines[:2] == ["thread", "atexit function"]

    def test_array_job_fails_when_one_child_job_fails(self, client):
        array = client.run("fail_if", "1", size=3)
        assert (array["status"], array["statusReason"]) == ("FAILED", "Array Child Job failed")
        assert array["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 2
        pages = client.batch.get_paginator("list_jobs").paginate(arrayJobId=array["jobId"], jobStatus="FAILED")
        (failed,) = itertools.chain.from_iterable(page["jobSummaryList"] for page in pages)
        assert (failed["jobId"], failed["container"]["exitCode"]) == (f"{array['jobId']}:1", 1)

    def test_job_lists_its_failed_and_its_successful_attempt(self, client):
        job = client.run("once", retryStrategy={"attempts": 3})
        assert job["status"] == "SUCCEEDED"
        assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [5, 0]

    def test_job_without_its_image_fails_to_start(self, client):
        client.define("missing", client.image.replace(":worker", ":missing"))
        job = client.wait(client.submit("true", jobDefinition="missing"))
        assert job["statusReason"] == "Task failed to start"
        assert job["container"]["reason"].startswith("CannotPullContainerError: ")
        assert "exitCode" not in job["container"]

    def test_job_fails_to_start_when_its_worker_cannot_be_imported(self, client, directory):
        broken = Image("broken", files={"cloudknot_worker/__main__.py": b"import no_such_module"})
        client.define("broken", publish(client.cloud, broken, client.cloud.repository("tests")))
        job = client.wait(client.submit(*WORKER, jobDefinition="broken"))
        assert job["statusReason"] == "Task failed to start"
        assert "No module named 'no_such_module'" in job["container"]["reason"]

    def test_dependent_of_failed_job_fails_without_attempt(self, client):
        first = client.submit(*WORKER, "leave", "1")
        second = client.wait(client.submit(*WORKER, "leave", "0", dependsOn=[{"jobId": first}]))
        assert (second["status"], second["statusReason"]) == ("FAILED", "Dependent Job failed")
        assert second["attempts"] == []

    def test_job_with_too_long_overrides_fails(self, client):
        # Batch accepts the submission, and fails the job when it starts.
        job = client.run("leave", "x" * 9000)
        assert (job["status"], job["statusReason"]) == ("FAILED", "Container Overrides length must be at most 8192")

    def test_sixty_jobs_submitted_at_once_all_succeed(self, client):
        with ThreadPoolExecutor(32) as pool:
            ids = list(pool.map(lambda _: client.submit(*WORKER, "leave", "0"), range(60)))
        assert {client.wait(job_id)["status"] for job_id in ids} == {"SUCCEEDED"}

    @pytest.mark.large
    def test_six_hundred_children_on_400_vcpus_all_succeed(self, tmp_path):
        with LocalCloud(tmp_path / "wide", vcpus=400) as cloud:
            client = Client(cloud)
            client.run("leave", "0")
            array = client.submit(*WORKER, "nap", size=600)
            assert client.wait(array)["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 600


class TestStopping:
    def test_terminate_kills_job_and_its_descendants(self, client, tmp_path):
        job_id = client.submit(*WORKER, "family", str(tmp_path / "pids"), retryStrategy={"attempts": 3})
        pids = until_written(tmp_path / "pids")
        client.batch.terminate_job(jobId=job_id, reason="enough")
        job = client.wait(job_id)
        assert (job["statusReason"], job["container"]["exitCode"]) == ("enough", 143)
        assert len(job["attempts"]) == 1
        until(lambda: not any(map(alive, pids)))

    def test_process_outside_group_ends_with_its_own_job_only(self, client, tmp_path):
        first, second = (client.submit(*WORKER, "escape", str(tmp_path / name)) for name in ("1", "2"))
        (first_pid,), (second_pid,) = until_written(tmp_path / "1"), until_written(tmp_path / "2")
        (tmp_path / "1.go").touch()
        client.wait(first)
        until(lambda: not alive(first_pid))
        assert alive(second_pid)
        client.batch.terminate_job(jobId=second, reason="enough")
        until(lambda: not alive(second_pid))

    def test_process_of_unknown_job_ends_when_no_job_runs(self, client, tmp_path):
        client.run("escape_without_a_trace", str(tmp_path / "pid"))
        (pid,) = until_written(tmp_path / "pid")
        assert until(lambda: not alive(pid))

    def test_cancel_ends_waiting_job(self, client, tmp_path):
        # Two jobs occupy both vCPUs, so the third one waits.
        running = [client.submit(*WORKER, "talk", str(tmp_path / "go")) for _ in range(2)]
        waiting = client.submit(*WORKER, "leave", "0")
        for job_id in running:
            client.wait(job_id, "RUNNING")
        assert client.describe(waiting)["status"] == "RUNNABLE"
        client.batch.cancel_job(jobId=waiting, reason="not needed")
        assert client.wait(waiting)["statusReason"] == "not needed"
        (tmp_path / "go").touch()
        assert {client.wait(job_id)["status"] for job_id in running} == {"SUCCEEDED"}

    def test_terminate_jobs_reports_unknown_jobs(self, client):
        job_id = client.submit(*WORKER, "leave", "0")
        answer = client.batch.terminate_jobs(jobs=[job_id, "nobody"], reason="done")
        assert answer["successful"] == [job_id]
        assert [error["job"] for error in answer["errors"]] == ["nobody"]

    def test_killed_fork_server_fails_its_jobs_and_next_job_runs(self, client, tmp_path):
        job_id = client.submit(*WORKER, "family", str(tmp_path / "pids"))
        pid, child = until_written(tmp_path / "pids")
        # The cloud may hear of the start only after the job has written. A job that never started has another reason.
        client.wait(job_id, "RUNNING")
        # The fourth field of `stat` is the parent's pid: the job's parent is the fork server.
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        job = client.wait(job_id)
        assert job["status"] == "FAILED"
        assert job["statusReason"].startswith("Host EC2 (instance ")
        until(lambda: not alive(pid) and not alive(child))
        assert client.run("leave", "0")["status"] == "SUCCEEDED"


class TestLogs:
    def test_log_shows_lines_of_running_job_and_rest_at_its_end(self, client, tmp_path):
        job_id = client.submit(*WORKER, "talk", str(tmp_path / "go"))
        stream = client.wait(job_id, "RUNNING")["container"]["logStreamName"]
        assert until(lambda: client.lines(stream)) == ["first line"]
        assert client.describe(job_id)["status"] == "RUNNING"
        (tmp_path / "go").touch()
        assert client.wait(job_id)["attempts"][0]["container"]["logStreamName"] == stream
        until(lambda: client.lines(stream) == ["first line", "last line"])

    def test_log_larger_than_one_upload_is_complete_and_in_order(self, client):
        # PutLogEvents takes at most 10,000 events.
        program = "for i in range(25000): print(i, 'x' * 60)"
        stream = client.wait(client.submit("python", "-c", program))["container"]["logStreamName"]

        def numbers():
            pages = client.logs.get_paginator("filter_log_events").paginate(
                logGroupName="/aws/batch/job", logStreamNames=[stream]
            )
            return [int(event["message"].split()[0]) for page in pages for event in page["events"]]

        until(lambda: len(numbers()) == 25000)
        assert numbers() == list(range(25000))

    def test_silent_job_has_no_log_stream(self, client):
        stream = client.run("leave", "0")["container"]["logStreamName"]
        # The output of a later job has arrived, so that of the silent job would have.
        client.shown(client.submit(*WORKER, "show"))
        answer = client.logs.describe_log_streams(logGroupName="/aws/batch/job", logStreamNamePrefix=stream)
        assert answer["logStreams"] == []

    def test_failed_log_upload_does_not_block_other_logs(self, tmp_path):
        shipped = []

        def append(group, stream, messages):
            if stream == "bad":
                raise RuntimeError("a surprise")
            shipped.extend(messages)

        shipper = LogShipper(append)
        for name in ("bad", "good"):
            task = Task(name, "", (), {}, name)
            (tmp_path / name).write_text(f"{name}\n")
            shipper.follow(task, tmp_path / name)
            shipper.follow(task, None)
        until(lambda: not (tmp_path / "good").exists())
        assert shipped == ["good"]
        assert (tmp_path / "bad").read_text() == "bad\n"
        shipper.close()
