"""Plan a knot: read the existing stacks and check the options, once and before anything is created.

Later stages use the plan and do not read again, so an unchanged knot costs one call for each resource.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudknot.aws import batch
from cloudknot.aws.images.image_store import Image
from cloudknot.aws.tags import with_own
from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation.own_template import template_for
from cloudknot.deploy.cloudformation.shared_compute import with_machines
from cloudknot.deploy.cloudformation.stack import DELETE_FAILED, Stack, StackState
from cloudknot.deploy.cloudformation.template import DIGEST, Template, is_same
from cloudknot.deploy.codebuild.choice import choose_builder
from cloudknot.deploy.ec2 import check_image, check_key_pair, platform_in
from cloudknot.deploy.inventory import stack_name
from cloudknot.deploy.pars import Pars, ParsPlan, check_exists, plan_default_pars
from cloudknot.errors import CannotCreateResourceException, refuse
from cloudknot.image.docker_image import DockerImage, image_in, target_in
from cloudknot.options import config
from cloudknot.options.choices import KnotOptions
from cloudknot.options.validators import argument

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud
    from cloudknot.image.image_builder import ImageBuilder

ARCHITECTURES = {"linux/amd64": "X86_64", "linux/arm64": "ARM64"}
PLATFORMS = {architecture: platform for platform, architecture in ARCHITECTURES.items()}
# Building an image takes minutes. Another session may change or delete the stack in that time.
FRESH = 30.0
"""Seconds for which a plan's state of the stack counts as current."""


@dataclass(frozen=True)
class KnotPlan:
    """A knot before its creation or update: the options, and the current state of its resources."""

    cloud: Cloud
    """The cloud with the knot's bucket."""
    options: KnotOptions
    image: Image
    """The image to publish, for the platform of the instance types."""
    repository: str
    template: Template
    state: StackState | None
    """State of the knot's stack; None without one."""
    pars: Pars | ParsPlan
    """The Pars from the user, or the plan of the default Pars."""
    builder: ImageBuilder | None
    """The builder of the image; None if nothing must run for it."""
    # Wall-clock time, because a monotonic clock may stand still while the machine sleeps.
    read_at: float
    """Value of `time.time` just before the stacks were read."""

    @property
    def name(self) -> str:
        """Name of the knot's stack."""
        return stack_name(self.options.name)

    @property
    def current(self) -> Mapping[str, str]:
        """Parameters of the usable stack; empty without one."""
        return current_parameters(self.state)

    def is_fresh(self) -> bool:
        """Return whether the state was read less than `FRESH` seconds ago."""
        return 0 <= time.time() - self.read_at < FRESH


def current_parameters(state: StackState | None) -> Mapping[str, str]:
    """Return the parameters of a usable stack; empty without one."""
    return state.parameters if state is not None and state.usable else {}


def plan_knot(cloud: Cloud, options: KnotOptions, docker_image: DockerImage, pars: Pars | None) -> KnotPlan:
    """Read the stacks of the knot and its Pars, check the options against them, and return the plan.

    An existing knot keeps its bucket unless the user has chosen another one. New instance types, a new machine image
    and a new key pair are looked up in the region. So are current instance types that must hold larger jobs.

    Raises
    ------
    CloudknotInputError
        An instance type, machine image, key pair or policy does not exist, the tags are too long, or AWS cannot change
        the existing knot in this way.
    ResourceClobberedException
        Somebody has clobbered the Pars.
    CannotCreateResourceException
        A removal of the knot failed half-way, and jobs go on in it.
    ImageError
        Something must run for the image, and there is neither a Docker engine nor the permission for CodeBuild.
    """
    name = stack_name(options.name)
    template = template_for("knot", options.template, with_own(options.aws_resource_tags, name))
    read_at = time.time()
    state = Stack(cloud, name).state()
    refuse_half_removed(cloud, options.name, state)
    current = current_parameters(state)
    options = with_machines(cloud, options, current)
    if current:
        diff.check_fixed(options, current)
    if template.chosen and not is_same(current.get(DIGEST), template.digest):
        Stack(cloud, name).check_template(template)
    platform = _platform(cloud, options, current)
    _check_machines(cloud, options, current, platform)
    # The bucket belongs to the knot rather than to the session. A session with other settings would otherwise find no
    # jobs, and its maps would store inputs where the jobs may not read.
    if state:
        cloud.door.owners.learn(state.account)
    keeps = current.get("Bucket") and not cloud.chosen_bucket
    own = cloud.in_bucket(current["Bucket"], current.get("BucketOwner", "")) if keeps else cloud
    image, repository = _image(own, options, docker_image, platform), options.repo_name or config.ecr_repo()
    planned_pars = _pars(own, options, pars)
    return KnotPlan(
        cloud=own,
        options=options,
        image=image,
        repository=repository,
        template=template,
        state=state,
        pars=planned_pars,
        builder=choose_builder(own, image, repository, _boundary(planned_pars)),
        read_at=read_at,
    )


def _boundary(pars: Pars | ParsPlan) -> str:
    """Return the ARN of the permissions boundary for the roles of a knot with this Pars; empty without one."""
    if isinstance(pars, Pars):
        return pars.permissions_boundary or ""
    return pars.boundary or pars.current.get("PermissionsBoundary", "")


def _image(cloud: Cloud, options: KnotOptions, docker_image: DockerImage, platform: str) -> Image:
    """Return the image for the jobs of a cloud, with its packages locked."""
    store = cloud.image_store
    login = cloud.repository(options.repo_name or config.ecr_repo()).login
    target = store.target if store else target_in(docker_image, platform, login)
    return image_in(docker_image, platform, nocache=options.no_image_cache, tags=options.image_tags, target=target)


def refuse_half_removed(cloud: Cloud, name: str, state: StackState | None) -> None:
    """Raise if AWS could not delete all of a knot, and jobs go on in its queue: a new stack would end them."""
    if state is None or state.status != DELETE_FAILED:
        return
    parameters = state.parameters
    # The queue of another knot has the jobs of others, too.
    definition = parameters["JobDefinitionName"] if parameters.get("Compute") else ""
    if jobs := batch.live_jobs(cloud, parameters["JobQueueName"], definition):
        raise CannotCreateResourceException(
            f"Somebody tried to clobber the knot {name!r}, and AWS could not delete all of it. Jobs are still waiting "
            f"or running in it ({len(jobs)}). Wait until they have ended and create the knot again, or finish its "
            f"removal, which ends them: `{cloud.command(f'clobber {name}')}`.",
            operation="cloudformation:create_stack",
            resource_id=name,
        )


def _pars(cloud: Cloud, options: KnotOptions, pars: Pars | None) -> Pars | ParsPlan:
    """Return the user's Pars, or plan the default one with the policies of the options and settings."""
    policies = dict.fromkeys(options.pars_policies, "pars_policies")
    if pars is None:
        if setting := config.bucket_policy():
            policies.setdefault(setting, "set_s3_params: policy")
        return plan_default_pars(cloud, options.aws_resource_tags, policies)
    if policies:
        refuse(
            problem=f"{argument('pars_policies', options.pars_policies)} cannot be combined with pars=.",
            cause="The policies belong to the Pars.",
            fix=f"Pass pars=Pars(policies={list(options.pars_policies)}), or remove pars=.",
        )
    check_exists(pars)
    return pars


def _platform(cloud: Cloud, options: KnotOptions, current: Mapping[str, str]) -> str:
    """Return the platform of the image.

    The region's instance types are looked up only for new types, or for larger jobs on the current ones.
    """
    sizes = {"Memory": options.memory, "Vcpus": options.job_def_vcpus, "Gpus": options.n_gpus}
    same = current.get("InstanceTypes") == ",".join(options.instance_types) and "Architecture" in current
    if same and all(size <= int(current[parameter]) for parameter, size in sizes.items()):
        return PLATFORMS[current["Architecture"]]
    return platform_in(cloud, options)


def _check_machines(cloud: Cloud, options: KnotOptions, current: Mapping[str, str], platform: str) -> None:
    """Raise if a new machine image or key pair does not exist."""
    # AWS would notice only when it starts the first machine. The knot would be created, and its jobs would wait for
    # ever.
    wanted = (options.image_id, ARCHITECTURES[platform])
    if options.image_id and wanted != (current.get("ImageId"), current.get("Architecture")):
        check_image(cloud, options.image_id, platform)
    if options.ec2_key_pair and options.ec2_key_pair != current.get("KeyPair"):
        check_key_pair(cloud, options.ec2_key_pair)
