"""The commands for jobs, on maps that end, fail and wait."""

import json
import pickle
import re
import socket
import subprocess
import sys

import pytest

import cloudknot as ck
from tests.helpers.functions import nap
from tests.helpers.gate import Gate
from tests.helpers.waiting import LONG, until


def reciprocal(x):
    print("inverting", x)
    return 1 / x


PRINTED = {"inverting 1", "inverting 0", "inverting 2", "inverting 4"}
"""The lines that the jobs of the fixture ``failed`` print, beside a traceback."""


def pass_gate(address):
    print("at the gate", flush=True)
    socket.create_connection(address).recv(1)
    print("through", flush=True)
    return "done"


@pytest.fixture(scope="module")
def failed(cloud):
    """Return a map with three results and a failed element."""
    future = ck.Knot(name="reciprocals", func=reciprocal, cloud=cloud).map([1, 0, 2, 4])
    assert isinstance(future.exception(LONG), ZeroDivisionError)
    # Batch reports the end, and shows the output, a moment after the last outcome.
    until(lambda: future.job.status == "FAILED" and set(future.job.logs()) > PRINTED)
    return future


def test_jobs_lists_ids_and_states_in_80_columns(command, failed):
    listing = command("jobs", "reciprocals").stdout
    assert f"{failed.job.job_id}  {failed.job.submitted:%Y-%m-%d %H:%M}  FAILED\n" in listing
    assert max(map(len, listing.splitlines())) <= 80
    newest = json.loads(command("jobs", "reciprocals", "--json").stdout)[-1]
    assert (newest["job_id"], newest["status"], newest["url"]) == (failed.job.job_id, "FAILED", failed.job.keys.url)


@pytest.mark.parametrize("words", [["jobs"], ["status"], ["errors"], ["logs"], ["result"], ["retry"], ["cancel"]])
def test_mistyped_knot_is_error_of_one_line_with_near_matches(command, failed, words):
    answer = command(*words, "reciprocal")
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert "There is no knot 'reciprocal', and no job of one. Near matches: reciprocals. " in answer.stderr


def test_unknown_id_is_error_of_one_line(command):
    answer = command("logs", "01234567-89ab-cdef-0123-456789abcdef")
    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: cloudknot has no job '01234567-")
    assert answer.stderr.count("\n") == 1


def test_knot_without_jobs_is_no_mistake_for_list_and_an_error_for_others(command, cloud):
    ck.Knot(name="reciprocals-unused", func=reciprocal, cloud=cloud)
    assert "The knot 'reciprocals-unused' has no jobs in " in command("jobs", "reciprocals-unused").stdout
    assert json.loads(command("jobs", "reciprocals-unused", "--json").stdout) == []
    answer = command("status", "reciprocals-unused")
    assert (answer.exit_code, "has no jobs. Submit one" in answer.stderr) == (1, True)


def test_status_counts_elements(command, failed):
    text = command("status", failed.job.job_id).stdout
    assert "status:     FAILED\n" in text
    assert "elements:   4: 3 done, 1 failed\n" in text
    record = json.loads(command("status", failed.job.job_id, "--json").stdout)
    assert record["elements"] == {"all": 4, "done": 3, "failed": 1, "cancelled": 0, "pending": 0}
    assert (record["knot"], record["function"], record["status"]) == ("reciprocals", "reciprocal", "FAILED")
    # Errors name the children of an array job.
    assert json.loads(command("status", f"{failed.job.job_id}:1", "--json").stdout) == record


def test_errors_lists_failed_elements(command, failed):
    answer = command("errors", failed.job.job_id)
    assert answer.exit_code == 1
    assert answer.stdout == "Element 1: ZeroDivisionError: division by zero\nFailed: 1 of 4 elements.\n"
    assert "line" in command("errors", failed.job.job_id, "--traceback").stdout
    records = json.loads(command("errors", failed.job.job_id, "--json").stdout)
    assert records == [{"index": 1, "type": "ZeroDivisionError", "message": "division by zero"}]


def test_errors_shows_as_many_as_asked_and_names_number_of_others(command, cloud, failed):
    future = ck.Knot(name="reciprocals", cloud=cloud).map([0] * 5, chunksize=5)
    future.exception(LONG)
    text = command("errors", future.job.job_id, "--limit", 2).stdout
    assert text.count("ZeroDivisionError") == 2
    assert text.endswith("Failed: 5 of 5 elements.\nThe first 2 are shown. Pass --limit 5 to see all.\n")


def test_logs_labels_lines_of_several_jobs(command, failed):
    lines = command("logs", failed.job.job_id).stdout.splitlines()
    assert {"[0] inverting 1", "[1] inverting 0", "[2] inverting 2", "[3] inverting 4"} < set(lines)
    assert command("logs", failed.job.job_id, 2).stdout == "inverting 2\n"
    line = json.loads(command("logs", failed.job.job_id, 2, "--json").stdout)
    assert line == {"child": 2, "attempt": 1, "message": "inverting 2"}
    assert "index=4 is not the index" in command("logs", failed.job.job_id, 4).stderr


def test_hint_of_an_error_is_a_command_that_shows_the_output(failed):
    """The error may be read after the end of the script, so the hint must work in another process."""
    note = failed.exception().__notes__[0]
    hint = note.partition("Its output: ")[2]
    shown = subprocess.run(
        hint.replace("cloudknot ", f"{sys.executable} -m cloudknot "), shell=True, capture_output=True, text=True
    )
    assert shown.stdout.splitlines()[0] == "inverting 0"


@pytest.fixture
def second_gate():
    gate = Gate()
    yield gate
    gate.close()


def pass_two_gates(first, second):
    pass_gate(first)
    socket.create_connection(second).recv(1)
    return "done"


def test_follow_prints_lines_as_they_come_until_the_end(cloud, gate, second_gate):
    knot = ck.Knot(name="gated-twice", func=pass_two_gates, cloud=cloud)
    future = knot.map([(gate.address, second_gate.address)], starmap=True)
    words = [sys.executable, "-u", "-m", "cloudknot", "logs", future.job.job_id, "--follow", "--cloud", "local"]
    environment = {"CLOUDKNOT_LOCAL_DIR": str(cloud.directory)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as following:
        assert following.stdout.readline() == "at the gate\n"
        gate.open()
        assert following.stdout.readline() == "through\n"
        second_gate.open()
        assert following.stdout.read() == ""
    assert following.returncode == 0
    assert future.result(LONG) == ["done"]


def test_follow_of_too_many_jobs_is_refused(command, cloud, failed):
    future = ck.Knot(name="reciprocals", cloud=cloud).map(range(1, 102))
    answer = command("logs", future.job.job_id, "--follow")
    assert answer.exit_code == 1
    assert "The job has 101 child jobs" in answer.stderr
    future.cancel()


def test_result_prints_or_stores_values(command, cloud, failed, tmp_path):
    future = ck.Knot(name="reciprocals", cloud=cloud).map([1, 2])
    job_id, pickled, text = future.job.job_id, tmp_path / "values.pkl", tmp_path / "values.json"
    assert command("result", job_id, "--timeout", LONG).stdout == "1.0\n0.5\n"
    assert command("result", job_id, 1).stdout == "0.5\n"
    assert json.loads(command("result", job_id, "--json").stdout) == [1.0, 0.5]
    assert command("result", job_id, "-o", pickled).exit_code == 0
    assert pickle.loads(pickled.read_bytes()) == [1.0, 0.5]
    assert command("result", job_id, "-o", text).exit_code == 0
    assert json.loads(text.read_text()) == [1.0, 0.5]
    assert {path.name for path in tmp_path.iterdir()} == {"values.pkl", "values.json"}


def complex_number(_):
    return 1 + 2j


def test_result_that_is_no_json_is_refused_and_leaves_no_file(command, cloud, tmp_path):
    future = ck.Knot(name="complex", func=complex_number, cloud=cloud).map([0])
    answer = command("result", future.job.job_id, "-o", tmp_path / "values.json")
    assert answer.exit_code == 1
    assert "cannot be written as JSON" in answer.stderr
    assert list(tmp_path.iterdir()) == []
    answer = command("result", future.job.job_id, "-o", tmp_path / "missing" / "values.pkl")
    assert answer.exit_code == 2
    assert "cannot be written. Pass another file" in answer.stderr


def test_result_of_failed_map_is_error_of_one_line(command, failed):
    answer = command("result", failed.job.job_id)
    assert answer.exit_code == 1
    assert answer.stderr.count("\n") == 1
    assert "Error: ZeroDivisionError: division by zero. Raised by element 1 " in answer.stderr
    assert f"cloudknot errors {failed.job.job_id} --cloud local` to see all failed elements." in answer.stderr


def test_sentences_of_an_error_end_with_one_full_stop(command, failed):
    message = command("result", failed.job.job_id).stderr
    assert ".." not in message
    assert " 1 --cloud local. 1 of 4 elements failed. Run `" in message


@pytest.mark.parametrize("words", [("clobber", "NAME"), ("clobber", "--all"), ("selftest",)])
def test_question_without_terminal_names_option_that_answers_it(command, failed, words):
    result = command(*(failed.job.manifest.knot if word == "NAME" else word for word in words))
    assert result.exit_code == 1
    assert "Pass --yes" in result.stderr
    assert failed.job.manifest.knot in command("list").stdout


@pytest.mark.parametrize("words", [("prune", "--dry-run"), ("selftest",)])
def test_commands_name_embedded_cloud_and_no_region(command, failed, words):
    output = command(*words).stdout
    assert "the embedded cloud at" in output
    assert "us-east-1" not in output


def test_cancel_prints_command_that_runs_the_missing_elements(command, cloud):
    future = ck.Knot(name="naps", func=nap, cloud=cloud).map([600])
    again = re.search(r"`.*cloudknot (retry .*)`", command("cancel", future.job.job_id).stdout)
    future.exception(LONG)
    assert "which runs 1 of 1 elements" in command(*again[1].split()).stdout
    future.job.terminate("The test has ended.")


def test_summaries_of_commands_are_whole(command):
    summaries = command("--help").stdout.partition("Commands:")[2].splitlines()
    assert len(summaries) > 15
    assert not [line for line in summaries if line.endswith("...")]


def test_status_of_embedded_cloud_is_json_for_programs(command, cloud):
    answer = command("local", "status", "--directory", cloud.directory, "--json")
    assert json.loads(answer.stdout)["endpoint"] == cloud.endpoint_url


def fail_always(x):
    print("call", x, flush=True)
    raise ValueError(x)


def test_logs_have_rounds_of_other_sessions_under_elements_that_ran(command, cloud):
    future = ck.Knot(name="fails-always", func=fail_always, cloud=cloud).map([0, 1, 2, 3], chunksize=2)
    future.exception(LONG)
    future.retry_failed(chunksize=1).exception(LONG)

    def calls():
        return re.findall(r"^\[.+\] call \d$", command("logs", future.job.job_id).stdout, re.MULTILINE)

    assert until(lambda: len(calls()) == 8)
    assert calls() == [
        *("[0-1] call 0", "[0-1] call 1", "[2-3] call 2", "[2-3] call 3"),
        *(f"[{index}] call {index}" for index in range(4)),
    ]
    assert command("logs", future.job.job_id, 3).stdout.splitlines().count("call 3") == 2


def end_process(code):
    import os

    os._exit(code)


def test_hints_of_errors_are_commands_and_not_calls(command, cloud, gate):
    died = ck.Knot(name="dies", func=end_process, cloud=cloud).map([9, 7], chunksize=2)
    died.exception(LONG)
    retry = cloud.command(f"retry {died.job.job_id}")
    for verb in ("errors", "result"):
        answer = command(verb, died.job.job_id)
        assert f"run it again: `{retry}`." in answer.output
        assert (
            f"Run each by itself: `{retry.replace(died.job.job_id, died.job.job_id + ' --chunksize 1')}`"
            in answer.output
        )
        assert "future." not in answer.output
    running = ck.Knot(name="gated", func=pass_gate, cloud=cloud).map([gate.address])
    refused = command("retry", running.job.job_id)
    assert f"end it with `{cloud.command(f'cancel {running.job.job_id}')}`" in refused.stderr
    gate.open()
    assert running.result(LONG) == ["done"]


@pytest.mark.parametrize(("memory", "mebibytes"), [("500", 500), ("0.5 GiB", 512), ("1gb", 1024)])
def test_retry_runs_failed_elements_again(command, cloud, tmp_path, memory, mebibytes):
    def fails_once(path):
        import pathlib

        if not pathlib.Path(path).exists():
            pathlib.Path(path).touch()
            raise OSError("first time")
        return "second time"

    future = ck.Knot(name="fails-once", func=fails_once, cloud=cloud).map([str(tmp_path / "a"), str(tmp_path)])
    future.exception(LONG)
    refused = command("retry", "fails-once", "--memory", "8 giraffes")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "memory='8 giraffes' is not an amount of memory." in refused.stderr
    answer = command("retry", "fails-once", "--memory", memory)
    assert "which runs 1 of 2 elements again.\n" in answer.stdout, answer.stderr
    assert future.job.result(LONG) == ["second time", "second time"]
    (detail,) = cloud.call("batch", "describe_jobs", jobs=future.job.job_ids[-1:])["jobs"]
    requirements = {need["type"]: need["value"] for need in detail["container"]["resourceRequirements"]}
    assert requirements["MEMORY"] == str(mebibytes)
    assert command("retry", "fails-once").stdout == "No element has failed. Nothing was submitted.\n"


def test_retry_runs_present_function_of_knot_on_request(command, cloud):
    def fails(x):
        raise OSError(x)

    def works(x):
        return x

    future = ck.Knot(name="mended", func=fails, cloud=cloud).map([7])
    future.exception(LONG)
    ck.Knot(name="mended", func=works, cloud=cloud)
    assert command("retry", "mended").exit_code == 0
    assert isinstance(future.job.future().exception(LONG), OSError)
    assert command("retry", "mended", "--new-function").exit_code == 0
    assert future.job.result(LONG) == [7]


def test_cancel_ends_job_and_keeps_results(command, cloud, gate):
    future = ck.Knot(name="gated", func=pass_gate, cloud=cloud).map([gate.address] * 3)
    answer = command("cancel", future.job.job_id, "--reason", "enough")
    assert answer.stdout.startswith(f"The job {future.job.job_id} is being ended.")
    assert "enough" in str(future.exception(LONG))
    assert until(lambda: "had already ended" in command("cancel", future.job.job_id).stdout)
