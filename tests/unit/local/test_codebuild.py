"""The embedded CodeBuild runs the commands of a buildspec, and reports status, reason and log as CodeBuild does."""

import threading
import time

import pytest
import yaml

from cloudknot.local.codebuild.api import SERVER_ENDED, CodeBuild
from cloudknot.local.codebuild.running_build import BuildOrder, RunningBuild
from cloudknot.local.directory.documents import cloud_database
from cloudknot.local.wsgi import ServiceError
from tests.helpers.waiting import until


class Logs:
    """The log streams of CloudWatch Logs, with the messages of all."""

    def __init__(self):
        self.messages, self.streams = [], set()
        self.lock = threading.Lock()

    def append(self, group, stream, messages):
        with self.lock:
            self.streams.add((group, stream))
            self.messages += messages

    @property
    def lines(self):
        return [line for line in "".join(self.messages).splitlines() if not line.startswith("[Container]")]


def buildspec(*build, **phases):
    phases = {name: {"commands": list(commands)} for name, commands in (phases | {"build": build}).items()}
    return yaml.safe_dump({"version": 0.2, "phases": phases})


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a build to its end, and returns its description and its log."""

    def run(spec, minutes=60, variables=None, during=lambda build, logs: None):
        logs = Logs()
        order = BuildOrder("project:1", "project", spec, "group", minutes, variables or {})
        ended = []
        build = RunningBuild(order, tmp_path / "build", logs.append, ended.append)
        build.start()
        during(build, logs)
        until(lambda: build.description()["buildComplete"], 60)
        build.join()
        assert not (tmp_path / "build").exists()
        assert ended == [build.description()]
        return build.description(), logs

    return run


def reason(build):
    return build["phases"][0]["contexts"][0]["message"]


def test_commands_share_shell_and_log(run):
    build, logs = run(buildspec('echo "$A $B"', pre_build=["A=1"]), variables={"B": "2"})
    assert build["buildStatus"] == "SUCCEEDED"
    assert build["currentPhase"] == "COMPLETED"
    assert logs.lines == ["1 2"]
    assert logs.streams == {("group", "1")}
    assert build["logs"] == {"groupName": "group", "streamName": "1"}


def test_failed_command_ends_build_with_its_text_and_status(run):
    build, logs = run(buildspec("echo before; (exit 3)", "echo after"))
    assert build["buildStatus"] == "FAILED"
    assert reason(build) == "Error while executing command: echo before; (exit 3). Reason: exit status 3"
    assert build["phases"][0]["phaseType"] == "BUILD"
    assert logs.lines == ["before"]


def test_failed_phase_skips_later_ones(run):
    build, logs = run(buildspec("echo built", pre_build=["false"]))
    assert build["phases"][0]["phaseType"] == "PRE_BUILD"
    assert logs.lines == []


def test_output_without_line_break_and_error_output_are_logged(run):
    _, logs = run(buildspec("echo problem >&2", "printf end"))
    assert logs.lines == ["problem", "end"]


def test_log_appears_while_build_runs(run, tmp_path):
    def during(build, logs):
        until(lambda: logs.lines == ["first"], 30)
        (tmp_path / "go").touch()

    _, logs = run(buildspec(f"echo first; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo last"), during=during)
    assert logs.lines == ["first", "last"]


def test_stopped_build_ends_with_all_its_processes(run, tmp_path):
    def during(build, logs):
        until(lambda: (tmp_path / "started").exists(), 30)
        build.stop()

    lives = f"until [ -e {tmp_path}/ended ]; do sleep 0.05; done; touch {tmp_path}/survived"
    build, _ = run(buildspec(f"({lives}) & touch {tmp_path}/started; sleep 100"), during=during)
    assert build["buildStatus"] == "STOPPED"
    (tmp_path / "ended").touch()
    # A process that goes on would see the file meanwhile.
    time.sleep(1)
    assert not (tmp_path / "survived").exists()


def test_build_ends_at_its_time_limit(run):
    build, _ = run(buildspec("sleep 100"), minutes=0.01)
    assert build["buildStatus"] == "TIMED_OUT"


def test_invalid_buildspec_is_fault_and_not_endless(run):
    build, _ = run("phases: [")
    assert build["buildStatus"] == "FAULT"
    assert "could not run the build" in reason(build)


def test_machine_without_docker_command_is_fault(run, monkeypatch):
    monkeypatch.setenv("PATH", "/none")
    build, _ = run(buildspec("docker build ."))
    assert build["buildStatus"] == "FAULT"
    assert "no command `docker`" in reason(build)


def test_build_has_no_variables_of_server_except_those_of_engine(run, monkeypatch):
    monkeypatch.setenv("SECRET", "password")
    monkeypatch.setenv("DOCKER_HOST", "unix:///engine.sock")
    _, logs = run(buildspec('echo "[$SECRET] $DOCKER_HOST $HOME"'))
    (line,) = logs.lines
    assert line.startswith("[] unix:///engine.sock ")
    assert line.endswith("/build")


class TestApi:
    @pytest.fixture
    def database(self, tmp_path):
        database = cloud_database(tmp_path)
        yield database
        database.close()

    @pytest.fixture
    def codebuild(self, tmp_path, database):
        logs = Logs()
        codebuild = CodeBuild(database, tmp_path, lambda role: {"ROLE": role}, logs.append)
        codebuild.test_logs = logs
        yield codebuild
        codebuild.close()

    def call(self, codebuild, operation, **arguments):
        try:
            return codebuild.respond(operation, arguments)
        except ServiceError as error:
            return error.code

    def create(self, codebuild, *commands):
        environment = {"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"}
        return self.call(
            codebuild,
            "CreateProject",
            name="pp",
            source={"type": "NO_SOURCE", "buildspec": buildspec(*(commands or ("true",)))},
            artifacts={"type": "NO_ARTIFACTS"},
            environment=environment,
            serviceRole="arn:role",
        )

    def ended(self, codebuild, build):
        def described():
            (found,) = self.call(codebuild, "BatchGetBuilds", ids=[build["id"]])["builds"]
            return found if found["buildComplete"] else None

        return until(described, 60)

    def test_project_is_created_updated_and_deleted(self, codebuild):
        arn = "arn:aws:codebuild:us-east-1:123456789012:project/pp"
        assert self.create(codebuild)["project"]["arn"] == arn
        assert self.create(codebuild) == "ResourceAlreadyExistsException"
        self.call(codebuild, "UpdateProject", name="pp", description="new")
        found = self.call(codebuild, "BatchGetProjects", names=["pp", "qq"])
        assert found["projects"][0]["description"] == "new"
        assert found["projectsNotFound"] == ["qq"]
        assert self.call(codebuild, "DeleteProject", name="pp") == {}
        assert self.call(codebuild, "ListProjects") == {"projects": []}
        assert self.call(codebuild, "DeleteProject", name="pp") == {}

    def test_build_has_variables_of_role_project_and_request(self, codebuild):
        self.create(codebuild, 'echo "$ROLE $A"')
        variables = [{"name": "A", "value": "1"}]
        build = self.call(codebuild, "StartBuild", projectName="pp", environmentVariablesOverride=variables)["build"]
        assert self.ended(codebuild, build)["buildStatus"] == "SUCCEEDED"
        assert codebuild.test_logs.lines == ["arn:role 1"]
        assert build["logs"]["groupName"] == "/aws/codebuild/pp"

    def test_repeated_request_starts_one_build(self, codebuild):
        self.create(codebuild)
        first, second, other = (
            self.call(codebuild, "StartBuild", projectName="pp", idempotencyToken=token)["build"]["id"]
            for token in ("a", "a", "b")
        )
        assert first == second != other
        assert self.call(codebuild, "ListBuildsForProject", projectName="pp")["ids"] == [other, first]

    def test_build_is_stopped(self, codebuild):
        self.create(codebuild, "sleep 100")
        build = self.call(codebuild, "StartBuild", projectName="pp")["build"]
        self.call(codebuild, "StopBuild", id=build["id"])
        assert self.ended(codebuild, build)["buildStatus"] == "STOPPED"

    def test_missing_names_are_refused_as_by_codebuild(self, codebuild):
        assert self.call(codebuild, "StartBuild", projectName="qq") == "ResourceNotFoundException"
        assert self.call(codebuild, "UpdateProject", name="qq") == "ResourceNotFoundException"
        assert self.call(codebuild, "StopBuild", id="q:1") == "ResourceNotFoundException"
        assert self.call(codebuild, "BatchGetBuilds", ids=["q:1"])["buildsNotFound"] == ["q:1"]
        assert self.call(codebuild, "BatchGetBuilds", ids=["q:1"] * 101) == "InvalidInputException"
        assert self.call(codebuild, "ListReports") == "InvalidAction"
        assert self.call(codebuild, "StartBuild") == "InvalidInputException"

    def test_build_of_an_ended_server_is_fault_with_its_reason(self, codebuild, database, tmp_path):
        self.create(codebuild, "sleep 100")
        build = self.call(codebuild, "StartBuild", projectName="pp", idempotencyToken="t")["build"]
        # Another server process on the same records, as after SIGKILL of the first one.
        later = CodeBuild(database, tmp_path, lambda role: {}, Logs().append)
        (found,) = self.call(later, "BatchGetBuilds", ids=[build["id"]])["builds"]
        assert (found["buildStatus"], found["buildComplete"]) == ("FAULT", True)
        assert reason(found) == SERVER_ENDED
        assert self.call(later, "StartBuild", projectName="pp", idempotencyToken="t")["build"] == found
        assert self.call(later, "StopBuild", id=build["id"])["build"] == found

    def test_projects_and_builds_stay_for_a_later_server(self, codebuild, database, tmp_path):
        project = self.create(codebuild)["project"]
        build = self.ended(codebuild, self.call(codebuild, "StartBuild", projectName="pp")["build"])
        later = CodeBuild(database, tmp_path, lambda role: {}, Logs().append)
        assert self.call(later, "BatchGetProjects", names=["pp"])["projects"] == [project]
        assert self.call(later, "BatchGetBuilds", ids=[build["id"]])["builds"] == [build]
