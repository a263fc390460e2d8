"""Pars: the roles and the network that a user's knots share, as one stack."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.permissions.managed_policies import names_of, policy_arns
from cloudknot.aws.tags import tag_list, with_own, without_own
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.cloudformation.template import Template, load
from cloudknot.deploy.diff import of_tags
from cloudknot.deploy.inventory import knots_of_pars, pars_stack_name
from cloudknot.deploy.pars_parameters import bucket_arn, lacking_policies, wanted_parameters
from cloudknot.errors import CannotDeleteResourceException, CloudError, ResourceClobberedException, refuse
from cloudknot.options.choices import ParsOptions
from cloudknot.options.validators import argument

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

_log = logging.getLogger("cloudknot")


class Pars:
    """The resources shared by a user's knots: roles, security group, VPC and subnets.

    Making one makes the stack ``<name>-cloudknot-pars``, or adopts it when it exists; then what is not given stays as
    it is. Nothing in it costs money.

    Parameters
    ----------
    name : str
        Default: ``"default"``.
    batch_service_role_name, spot_fleet_role_name : str, optional
        Makes a role of that name. Default: AWS's service-linked role.
    ecs_instance_role_name : str, optional
        Default: a name that CloudFormation makes.
    policies : str or sequence of str
        Names or ARNs of managed policies that jobs of all its knots get, for example ``"AmazonS3FullAccess"``, besides
        reading and writing the knots' runs. Those that the Pars already has stay until it is clobbered.
    use_default_vpc : bool
        False makes a new VPC with two public subnets and an S3 endpoint, as does a region without a default VPC.
    ipv4_cidr : str, optional
        Addresses of the new VPC. Default: ``"10.0.0.0/16"``.
    instance_tenancy : {"default", "dedicated"}, optional
        Of the new VPC.
    aws_resource_tags : dict or list of dict, optional
        Default: Owner, Environment and Name.
    cloud : Cloud or {"aws", "local"}, optional
        Default: the settings'.

    Raises
    ------
    CloudknotInputError
        A value is not accepted; nothing was made.
    CannotCreateResourceException
        A resource could not be made; the message says which and why.
    """

    def __init__(
        self,
        name: str | None = None,
        batch_service_role_name: str | None = None,
        ecs_instance_role_name: str | None = None,
        spot_fleet_role_name: str | None = None,
        policies: str | Sequence[str] = (),
        use_default_vpc: bool = True,
        ipv4_cidr: str | None = None,
        instance_tenancy: str | None = None,
        aws_resource_tags: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        *,
        cloud: Cloud | str | None = None,
    ) -> None:
        options = ParsOptions.make(
            name=name,
            batch_service_role_name=batch_service_role_name,
            ecs_instance_role_name=ecs_instance_role_name,
            spot_fleet_role_name=spot_fleet_role_name,
            policies=policies,
            use_default_vpc=use_default_vpc,
            ipv4_cidr=ipv4_cidr,
            instance_tenancy=instance_tenancy,
            aws_resource_tags=aws_resource_tags,
        )
        self._deploy(plan_pars(choose_cloud(cloud), options))

    def _deploy(self, plan: ParsPlan) -> None:
        self._options, self._cloud = plan.options, plan.cloud
        self._state = deploy_pars(plan)
        self._clobbered = False

    def __repr__(self) -> str:
        return f"Pars(name={self.name!r})"

    @property
    def name(self) -> str:
        """Name of the Pars."""
        return self._options.name

    @property
    def stack_id(self) -> str:
        """Id of its stack."""
        return self._live().stack_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags on these resources: those they were made with."""
        return without_own(self._live().tags)

    @property
    def batch_service_role(self) -> str:
        """ARN of the role that Batch itself has."""
        return self._output("BatchServiceRole")

    @property
    def ecs_instance_role(self) -> str:
        """ARN of the role of the instances that jobs run on."""
        return self._output("EcsInstanceRole")

    @property
    def ecs_instance_profile(self) -> str:
        """ARN of the instance profile around that role."""
        return self._output("EcsInstanceProfile")

    @property
    def spot_fleet_role(self) -> str:
        """ARN of the role for Spot fleets; no compute environment of cloudknot's needs one."""
        return self._output("SpotFleetRole")

    @property
    def job_role(self) -> str:
        """ARN of the role that the user's function has."""
        return self._output("JobRole")

    @property
    def execution_role(self) -> str:
        """ARN of the role that pulls images and writes logs."""
        return self._output("ExecutionRole")

    @property
    def vpc(self) -> str:
        """Id of the VPC."""
        return self._output("Vpc")

    @property
    def subnets(self) -> list[str]:
        """Ids of the subnets."""
        return self._output("Subnets").split(",")

    @property
    def security_group(self) -> str:
        """Id of the security group of the instances, which lets nothing in."""
        return self._output("SecurityGroup")

    @property
    def clobbered(self) -> bool:
        """Whether these resources were deleted."""
        return self._clobbered

    def clobber(self) -> None:
        """Delete these resources. Raises `CannotDeleteResourceException` while a knot still uses them."""
        delete_pars(self._cloud, self.name)
        self._clobbered = True

    def _live(self) -> StackState:
        if self._clobbered:
            raise ResourceClobberedException(
                f"The Pars {self.name!r} was clobbered and cannot be used any more. "
                f"Pars(name={self.name!r}) makes it anew."
            )
        return self._state

    def _output(self, name: str) -> str:
        return self._live().outputs[name]


@dataclass(frozen=True)
class ParsPlan:
    """A Pars before it is made or changed: the choices, and its stack as it was read."""

    cloud: Cloud
    options: ParsOptions
    template: Template
    state: StackState | None
    policies: Mapping[str, str]
    """ARNs of the policies asked for that the stack did not have, by name or ARN."""
    by_knot: bool = False
    """Whether a knot makes it, with its own tags. Knots with other tags share it, so nothing is said of kept tags."""

    @property
    def name(self) -> str:
        return pars_stack_name(self.options.name)

    @property
    def known(self) -> Mapping[str, str]:
        """Parameters of the usable stack; none without one."""
        return self.state.parameters if self.state is not None and self.state.usable else {}


def plan_pars(cloud: Cloud, options: ParsOptions, policies: Mapping[str, str] | None = None) -> ParsPlan:
    """Read the stack, and check before anything is made whether it can be as it is wanted.

    Parameters
    ----------
    policies : mapping of str to str, optional
        The parameter that the caller was given each policy by. Default: ``policies``.

    Raises
    ------
    CloudknotInputError
        There is no such policy, the tags are too long, or AWS would have to replace what the knots of the Pars use.
    """
    name = pars_stack_name(options.name)
    template = Template.of(load("pars"), with_own(options.aws_resource_tags, name))
    plan = ParsPlan(cloud, options, template, Stack(cloud, name).state(), {})
    if plan.known:
        check_fixed(options, plan.known)
    lacking = lacking_policies(options.policies, plan.known)
    given_by = policies or dict.fromkeys(lacking, "policies")
    return replace(plan, policies=policy_arns(cloud, {each: given_by[each] for each in lacking}) if lacking else {})


def plan_default_pars(cloud: Cloud, tags: Mapping[str, str], policies: Mapping[str, str]) -> ParsPlan:
    """Plan the Pars that a knot makes or finds when it is given none: see `plan_pars`."""
    options = ParsOptions.make(aws_resource_tags={key: value for key, value in tags.items() if key != "Name"})
    return replace(plan_pars(cloud, replace(options, policies=tuple(policies)), policies), by_knot=True)


def make_pars(plan: ParsPlan) -> Pars:
    """Return the Pars of a plan, made or adopted."""
    pars = Pars.__new__(Pars)
    pars._deploy(plan)
    return pars


def let_use(pars: Pars, bucket: str) -> None:
    """Let jobs use the runs in that bucket, too, if they may not yet."""
    arn = bucket_arn(pars._cloud, bucket)
    if arn not in pars._live().parameters["BucketArns"].split(","):
        pars._deploy(plan_pars(pars._cloud.in_bucket(bucket), pars._options))


def mark_clobbered(pars: Pars) -> None:
    """Have a Pars whose resources were deleted refuse use from now on."""
    pars._clobbered = True


def deploy_pars(plan: ParsPlan) -> StackState:
    """Make, adopt or update the stack of a plan."""
    stack = Stack(plan.cloud, plan.name)
    state = stack.deploy_from(plan.state, plan.template, partial(_parameters, plan))
    _tag_profile(plan, state)
    if not plan.by_knot:
        _tell_kept_tags(plan, state)
    _tell_new_policies(plan, state)
    return state


def _parameters(plan: ParsPlan, state: StackState | None) -> dict[str, str]:
    """Return the parameters for the stack as it now is: another session may have added its own meanwhile."""
    known = state.parameters if state else {}
    if known:
        check_fixed(plan.options, known)
    return wanted_parameters(plan.cloud, plan.options, known, plan.policies)


def _tag_profile(plan: ParsPlan, state: StackState) -> None:
    """Tag what CloudFormation cannot tag, the instance profile; a session that was interrupted may not have."""
    name = state.outputs["EcsInstanceProfile"].rpartition("/")[2]
    iam = clients.iam(plan.cloud)
    try:
        found = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        has = {tag["Key"] for tag in found.get("Tags", ())}
        if lacking := {key: value for key, value in state.tags.items() if key not in has}:
            iam.tag_instance_profile(InstanceProfileName=name, Tags=tag_list(lacking))
    except CloudError as error:
        _log.warning("The instance profile %s of Pars %r could not be tagged: %s", name, plan.options.name, error)


def _tell_kept_tags(plan: ParsPlan, state: StackState) -> None:
    if kept := of_tags(plan.options, state.tags):
        _log.warning(
            "The Pars %r keeps its tags, which it got when it was made; not set: %s. To have them, clobber its "
            "knots and it, and make them anew; results stay.",
            plan.options.name,
            ", ".join(kept),
        )


def _tell_new_policies(plan: ParsPlan, state: StackState) -> None:
    """Warn when new policies reach knots that already use this Pars."""
    if not plan.known:
        return
    had, has = (parameters.get("Policies", "").split(",") for parameters in (plan.known, state.parameters))
    if new := [arn for arn in has if arn not in had]:
        _log.warning(
            "The Pars %r, which was there already, gets more policies: %s. Jobs of all its knots have them from "
            "now on, until the Pars itself is clobbered. For one knot only, make it a Pars of its own.",
            plan.options.name,
            ", ".join(names_of(arn)[1] for arn in new),
        )


def check_fixed(options: ParsOptions, known: Mapping[str, str]) -> None:
    """Refuse choices that a Pars cannot get once it exists; ``known`` are the parameters of its stack.

    Raises
    ------
    CloudknotInputError
        AWS would have to replace what the knots of these Pars use.
    """
    cause = "AWS cannot exchange it while knots use it."
    fix = "Pass another name= for a new Pars, or clobber the knots of this Pars and then the Pars itself."
    if not options.use_default_vpc and known.get("VpcId"):
        refuse(
            problem=f"use_default_vpc=False cannot replace the network {known['VpcId']} of the Pars {options.name!r}.",
            cause=cause,
            fix=fix,
        )
    fixed = {
        "ipv4_cidr": (options.ipv4_cidr, "VpcCidr"),
        "instance_tenancy": (options.instance_tenancy, "InstanceTenancy"),
        "batch_service_role_name": (options.batch_service_role_name, "BatchServiceRoleName"),
    }
    for choice, (value, parameter) in fixed.items():
        if value is not None and value != known.get(parameter, ""):
            present = f"has {known[parameter]!r}" if known.get(parameter) else "has none"
            refuse(
                problem=f"{argument(choice, value)} cannot be set: the Pars {options.name!r} exists and {present}.",
                cause=cause,
                fix=fix,
            )


def delete_pars(cloud: Cloud, name: str) -> None:
    """Delete the resources of a Pars; without any there is nothing to do.

    AWS itself would delete the roles of compute environments that are idle, which are of no use from then on.

    Raises
    ------
    CannotDeleteResourceException
        A knot uses them, or AWS refused.
    """
    if users := knots_of_pars(cloud, name):
        raise CannotDeleteResourceException(
            f"The Pars {name!r} is used by {_named(users)} and was kept; it costs nothing. Clobber "
            f"{'that' if len(users) == 1 else 'those'} first (`cloudknot clobber {' '.join(users)}`), then "
            f"Pars(name={name!r}).clobber().",
            operation="cloudformation:delete_stack",
        )
    Stack(cloud, pars_stack_name(name)).delete()


def _named(knots: list[str]) -> str:
    return f"the knot{'s' * (len(knots) > 1)} {', '.join(map(repr, knots))}"
