"""Knots that use the job queue and the machines of another knot, on the embedded cloud."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.aws.permissions.policies import Scope, policy
from cloudknot.cli.main import main
from cloudknot.deploy.account.resources import find_resources, idle_cost
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.inventory import list_knots, stack_name
from tests.helpers.counting import CountingCloud
from tests.helpers.functions import cube, square
from tests.helpers.inventory import lasting
from tests.helpers.waiting import until


def wait_or_square(x):
    if x == "wait":
        time.sleep(600)
    return x * x


def fail_once(x, marker):
    """Fail at the first call with a marker, a file that does not exist yet."""
    import pathlib

    if marker and not pathlib.Path(marker).exists():
        pathlib.Path(marker).touch()
        raise ValueError("first call")
    return x * x


def total(values):
    return sum(values)


@pytest.fixture(scope="module")
def owner(cloud):
    """Return the knot with the queue and the machines."""
    return ck.Knot("shared-owner", func=square, max_vcpus=16, cloud=cloud)


def states(cloud, queue):
    answer = cloud.call("batch", "describe_job_queues", jobQueues=[queue])
    return [each["state"] for each in answer["jobQueues"]]


class TestUse:
    def test_knot_uses_queue_and_machines_and_has_rest_of_its_own(self, cloud, owner):
        before = lasting(cloud)
        knot = ck.Knot("shared-user", func=cube, compute=owner)
        made = lasting(cloud)
        assert made["job queues"] == before["job queues"]
        assert made["compute environments"] == before["compute environments"]
        assert made["launch templates"] == before["launch templates"]
        assert len(made["roles"]) == len(before["roles"]) + 1
        assert (knot.compute, owner.compute) == ("shared-owner", None)
        assert (knot.job_queue, knot.compute_environment) == (owner.job_queue, owner.compute_environment)
        assert knot.job_role != owner.job_role
        futures = [each.map([1, 2, 3]) for each in (owner, knot)]
        assert [future.result(120) for future in futures] == [[1, 4, 9], [1, 8, 27]]
        assert [job.job_id for job in knot.jobs] == [futures[1].job.job_id]
        # Found by its name, also without a right to read the other stack.
        assert ck.Knot("shared-user", cloud=cloud).map([2]).result(120) == [8]
        knot.clobber()
        assert {**lasting(cloud), "images": None} == {**before, "images": None}
        assert owner.map([5]).result(120) == [25]

    def test_unchanged_knot_makes_no_update_and_keeps_its_compute(self, cloud, owner, caplog):
        knot = ck.Knot("shared-kept", func=cube, compute="shared-owner", cloud=cloud)
        session = CountingCloud(cloud.directory)
        for choices in ({}, {"compute": "shared-owner"}, {"compute": owner}):
            again = ck.Knot("shared-kept", func=cube, cloud=session, **choices)
            assert (session.writes, caplog.text) == ([], "")
            assert again.job_definition == knot.job_definition
        # A change of the other knot changes the limit, and nothing in this stack.
        ck.Knot("shared-owner", func=square, max_vcpus=4, cloud=cloud)
        caplog.clear()
        changed = ck.Knot("shared-kept", func=cube, cloud=session)
        assert (session.writes, caplog.text) == ([], "")
        assert changed._resources.max_vcpus == 4
        assert ck.Knot("shared-kept", cloud=cloud)._resources.max_vcpus == 4
        ck.Knot("shared-owner", func=square, max_vcpus=16, cloud=cloud)
        knot.clobber()

    def test_retry_and_reduce(self, owner, tmp_path):
        knot = ck.Knot("shared-retry", func=fail_once, compute=owner)
        future = knot.map([(2, str(tmp_path / "marker")), (3, "")], starmap=True)
        with pytest.raises(ValueError, match="first call"):
            future.result(120)
        future.job.retry_failed().result(120)
        assert future.job.future().result(120) == [4, 9]
        summing = ck.Knot("shared-sum", func=total, compute=knot)
        assert summing.compute == "shared-owner"
        assert future.job.reduce(summing).result(120) == 13
        for each in (knot, summing):
            each.clobber()

    def test_list_shows_whose_machines(self, cloud, owner):
        knot = ck.Knot("shared-listed", func=wait_or_square, compute=owner)
        (info,) = (info for info in list_knots(cloud) if info.name == "shared-listed")
        assert (info.compute, info.min_vcpus) == ("shared-owner", 0)
        assert idle_cost(info) == "nothing of its own: on the machines of shared-owner"
        waiting = knot.map(["wait", "wait"])
        # A job of an earlier test may still be ending. Those that wait do not end.
        until(lambda: (jobs := find_resources(cloud).jobs)["shared-listed"] == 1 and jobs["shared-owner"] == 0)
        waiting.cancel()
        knot.clobber()

    def test_fargate(self, cloud):
        owner = ck.Knot("fargate-owner", func=square, instance_types="fargate", cloud=cloud)
        knot = ck.Knot("fargate-user", func=cube, compute=owner, job_def_vcpus=2)
        assert knot._resources.fargate == (2, 4096)
        assert knot.map([2]).result(120) == [8]
        with pytest.raises(ck.errors.CloudknotInputError, match="not available on Fargate"):
            ck.Knot("fargate-user", func=cube, compute=owner, memory=7500)
        # Without the argument, the same rules hold.
        again = ck.Knot("fargate-user", func=cube, job_def_vcpus=4, cloud=cloud)
        assert again._resources.fargate == (4, 8192)
        for each in (knot, owner):
            each.clobber()


class TestClobber:
    def test_clobber_ends_jobs_of_this_knot_alone(self, cloud, owner):
        one = ck.Knot("shared-one", func=wait_or_square, compute=owner)
        other = ck.Knot("shared-other", func=wait_or_square, compute=owner)
        ending, staying = one.map(["wait"]).job, other.map(["wait"]).job
        until(lambda: staying.status == ending.status == "RUNNING")
        one.clobber(clobber_image=True, clobber_results=True)
        until(lambda: ending._view.live_jobs() == [])
        assert staying.status == "RUNNING"
        assert states(cloud, owner.job_queue) == ["ENABLED"]
        assert Stack(cloud, stack_name("shared-one")).state() is None
        assert ck.Knot("shared-other", cloud=cloud).map([3]).result(120) == [9]
        other.clobber()
        until(lambda: staying._view.live_jobs() == [])

    def test_owner_is_kept_while_others_use_it(self, cloud, owner):
        knot = ck.Knot("shared-holding", func=cube, compute=owner)
        before = lasting(cloud)
        with pytest.raises(ck.errors.CannotDeleteResourceException, match="'shared-holding' uses its queue"):
            owner.clobber()
        assert not owner.clobbered
        assert lasting(cloud) == before
        assert knot.map([2]).result(120) == [8]
        knot.clobber()

    @pytest.mark.parametrize("arguments", [["clobber-owner", "clobber-user"], ["clobber-user", "clobber-owner"]])
    def test_command_removes_users_first(self, cloud, monkeypatch, arguments):
        owner = ck.Knot("clobber-owner", func=square, cloud=cloud)
        ck.Knot("clobber-user", func=cube, compute=owner)
        monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
        result = CliRunner().invoke(main, ["clobber", *arguments, "--yes", "--cloud", "local"])
        assert result.exit_code == 0, result.output
        assert result.output.index("Deleted knot clobber-user") < result.output.index("Deleted knot clobber-owner")
        assert states(cloud, owner.job_queue) == []

    def test_person_without_right_to_end_jobs_changes_nothing(self, cloud, owner):
        knot = ck.Knot("shared-guarded", func=wait_or_square, compute=owner)
        job = knot.map(["wait"]).job

        class Person(ck.LocalCloud):
            def call(self, service, operation, **arguments):
                if operation.startswith("terminate_job"):
                    raise ck.errors.PermissionDeniedError("no", code="AccessDenied", operation="batch:terminate_job")
                return super().call(service, operation, **arguments)

        with pytest.raises(ck.errors.PermissionDeniedError, match="nothing was changed"):
            ck.Knot("shared-guarded", cloud=Person(cloud.directory)).clobber()
        assert job._view.live_jobs() != []
        knot.clobber()


class TestRefused:
    @pytest.mark.parametrize(
        ("choices", "problem"),
        [
            ({"max_vcpus": 8}, r"max_vcpus=8 cannot be combined with compute='shared-owner'\. .* Remove max_vcpus="),
            ({"instance_types": "c6i"}, "instance_types='c6i' cannot be combined"),
            ({"priority": 2}, "priority=2 cannot be combined"),
            ({"min_vcpus": 0}, "min_vcpus=0 cannot be combined"),
            ({"job_queue_name": "q"}, "job_queue_name='q' cannot be combined"),
            ({"n_gpus": 1}, "n_gpus=1 is not available on the machines of the knot 'shared-owner'"),
            ({"job_def_vcpus": 17}, "more than the knot's max_vcpus=16"),
            ({"func": None}, "compute='shared-owner' cannot be used without a function"),
            ({"name": "shared-owner"}, "compute='shared-owner' is the knot itself"),
        ],
    )
    def test_choice_is_refused_before_anything_is_created(self, cloud, owner, choices, problem):
        before = lasting(cloud)
        arguments = {"name": "shared-refused", "func": cube, "compute": owner, **choices}
        with pytest.raises(ck.errors.CloudknotInputError, match=problem):
            ck.Knot(**arguments)
        assert lasting(cloud) == before

    def test_unknown_knot_is_refused(self, cloud):
        message = r"There is no knot 'nobody' in the embedded cloud .*`.*cloudknot list --cloud local`"
        with pytest.raises(ck.errors.ResourceDoesNotExistException, match=message):
            ck.Knot("shared-refused", func=cube, compute="nobody", cloud=cloud)

    def test_clobbered_knot_is_refused(self, cloud):
        gone = ck.Knot("shared-gone", func=square, cloud=cloud)
        gone.clobber()
        with pytest.raises(ck.errors.ResourceClobberedException):
            ck.Knot("shared-refused", func=cube, compute=gone)

    def test_existing_knots_keep_their_queue(self, cloud, owner):
        apart = ck.Knot("shared-apart", func=cube, cloud=cloud)
        with pytest.raises(ck.errors.CloudknotInputError, match="has a queue and machines of its own"):
            ck.Knot("shared-apart", func=cube, compute=owner)
        user = ck.Knot("shared-bound", func=cube, compute=owner)
        with pytest.raises(ck.errors.CloudknotInputError, match="uses the queue and the machines of 'shared-owner'"):
            ck.Knot("shared-bound", func=cube, compute=apart)
        with pytest.raises(ck.errors.CloudknotInputError, match="max_vcpus=8 cannot be applied"):
            ck.Knot("shared-bound", func=cube, max_vcpus=8, cloud=cloud)
        for each in (user, apart):
            each.clobber()

    def test_knot_of_other_region_is_refused(self, owner):
        with pytest.raises(ck.errors.CloudknotInputError, match="is not in the cloud of this knot"):
            ck.Knot("shared-refused", func=cube, compute=owner, cloud=ck.Cloud("eu-west-1"))


class TestPolicy:
    def test_policy_for_one_knot_has_queue_of_other_knot(self):
        arguments = ["--account", "1" * 12, "--region", "us-east-1", "--knot", "user", "--compute", "owner"]
        text = CliRunner().invoke(main, ["permissions", "run", *arguments]).stdout
        submit = next(part for part in json.loads(text)["Statement"] if part["Sid"] == "SubmitJobs")
        assert [arn.rpartition(":")[2] for arn in submit["Resource"]] == ["*", "job-queue/owner-cloudknot-job-queue"]

    def test_command_refuses_compute_without_knot(self):
        result = CliRunner().invoke(main, ["permissions", "run", "--account", "1" * 12, "--compute", "owner"])
        assert result.exit_code == 2
        assert "needs --knot" in result.output


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """Yield a cloud that evaluates IAM policies and permits one queue."""
    with ck.LocalCloud(tmp_path_factory.mktemp("strict"), vcpus=2, quota=1, iam=True) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def only(strict):
    """Return the knot with the only queue of its cloud."""
    return ck.Knot("only", func=square, cloud=strict)


def person(cloud, name, *policies):
    """Return the session of a new user with these policies."""
    iam = cloud.client("iam")
    iam.create_user(UserName=name)
    for number, document in enumerate(policies):
        text = json.dumps(document)
        iam.put_user_policy(UserName=name, PolicyName=f"cloudknot-{number}", PolicyDocument=text)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    return ck.LocalCloud(cloud.directory, **keys)


class TestPeople:
    def test_person_with_policy_for_one_knot_maps(self, strict, only):
        ck.Knot("one-person", func=cube, compute=only)
        scope = Scope("123456789012", strict.region, knot="one-person", compute="only")
        theirs = ck.Knot("one-person", cloud=person(strict, "sharer", policy("run", scope)))
        assert theirs.map([3]).result(120) == [27]
        without = person(strict, "stranger", policy("run", Scope("123456789012", strict.region, knot="one-person")))
        with pytest.raises(ck.errors.PermissionDeniedError, match="batch:SubmitJob"):
            ck.Knot("one-person", cloud=without).map([3])

    def test_person_creates_and_clobbers_sharing_knot_with_own_template(self, strict, only, edited):
        scope = Scope("123456789012", strict.region)
        creator = person(strict, "creator", policy("run", scope), policy("create", scope))
        path = edited("knot", ("RetentionInDays: 90", "RetentionInDays: 7"))
        knot = ck.Knot("by-creator", func=cube, compute="only", template=path, cloud=creator)
        assert knot.map([2]).result(120) == [8]
        knot.clobber()


class TestQuota:
    def test_knots_beyond_quota_are_refused_and_may_share(self, strict, only):
        with pytest.raises(ck.errors.CannotCreateResourceException, match="50 job queues") as caught:
            ck.Knot("second", func=square, cloud=strict)
        assert "Knot(..., compute='NAME')" in str(caught.value)
        assert "ask AWS" not in str(caught.value)
        knots = [ck.Knot(f"more-{number}", func=square, compute=only) for number in range(3)]
        futures = [knot.map([number]) for number, knot in enumerate(knots)]
        assert [future.result(120) for future in futures] == [[0], [1], [4]]

    @pytest.mark.large
    def test_sixty_knots_in_quota_of_fifty(self, tmp_path):
        with ck.LocalCloud(tmp_path / "full", vcpus=2) as cloud:
            owner = ck.Knot("first", func=square, cloud=cloud)
            with ThreadPoolExecutor(4) as pool:
                knots = list(pool.map(lambda number: ck.Knot(f"k-{number}", func=square, compute=owner), range(63)))
            futures = [knot.map([number]) for number, knot in enumerate(knots)]
            assert [future.result(300) for future in futures] == [[number**2] for number in range(63)]
            queues = cloud.call("batch", "describe_job_queues")["jobQueues"]
            assert [queue["jobQueueName"] for queue in queues] == [owner.job_queue]
