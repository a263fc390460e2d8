"""Resources that cannot be created, changed or deleted in the account."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import cloudknot as ck
from cloudknot.aws import Cloud
from cloudknot.aws.images.ecr import Repository
from cloudknot.aws.s3.bucket import Bucket
from cloudknot.aws.s3.storage import Storage
from cloudknot.deploy import diff, pars, plan
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.stack_errors import ADVICE, advice_for
from cloudknot.deploy.ec2 import check_image, check_key_pair, platform_in
from cloudknot.options.choices import KnotOptions, ParsOptions
from tests.helpers.functions import cube, square
from tests.integration.messages.catalogue import Area, World, error_of
from tests.unit.deploy import test_instance_types, test_machine_images
from tests.unit.deploy.test_diff import existing
from tests.unit.deploy.test_stack import FAILED_EVENTS, PARAMETERS, TEMPLATE, ScriptedCloud, event
from tests.unit.deploy.test_templates import parameters_of

AREA = Area("deploy")


def _types(instance_types: Any, **choices: Any) -> str:
    region = test_instance_types.ScriptedRegion(c6i_large="x86_64", c7g_large="arm64", g5_xlarge="x86_64")
    return platform_in(cast(Cloud, region), KnotOptions.make(name="x", instance_types=instance_types, **choices))


AREA.refuses(
    _types,
    {"instance_types": "c6i.larg"},
    {"instance_types": "zz9"},
    {"instance_types": ["c6i.large", "c7g.large"]},
    {"instance_types": ["c6i.large", "default_arm64"]},
    {"instance_types": "c6i.large", "job_def_vcpus": 8},
    {"instance_types": "c6i.large", "memory": 100_000},
    {"instance_types": "g5.xlarge", "n_gpus": 4},
    {"instance_types": "c6i.large", "n_gpus": 1},
)


def _image(**described: str) -> None:
    region = test_machine_images.ScriptedRegion(**described)
    check_image(cast(Cloud, region), test_machine_images.IMAGE, "linux/amd64")


AREA.refuses(
    _image,
    {},
    {"State": "pending", "Architecture": "x86_64"},
    {"State": "available", "Architecture": "x86_64", "Platform": "windows"},
    {"State": "available", "Architecture": "x86_64", "RootDeviceType": "instance-store"},
    {"State": "available", "Architecture": "arm64"},
)


def _pair(name: str, pairs: list[str]) -> None:
    check_key_pair(cast(Cloud, test_machine_images.ScriptedRegion(*pairs)), name)


AREA.refuses(_pair, {"name": "labs", "pairs": ["lab"]}, {"name": "lab", "pairs": ["x"]}, {"name": "lab", "pairs": []})


@AREA.case
def new_name_for_existing_job_queue(world: World) -> None:
    diff.check_fixed(KnotOptions.make(name="pi-calc", job_queue_name="other"), existing())


@AREA.case
def fargate_for_knot_on_instances(world: World) -> None:
    diff.check_fixed(KnotOptions.make(name="pi-calc", instance_types="fargate"), existing())


@AREA.case
def another_service_role(world: World) -> None:
    new = {**parameters_of({}), "ServiceRole": "arn:aws:iam::1:role/other"}
    diff.check_in_place(KnotOptions.make(name="pi-calc"), existing(), new)


@AREA.case
def instance_types_of_knot_with_own_service_role(world: World) -> None:
    current = {**existing(), "ServiceRole": "arn:aws:iam::1:role/own"}
    new = {**parameters_of({"instance_types": ["c6i"]}), "ServiceRole": "arn:aws:iam::1:role/own"}
    diff.check_in_place(KnotOptions.make(name="pi-calc"), current, new)


@AREA.case
def new_vpc_for_pars_with_vpc(world: World) -> None:
    pars.check_fixed(ParsOptions.make(name="x", use_default_vpc=False), {"VpcId": "vpc-1"})


@AREA.case
def role_that_pars_lacks(world: World) -> None:
    pars.check_fixed(ParsOptions.make(name="x", batch_service_role_name="mine"), {})


@AREA.case
def tags_too_long_for_template(world: World) -> None:
    template.fill_in(template.load("knot"), {f"tag-{number}" * 12: "x" * 250 for number in range(46)})


@AREA.case
def stack_that_cannot_be_created(world: World) -> None:
    cloud = ScriptedCloud(create=["ROLLBACK_COMPLETE"])
    cloud.events = FAILED_EVENTS
    cloud.stack().deploy(TEMPLATE, PARAMETERS)


@AREA.case
def stack_that_needs_permission(world: World) -> None:
    cloud = ScriptedCloud(create=["ROLLBACK_COMPLETE"])
    denied = "User: arn:aws:iam::1:user/me is not authorized to perform: iam:CreateRole on resource: role x"
    cloud.events = [event("Role", "CREATE_FAILED", denied), event("x", "CREATE_IN_PROGRESS", physical="id")]
    try:
        cloud.stack().deploy(TEMPLATE, PARAMETERS)
    except ck.CannotCreateResourceException as error:
        raise cast(Exception, error.__cause__) from error


@AREA.case
def stack_that_cannot_be_changed(world: World) -> None:
    cloud = ScriptedCloud(update=["UPDATE_ROLLBACK_COMPLETE"]).existing("CREATE_COMPLETE", A="2")
    cloud.events = [event("Queue", "UPDATE_FAILED", "Object already exists"), event("x", "UPDATE_IN_PROGRESS")]
    cloud.stack().deploy(TEMPLATE, PARAMETERS)


@AREA.case
def stack_that_is_stuck(world: World) -> None:
    ScriptedCloud().existing("UPDATE_ROLLBACK_FAILED").stack().deploy(TEMPLATE, PARAMETERS)


@AREA.case
def stack_that_cannot_be_deleted(world: World) -> None:
    cloud = ScriptedCloud(delete=["DELETE_FAILED"]).existing("CREATE_COMPLETE")
    in_use = "resource sg-1 has a dependent object (HandlerErrorCode: DependencyViolation)"
    cloud.events = [event("SecurityGroup", "DELETE_FAILED", in_use)]
    cloud.stack().delete()


@AREA.case
def stack_that_takes_too_long(world: World) -> None:
    ScriptedCloud(create=["CREATE_IN_PROGRESS"]).stack(timeout=10).deploy(TEMPLATE, PARAMETERS)


@AREA.case
def unknown_knot(world: World) -> None:
    ck.Knot(name="no-such-knot", cloud=world.cloud)


@AREA.case
def function_in_the_place_of_pars(world: World) -> list[Exception]:
    return [error_of(lambda: ck.Knot("x", square)), error_of(lambda: ck.Knot("x", pars="lab"))]  # type: ignore[arg-type]


@AREA.case
def policies_beside_pars(world: World) -> None:
    shared = ck.Pars("shared-by-messages", cloud=world.cloud)
    ck.Knot(name="x", func=square, pars=shared, pars_policies=["AmazonS3FullAccess"], cloud=world.cloud)


@AREA.case
def pars_and_repository_in_use(world: World) -> list[Exception]:
    shared = ck.Pars("used-by-messages", cloud=world.cloud)
    knots = [
        ck.Knot(name=name, func=func, pars=shared, cloud=world.cloud)
        for name, func in (("first-message", square), ("second-message", cube))
    ]
    raised = [
        error_of(shared.clobber),
        error_of(knots[0].docker_repo.clobber),
    ]
    # Logs what it keeps: the repository and the Pars.
    knots[0].clobber(clobber_repo=True, clobber_image=True, clobber_pars=True)
    raised.append(error_of(lambda: knots[0].map([1])))
    again = ck.Knot(name="first-message", func=square, pars=shared, cloud=world.cloud)
    raised.append(error_of(lambda: knots[0].clobber(clobber_image=True)))
    for knot in (again, knots[1]):
        knot.clobber(clobber_results=True)
    shared.clobber()
    raised.append(error_of(lambda: shared.vpc))
    return raised


@AREA.case
def pars_that_aws_cannot_delete(world: World) -> BaseException:
    shared = ck.Pars("held-message", cloud=world.cloud)
    knot = ck.Knot(name="held-message", func=square, pars=shared, cloud=world.cloud)
    role = shared.ecs_instance_role.rpartition("/")[2]
    attachment = {"RoleName": role, "PolicyArn": "arn:aws:iam::aws:policy/AmazonSQSFullAccess"}
    world.cloud.call("iam", "attach_role_policy", **attachment)
    error = error_of(lambda: knot.clobber(clobber_pars=True))
    world.cloud.call("iam", "detach_role_policy", **attachment)
    shared.clobber()
    return error


@AREA.case
def two_names_with_one_name_in_aws(world: World) -> list[Exception]:
    shared = ck.Pars("lab_message", cloud=world.cloud)
    knot = ck.Knot(name="twin_message", func=square, pars=shared, cloud=world.cloud)
    raised = [
        error_of(lambda: ck.Knot(name="twin-message", func=cube, pars=shared, cloud=world.cloud)),
    ]
    knot.clobber(clobber_pars=True)
    hyphens = ck.Knot(name="twin-message", func=square, cloud=world.cloud)
    raised.append(error_of(lambda: ck.Knot(name="twin_message", cloud=world.cloud)))
    hyphens.clobber()
    return raised


class Meddled(ck.LocalCloud):
    """A session during which somebody else acts once, before or after its first call of an operation."""

    def __init__(self, world: World, operation: str, act: Callable[[], object], after: bool = False) -> None:
        super().__init__(world.cloud.directory)
        self.operation, self.acts, self.after = operation, [act], after

    def call(self, service: str, operation: str, **arguments: Any) -> Any:
        act = self.acts.pop() if operation == self.operation and self.acts else None
        if act and not self.after:
            act()
        answer = super().call(service, operation, **arguments)
        if act and self.after:
            act()
        return answer

    def pages(self, service: str, operation: str, **arguments: Any) -> Any:
        if operation == self.operation and self.acts:
            self.acts.pop()()
        return super().pages(service, operation, **arguments)


def _deny() -> None:
    raise ck.PermissionDeniedError(
        "Your AWS credentials do not allow cloudformation:delete_stack. Ask the administrator of your AWS account.",
        code="AccessDenied",
    )


@AREA.case
def clobber_without_permission(world: World) -> None:
    knot = ck.Knot(name="refused-message", func=square, cloud=world.cloud)
    try:
        ck.Knot(name="refused-message", cloud=Meddled(world, "delete_stack", _deny)).clobber()
    finally:
        knot.clobber()


@AREA.case
def half_removed_knot_with_jobs(world: World) -> None:
    state = SimpleNamespace(status="DELETE_FAILED", parameters={"JobQueueName": "lab-queue"})
    summary = {"jobSummaryList": [{"jobId": "1"}]}
    calls = SimpleNamespace(
        pages=lambda *_, **choices: [summary] if choices["jobStatus"] == "RUNNING" else [],
        command=Cloud("eu-west-1").command,
    )
    plan.refuse_half_removed(cast(Any, calls), "lab", cast(Any, state))


@AREA.case
def clobber_while_another_session_makes_the_knot_anew(world: World) -> None:
    knot = ck.Knot(name="both-message", func=square, cloud=world.cloud)

    def make_anew() -> None:
        knot.clobber()
        ck.Knot(name="both-message", func=square, cloud=world.cloud)

    # By name, the Pars is looked up after the jobs and revisions, and before the second look at the stack.
    session = Meddled(world, "list_jobs", make_anew)
    try:
        ck.Knot(name="both-message", cloud=session).clobber()
    finally:
        ck.Knot(name="both-message", cloud=world.cloud).clobber()


@AREA.case
def stale_pars_and_repository(world: World) -> list[Exception]:
    stale = ck.Pars("stale-message", cloud=world.cloud)
    ck.Pars("stale-message", cloud=world.cloud).clobber()
    raised = [error_of(lambda: ck.Knot(name="stale-message", func=square, pars=stale, cloud=world.cloud))]
    new = ck.Pars("stale-message", cloud=world.cloud)
    raised.append(error_of(stale.clobber))
    new.clobber()
    repository = ck.DockerRepo("stale-message", cloud=world.cloud)
    ck.DockerRepo("stale-message", cloud=world.cloud).clobber()
    newer = ck.DockerRepo("stale-message", cloud=world.cloud)
    raised.append(error_of(repository.clobber))
    newer.clobber()
    return raised


@AREA.case
def knot_that_two_sessions_change(world: World) -> None:
    knot = ck.Knot(name="raced-message", func=square, cloud=world.cloud)

    def change() -> None:
        ck.Knot(name="raced-message", func=square, max_vcpus=8, cloud=world.cloud)

    session = Meddled(world, "update_stack", change, after=True)
    ck.Knot(name="raced-message", func=square, max_vcpus=4, cloud=session)
    knot.clobber()


class ScriptedCalls:
    """A door to AWS that returns a prepared answer for each operation, or raises it."""

    region = "us-east-1"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def call(self, service: str, operation: str, **arguments: Any) -> Any:
        answer = self.answers[operation]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _answer(code: str) -> ck.CloudError:
    kinds = {"403": ck.PermissionDeniedError, "BucketAlreadyExists": ck.ResourceExistsException}
    return kinds.get(code, ck.CloudError)(f"AWS refused it: {code}", code=code, operation="s3:head_bucket")


@AREA.case
def bucket_of_another_account(world: World) -> None:
    calls = ScriptedCalls(head_bucket=_answer("403"))
    Bucket(cast(Any, calls), "data", "us-east-1").ensure({})


@AREA.case
def bucket_name_taken_by_another_account(world: World) -> None:
    missing = ck.ResourceDoesNotExistException("no such bucket", code="404")
    calls = ScriptedCalls(head_bucket=missing, create_bucket=_answer("BucketAlreadyExists"))
    Bucket(cast(Any, calls), "data", "us-east-1").ensure({})


@AREA.case
def missing_bucket_of_named_owner(world: World) -> None:
    calls = ScriptedCalls(head_bucket=ck.ResourceDoesNotExistException("no such bucket", code="404"))
    Bucket(cast(Any, calls), "data", "us-east-1", is_foreign=True).ensure({})


class EmptyPrefix(ScriptedCalls):
    """AWS for a user who may list one prefix without objects. S3 then denies requests for missing objects."""

    def pages(self, service: str, operation: str, **arguments: Any) -> Any:
        return iter([{"KeyCount": 0}])

    def persist(self, service: str, operation: str, call: Any) -> Any:
        return call()

    def open_quickly(self, bucket: str, key: str, span: Any) -> None:
        """Be not certain of an answer, so that the caller asks by ``call``."""


@AREA.case
def object_that_is_missing_in_permitted_prefix(world: World) -> None:
    Storage(cast(Any, EmptyPrefix(get_object=_answer("403"))), "data", "us-east-1").get("cloudknot.jobs/x/1/inputs")


@AREA.case
def bucket_in_another_region(world: World) -> None:
    calls = ScriptedCalls(head_bucket={"BucketRegion": "eu-west-1"}, get_bucket_tagging={"TagSet": []})
    Bucket(cast(Any, calls), "data", "us-east-1").ensure({})


@AREA.case
def bucket_that_is_not_empty(world: World) -> None:
    calls = ScriptedCalls(delete_bucket=_answer("BucketNotEmpty"))
    Bucket(cast(Any, calls), "data", "us-east-1").delete()


@AREA.case
def image_without_tag(world: World) -> None:
    Repository("cloudknot", cloud=ScriptedCalls(batch_get_image={"images": []})).add_tag("v1", "v2")


@AREA.case
def image_that_cannot_be_deleted(world: World) -> None:
    failure = {"imageId": {"imageDigest": "sha256:1"}, "failureReason": "it is in use"}
    Repository("cloudknot", cloud=ScriptedCalls(batch_delete_image={"failures": [failure]})).delete_images(
        ["sha256:1"]
    )


@AREA.case
def changes_of_existing_knot_and_pars(world: World) -> None:
    shared = ck.Pars("changed", cloud=world.cloud)
    ck.Pars("changed", policies=["AmazonS3FullAccess"], aws_resource_tags={"Lab": "x"}, cloud=world.cloud)
    ck.Pars("changed", permissions_boundary="ReadOnlyAccess", cloud=world.cloud)
    knot = ck.Knot(name="changed", func=square, pars=shared, cloud=world.cloud)
    ck.Knot(name="changed", func=square, pars=shared, memory=900, aws_resource_tags={"Lab": "x"}, cloud=world.cloud)
    knot.clobber(clobber_results=True)
    shared.clobber()


@AREA.case
def instance_profile_that_may_not_be_tagged(world: World) -> None:
    calls = ScriptedCalls(get_instance_profile=ck.PermissionDeniedError("Your AWS credentials do not allow it."))
    plan = SimpleNamespace(cloud=calls, options=SimpleNamespace(name="lab"))
    state = SimpleNamespace(outputs={"EcsInstanceProfile": "arn:aws:iam::1:instance-profile/x"}, tags={})
    pars._tag_profile(cast(Any, plan), cast(Any, state))


REASONS = (
    "The Role with name AWSServiceRoleForEC2SpotFleet cannot be found.",
    "The Role with name AWSServiceRoleForEC2Spot cannot be found.",
    "The Role with name AWSServiceRoleForBatch cannot be found.",
    "You are not subscribed to this service. OptInRequired",
    "Cannot delete entity, must detach all policies first.",
    "resource sg-1 has a dependent object",
    "Maximum number of job queues supported is 50",
    "Cannot exceed quota for RolesPerAccount: 1000",
    "The subnet ID 'subnet-1' does not exist",
    "Could not find IAM role arn:aws:iam::1:role/x",
    "The instance type 'p9.large' is not supported in this region",
    "Object already exists",
)


@AREA.case
def reasons_of_failed_stacks(world: World) -> list[Exception]:
    assert {advice for _, advice in ADVICE} == {advice_for(reason) for reason in REASONS}
    made = []
    for reason in REASONS:
        cloud = ScriptedCloud(create=["ROLLBACK_COMPLETE"])
        cloud.events = [event("Role", "CREATE_FAILED", reason), event("x", "CREATE_IN_PROGRESS", physical="id")]
        made.append(error_of(lambda scripted=cloud: scripted.stack().deploy(TEMPLATE, PARAMETERS)))
    return made
