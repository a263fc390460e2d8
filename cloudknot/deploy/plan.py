"""The plan of a knot: read and checked once, before anything is made. The later stages take it and look no more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import Image
from cloudknot.aws.tags import with_own
from cloudknot.deploy import diff
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.cloudformation.template import Template, load
from cloudknot.deploy.ec2 import check_image, check_key_pair, platform_in
from cloudknot.deploy.inventory import stack_name
from cloudknot.deploy.pars import Pars, ParsPlan, plan_default_pars
from cloudknot.errors import refuse
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.options import config
from cloudknot.options.choices import KnotOptions
from cloudknot.options.validators import argument

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

ARCHITECTURES = {"linux/amd64": "X86_64", "linux/arm64": "ARM64"}
PLATFORMS = {architecture: platform for platform, architecture in ARCHITECTURES.items()}
FRESH = 30.0
"""Seconds for which the state of a stack is relied on. To build an image may take longer."""


@dataclass(frozen=True)
class KnotPlan:
    """A knot before it is made or brought up to date: the choices, and what they are to be applied to."""

    cloud: Cloud
    """In the knot's bucket: the one that it has, unless another one is chosen."""
    options: KnotOptions
    image: Image
    """For the platform of the instance types."""
    repository: str
    template: Template
    state: StackState | None
    """Of the knot's stack."""
    pars: Pars | ParsPlan
    """The Pars that the knot was given, or the plan of the default one."""
    read_at: float
    """Seconds of `time.time`, just before the stacks were read: it also passes while a machine sleeps."""

    @property
    def name(self) -> str:
        """Name of the knot's stack."""
        return stack_name(self.options.name)

    @property
    def known(self) -> Mapping[str, str]:
        """Parameters of the usable stack; none without one."""
        return known_parameters(self.state)

    def is_fresh(self) -> bool:
        """Whether the state was read a moment ago, so that it can be relied on."""
        return 0 <= time.time() - self.read_at < FRESH


def known_parameters(state: StackState | None) -> Mapping[str, str]:
    """Return the parameters of a usable stack; none without one."""
    return state.parameters if state is not None and state.usable else {}


def plan_knot(cloud: Cloud, options: KnotOptions, docker_image: DockerImage, pars: Pars | None) -> KnotPlan:
    """Read the stacks of the knot and of its Pars, and check whether the knot can be as it is wanted.

    A knot that exists keeps its bucket unless another one is chosen. Instance types that it does not have yet, or that
    are to hold larger jobs, are looked for in the region, and so are a machine image and a key pair that are new.

    Raises
    ------
    CloudknotInputError
        The region has no such instance type, image or key pair, the tags are too long, there is no such policy, or AWS
        cannot change the existing knot so.
    """
    name = stack_name(options.name)
    template = Template.of(load("knot"), with_own(options.aws_resource_tags, name))
    read_at = time.time()
    state = Stack(cloud, name).state()
    known = known_parameters(state)
    if known:
        diff.check_fixed(options, known)
    platform = _platform(cloud, options, known)
    _check_machines(cloud, options, known, platform)
    own = cloud.in_bucket(cloud.chosen_bucket or known.get("Bucket") or cloud.bucket)
    return KnotPlan(
        cloud=own,
        options=options,
        image=image_in(docker_image, platform, nocache=options.no_image_cache, tags=options.image_tags),
        repository=options.repo_name or config.ecr_repo(),
        template=template,
        state=state,
        pars=_pars(own, options, pars),
        read_at=read_at,
    )


def _pars(cloud: Cloud, options: KnotOptions, given: Pars | None) -> Pars | ParsPlan:
    policies = dict.fromkeys(options.pars_policies, "pars_policies")
    if given is None:
        if setting := config.bucket_policy():
            policies.setdefault(setting, "set_s3_params: policy")
        return plan_default_pars(cloud, options.aws_resource_tags, policies)
    if policies:
        refuse(
            problem=f"{argument('pars_policies', options.pars_policies)} cannot be combined with pars=.",
            cause="The policies belong to the Pars.",
            fix=f"Pass pars=Pars(policies={list(options.pars_policies)}), or remove pars=.",
        )
    return given


def _platform(cloud: Cloud, options: KnotOptions, known: Mapping[str, str]) -> str:
    """Return the platform of the image; the region is asked only about types that the knot does not have yet."""
    sizes = {"Memory": options.memory, "Vcpus": options.job_def_vcpus, "Gpus": options.n_gpus}
    same = known.get("InstanceTypes") == ",".join(options.instance_types) and "Architecture" in known
    if same and all(size <= int(known[parameter]) for parameter, size in sizes.items()):
        return PLATFORMS[known["Architecture"]]
    return platform_in(cloud, options)


def _check_machines(cloud: Cloud, options: KnotOptions, known: Mapping[str, str], platform: str) -> None:
    """Refuse a machine image or a key pair that is new and not there."""
    wanted = (options.image_id, ARCHITECTURES[platform])
    if options.image_id and wanted != (known.get("ImageId"), known.get("Architecture")):
        check_image(cloud, options.image_id, platform)
    if options.ec2_key_pair and options.ec2_key_pair != known.get("KeyPair"):
        check_key_pair(cloud, options.ec2_key_pair)
