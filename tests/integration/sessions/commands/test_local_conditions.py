"""`cloudknot local` describes an embedded cloud in each condition, and leaves it as it should."""

import json

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.local.directory.files import DELETED, MARKER, server_lock
from cloudknot.local.directory.locks import locked
from tests.helpers.functions import square
from tests.helpers.waiting import LONG, until
from tests.integration.local.survival.conftest import end


def run(directory, *words, answer=""):
    return CliRunner().invoke(main, ["local", words[0], "--directory", str(directory), *words[1:]], answer)


def state_of(directory):
    """Return the object that ``status --json`` prints, and its exit code."""
    answer = run(directory, "status", "--json")
    return json.loads(answer.stdout), answer.exit_code


@pytest.mark.parametrize("content", [None, (), ("thesis.tex",)], ids=["absent", "empty", "of the user"])
def test_directory_without_cloud_is_named_and_left_unchanged(tmp_path, content):
    directory = tmp_path / "place"
    if content is not None:
        directory.mkdir()
        for name in content:
            (directory / name).touch()
    shown = run(directory, "status")
    assert shown.exit_code == 1
    assert f"There is no embedded cloud in {directory}." in shown.stdout
    assert f"`cloudknot local start --directory {directory}`" in shown.stdout
    for words in (["stop"], ["delete"], ["delete", "--yes"]):
        answer = run(directory, *words)
        assert (answer.exit_code, answer.stdout) == (0, f"There is no embedded cloud in {directory}.\n")
    assert run(directory, "prune", "--runs", "0").exit_code == 0
    state, code = state_of(directory)
    assert (state["state"], state["endpoint"], state["objects"], code) == ("missing", None, 0, 1)
    assert (sorted(path.name for path in directory.iterdir()) if directory.exists() else None) == (
        None if content is None else list(content)
    )


def test_running_and_stopped_cloud(own_cloud):
    future = ck.Knot(name="squares", func=square, cloud=own_cloud).map([3])
    assert future.result(LONG) == [9]
    until(lambda: future.job.status == "SUCCEEDED")
    running, code = state_of(own_cloud.directory)
    assert (running["state"], running["directory"], code) == ("running", str(own_cloud.directory), 0)
    own_cloud.stop()
    stopped, code = state_of(own_cloud.directory)
    assert (stopped["state"], stopped["pid"], stopped["jobs"], code) == ("stopped", None, None, 1)
    assert stopped["objects"] == running["objects"] > 0
    assert stopped["disk"]["results"] > 0
    shown = run(own_cloud.directory, "status").stdout
    assert "is stopped. Its knots and results are kept. Start it with `cloudknot local start --directory" in shown
    assert "was not running" in run(own_cloud.directory, "stop").stdout


@pytest.mark.parametrize("words", [["prune"], ["prune", "--runs", "0"], ["prune", "--runs", "0", "--yes"]])
def test_prune_leaves_cloud_as_it_was(own_cloud, words):
    knot = ck.Knot(name="squares", func=square, cloud=own_cloud)
    assert knot.map([3]).result(LONG) == [9]
    run(own_cloud.directory, *words, answer="n\n")
    assert own_cloud.status() is not None
    end(own_cloud)
    run(own_cloud.directory, *words, answer="n\n")
    assert state_of(own_cloud.directory)[0]["state"] == "ended"
    # The open session goes on.
    assert knot.map([4]).result(LONG) == [16]
    own_cloud.stop()
    run(own_cloud.directory, *words, answer="n\n")
    assert state_of(own_cloud.directory)[0]["state"] == "stopped"


def test_crashed_cloud_can_be_stopped_for_good(own_cloud):
    own_cloud.call("sts", "get_caller_identity")
    end(own_cloud)
    state, code = state_of(own_cloud.directory)
    assert (state["state"], code) == ("ended", 1)
    shown = run(own_cloud.directory, "status").stdout
    assert "has ended by a crash, a reboot or a day without use" in shown
    assert "server.log for the cause" in shown
    answer = run(own_cloud.directory, "stop")
    assert answer.exit_code == 0
    assert "had ended already" in answer.stdout
    # An open session would have started the crashed cloud again by itself.
    with pytest.raises(ck.CloudError, match="has stopped"):
        own_cloud.call("sts", "get_caller_identity")
    assert state_of(own_cloud.directory)[0]["state"] == "stopped"


def test_cloud_that_does_not_answer_is_not_called_stopped(tmp_path):
    (tmp_path / MARKER).write_text("1", encoding="utf-8")
    with locked(server_lock(tmp_path)):
        assert state_of(tmp_path)[0]["state"] == "silent"
        assert "does not answer, but its process runs" in run(tmp_path, "status").stdout
    assert state_of(tmp_path)[0]["state"] == "stopped"


def test_interrupted_deletion_is_named_and_finished(own_cloud):
    own_cloud.call("iam", "create_user", UserName="ann")
    own_cloud.stop()
    (own_cloud.directory / MARKER).write_text(DELETED, encoding="utf-8")
    assert state_of(own_cloud.directory)[0]["state"] == "half deleted"
    shown = run(own_cloud.directory, "status").stdout
    assert f"was interrupted. Run `cloudknot local delete --directory {own_cloud.directory}` again." in shown
    with ck.LocalCloud(own_cloud.directory) as new:
        assert new.call("iam", "list_users")["Users"] == []
    (own_cloud.directory / MARKER).write_text(DELETED, encoding="utf-8")
    assert "is deleted." in run(own_cloud.directory, "delete", "--yes").stdout
    assert state_of(own_cloud.directory)[0]["state"] == "missing"


def test_deletion_of_stopped_and_crashed_cloud_asks(own_cloud):
    assert ck.Knot(name="squares", func=square, cloud=own_cloud).map([3]).result(LONG) == [9]
    for finish in (own_cloud.stop, lambda: end(own_cloud)):
        finish()
        asked = run(own_cloud.directory, "delete", answer="n\n")
        assert asked.exit_code == 1
        assert " objects), records and logs of " in asked.stdout
        own_cloud.start()
    own_cloud.stop()
    assert "is deleted." in run(own_cloud.directory, "delete", answer="y\n").stdout
    assert state_of(own_cloud.directory)[0]["state"] == "missing"
