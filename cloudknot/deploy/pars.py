"""Pars: the roles and the network that several knots share, in one CloudFormation stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING

from cloudknot.aws import clients
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.permissions.managed_policies import names_of, policy_arns
from cloudknot.aws.tags import tag_list, with_own, without_own
from cloudknot.deploy.cloudformation.own_template import template_for
from cloudknot.deploy.cloudformation.pars_parameters import boundary_arn, missing_policies, wanted_parameters
from cloudknot.deploy.cloudformation.stack import Stack, StackState
from cloudknot.deploy.cloudformation.template import DIGEST, SPELLING, Template, is_same
from cloudknot.deploy.diff import check_spelling, unset_tags
from cloudknot.deploy.inventory import knots_of_pars, pars_stack_name
from cloudknot.errors import CannotDeleteResourceException, CloudError, ResourceClobberedException, refuse
from cloudknot.image.unused_images import knots_that
from cloudknot.options import streams
from cloudknot.options.choices import ParsOptions
from cloudknot.options.public import public
from cloudknot.options.validators import argument

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud


@public
class Pars:
    """The AWS resources that several knots share: roles, security group, VPC and subnets.

    ``Pars(...)`` creates the stack ``<name>-cloudknot-pars``, or adopts an existing one. Arguments that are
    not passed keep the values of an existing Pars. None of these resources costs money.

    Parameters
    ----------
    name : str
        Default: ``"default"``.
    batch_service_role_name, spot_fleet_role_name : str, optional
        Name of a new role for Batch, or for Spot fleets. Default: AWS's service-linked role.
    ecs_instance_role_name : str, optional
        Name of the role for the machines. Default: CloudFormation chooses one.
    policies : str or sequence of str
        Names or ARNs of IAM managed policies for the jobs of all knots that use this Pars, for example
        ``"AmazonS3FullAccess"``. Jobs may always read and write the runs of their knot. The policies of an existing
        Pars stay until it is clobbered. A knot gets new ones when it is next created or updated.
    use_default_vpc : bool
        False creates a new VPC with two public subnets and an S3 endpoint. A region without a default VPC always
        gets one.
    ipv4_cidr : str, optional
        Addresses of the new VPC. Default: ``"10.0.0.0/16"``.
    instance_tenancy : {"default", "dedicated"}, optional
        Tenancy of machines in the new VPC.
    aws_resource_tags : dict or list of dict, optional
        Tags for the resources. Default: Owner, Environment and Name.
    cloud : Cloud or {"aws", "local"}, optional
        Default: the cloud of the settings.
    permissions_boundary : str, optional
        Name or ARN of an IAM managed policy that limits all roles, as an account may demand. It limits the roles of an
        existing Pars, too. Default: the setting ``CLOUDKNOT_PERMISSIONS_BOUNDARY``, or else the current boundary.
    template : str or Path, optional
        A CloudFormation template of your own, made from the output of ``cloudknot template pars``. Default: that of
        the existing Pars, else cloudknot's.

    Raises
    ------
    CloudknotInputError
        An argument is not valid. Nothing was created.
    CannotCreateResourceException
        A resource could not be created; the message names it with AWS's reason.
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
        permissions_boundary: str | None = None,
        template: str | PathLike[str] | None = None,
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
            permissions_boundary=permissions_boundary,
            template=template,
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
        """The tags that the resources got at their creation."""
        return without_own(self._live().tags)

    @property
    def batch_service_role(self) -> str:
        """ARN of the role of the Batch service."""
        return self._output("BatchServiceRole")

    @property
    def ecs_instance_role(self) -> str:
        """ARN of the role of the machines that jobs run on."""
        return self._output("EcsInstanceRole")

    @property
    def ecs_instance_profile(self) -> str:
        """ARN of the instance profile, which gives the machines their role."""
        return self._output("EcsInstanceProfile")

    @property
    def spot_fleet_role(self) -> str:
        """ARN of the role for Spot fleets. cloudknot's own compute environments do not need it."""
        return self._output("SpotFleetRole")

    @property
    def job_role(self) -> str:
        """ARN of the job role that earlier versions shared among all knots; empty without one.

        Now each knot has its own: `Knot.job_role`.
        """
        return self._live().outputs.get("JobRole", "")

    @property
    def policies(self) -> list[str]:
        """ARNs of the managed policies for the jobs of all knots."""
        return [arn for arn in self._live().parameters.get("Policies", "").split(",") if arn]

    @property
    def execution_role(self) -> str:
        """ARN of the role for pulling images and writing logs."""
        return self._output("ExecutionRole")

    @property
    def permissions_boundary(self) -> str | None:
        """ARN of the policy that limits these roles; None without one."""
        return self._live().parameters.get("PermissionsBoundary") or None

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
        """Id of the security group of the machines. It allows no incoming connections."""
        return self._output("SecurityGroup")

    @property
    def clobbered(self) -> bool:
        """Whether this object has deleted its resources."""
        return self._clobbered

    def clobber(self) -> None:
        """Delete these resources; raise `CannotDeleteResourceException` while a knot uses them."""
        delete_pars(self._cloud, self.name, self._state.stack_id)
        self._clobbered = True

    def _live(self) -> StackState:
        if self._clobbered:
            raise ResourceClobberedException(
                f"The Pars {self.name!r} was clobbered and can no longer be used. "
                f"Create it again: Pars(name={self.name!r}).",
                resource_id=self.name,
            )
        return self._state

    def _output(self, name: str) -> str:
        return self._live().outputs[name]


@dataclass(frozen=True)
class ParsPlan:
    """A Pars before its creation or update: the options, and the current state of its stack."""

    cloud: Cloud
    options: ParsOptions
    template: Template
    state: StackState | None
    policies: Mapping[str, str]
    """ARNs of the requested policies that the stack lacks, by name or ARN."""
    boundary: str = ""
    """ARN of the requested permissions boundary; empty to keep the current one."""
    by_knot: bool = False
    """Whether a knot creates the Pars, with the knot's own tags."""

    @property
    def name(self) -> str:
        return pars_stack_name(self.options.name)

    @property
    def current(self) -> Mapping[str, str]:
        """Parameters of the usable stack; empty without one."""
        return self.state.parameters if self.state is not None and self.state.usable else {}


def plan_pars(cloud: Cloud, options: ParsOptions, policies: Mapping[str, str] | None = None) -> ParsPlan:
    """Read the stack, and check the options against it before anything is created.

    Parameters
    ----------
    cloud : Cloud
    options : ParsOptions
    policies : mapping of str to str, optional
        For each policy, the user's parameter that named it, for error messages. Default: ``"policies"``.

    Raises
    ------
    CloudknotInputError
        A policy or the boundary does not exist, the tags are too long, or AWS would have to replace resources that
        knots use.
    """
    name = pars_stack_name(options.name)
    template = template_for("pars", options.template, with_own(options.aws_resource_tags, name))
    plan = ParsPlan(cloud, options, template, Stack(cloud, name).state(), {})
    if plan.current:
        check_fixed(options, plan.current)
    if template.chosen and not is_same(plan.current.get(DIGEST), template.digest):
        Stack(cloud, name).check_template(template)
    plan = replace(plan, boundary=boundary_arn(cloud, options, plan.current))
    # Looked up before the image is built, so that a misspelt policy is an error while nothing exists yet.
    missing = missing_policies(options.policies, plan.current)
    if not missing:
        return plan
    origins = policies or dict.fromkeys(missing, "policies")
    return replace(plan, policies=policy_arns(cloud, {policy: origins[policy] for policy in missing}))


def plan_default_pars(cloud: Cloud, tags: Mapping[str, str], policies: Mapping[str, str]) -> ParsPlan:
    """Plan the default Pars, for a knot without a ``pars`` argument: see `plan_pars`."""
    # Not the knot's Name, since other knots share the resources.
    options = ParsOptions.make(aws_resource_tags={key: value for key, value in tags.items() if key != "Name"})
    return replace(plan_pars(cloud, replace(options, policies=tuple(policies)), policies), by_knot=True)


def make_pars(plan: ParsPlan) -> Pars:
    """Return the Pars of a plan, created or adopted."""
    # Not by `__init__`, which would read the stack and check the options again.
    pars = Pars.__new__(Pars)
    pars._deploy(plan)
    return pars


def check_pars(pars: object) -> None:
    """Refuse an argument ``pars`` of `Knot` that is not a `Pars`."""
    if pars is None or isinstance(pars, Pars):
        return
    # Knot(name, f) passes the function as the second parameter, which is pars. Without func=, the knot of that name
    # would go on running its earlier function.
    if callable(pars):
        refuse(
            problem=f"{argument('pars', pars)} is a function, not a Pars.",
            fix=f"Pass it by keyword: func={getattr(pars, '__name__', 'f')}.",
        )
    name = pars if isinstance(pars, str) else "lab"
    refuse(problem=f"{argument('pars', pars)} is not a Pars.", fix=f"Pass for example pars=cloudknot.Pars({name!r}).")


def mark_clobbered(pars: Pars) -> None:
    """Mark a Pars as clobbered after its resources were deleted without it."""
    pars._clobbered = True


def deploy_pars(plan: ParsPlan) -> StackState:
    """Create, adopt or update the stack of a plan, and return its state."""
    stack = Stack(plan.cloud, plan.name)
    # Another spelling is refused, and a stack of an earlier version has none.
    state = stack.deploy_from(plan.state, plan.template, partial(_parameters, plan), ignore=(SPELLING,))
    _tag_profile(plan, state)
    # Knots with different tags share the default Pars, so a warning about its tags would come for each of them.
    if not plan.by_knot:
        _warn_of_unset_tags(plan, state)
        _warn_of_kept_template(plan, state)
    _warn_of_new_policies(plan, state)
    return state


def _parameters(plan: ParsPlan, state: StackState | None) -> dict[str, str]:
    """Return the parameters for the stack in its current state."""
    # Another session may have added policies or buckets since the plan was made. They stay.
    current = state.parameters if state else {}
    if current:
        check_fixed(plan.options, current)
    return wanted_parameters(plan.cloud, plan.options, current, plan.policies, plan.boundary)


def _tag_profile(plan: ParsPlan, state: StackState) -> None:
    """Add the stack's tags to the instance profile."""
    # CloudFormation cannot tag instance profiles. An existing profile is checked, too, since the session that created
    # it may have been interrupted before this step.
    name = state.outputs["EcsInstanceProfile"].rpartition("/")[2]
    iam = clients.iam(plan.cloud)
    try:
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        existing = {tag["Key"] for tag in profile.get("Tags", ())}
        if missing := {key: value for key, value in state.tags.items() if key not in existing}:
            iam.tag_instance_profile(InstanceProfileName=name, Tags=tag_list(missing))
    except CloudError as error:
        # Only a warning, because the Pars works without these tags.
        streams.logger.warning(
            "The instance profile %s of the Pars %r has no tags, but works without them. Cause: %s",
            name,
            plan.options.name,
            error,
        )


def _warn_of_unset_tags(plan: ParsPlan, state: StackState) -> None:
    if tags := unset_tags(plan.options, state.tags):
        streams.logger.warning(
            "The Pars %r keeps the tags from its creation. These tags are not set: %s. To set them, clobber the "
            "Pars with all its knots and create them again (results stay): `%s`.",
            plan.options.name,
            ", ".join(tags),
            plan.cloud.command("clobber --pars KNOT ..."),
        )


def _warn_of_kept_template(plan: ParsPlan, state: StackState) -> None:
    if plan.template.is_kept_by(state.parameters):
        streams.logger.warning(
            "The Pars %r keeps the template of your own. To return to cloudknot's, run "
            "`cloudknot template pars > pars.yaml` and pass Pars(%r, template='pars.yaml').",
            plan.options.name,
            plan.options.name,
        )


def _warn_of_new_policies(plan: ParsPlan, state: StackState) -> None:
    """Log a warning when new policies or a boundary reach knots that already use this Pars."""
    if not plan.current:
        return
    boundary = state.parameters.get("PermissionsBoundary", "")
    if boundary != plan.current.get("PermissionsBoundary", ""):
        streams.logger.warning(
            "The roles of the existing Pars %r get the permissions boundary %s. The job role of each of its knots "
            "gets it when the knot is next created or updated.",
            plan.options.name,
            names_of(boundary)[1],
        )
    before, after = (parameters.get("Policies", "").split(",") for parameters in (plan.current, state.parameters))
    if new := [arn for arn in after if arn not in before]:
        streams.logger.warning(
            "The existing Pars %r gets more policies: %s. Each of its knots gives them to its jobs when it is next "
            "created or updated, until the Pars is clobbered. To limit policies to one knot, give it a Pars of its "
            "own: "
            'Knot(..., pars=Pars("NAME", policies=...)).',
            plan.options.name,
            ", ".join(names_of(arn)[1] for arn in new),
        )


def check_fixed(options: ParsOptions, current: Mapping[str, str]) -> None:
    """Raise if options would change fixed parts of an existing Pars. ``current`` holds its stack parameters.

    Raises
    ------
    CloudknotInputError
        AWS would have to replace resources that knots use.
    """
    cause = "AWS cannot replace this resource while knots use the Pars."
    fix = "Pass another name= for a new Pars, or clobber the knots of this Pars and then the Pars itself."
    check_spelling("Pars", options, current.get(SPELLING, options.name))
    # The opposite is no error: True is the default, and a Pars with a VPC of its own keeps that one.
    if not options.use_default_vpc and current.get("VpcId"):
        refuse(
            problem=f"use_default_vpc=False cannot replace the network {current['VpcId']} of the existing Pars "
            f"{options.name!r}.",
            cause=cause,
            fix=fix,
        )
    fixed = {
        "ipv4_cidr": (options.ipv4_cidr, "VpcCidr"),
        "instance_tenancy": (options.instance_tenancy, "InstanceTenancy"),
        "batch_service_role_name": (options.batch_service_role_name, "BatchServiceRoleName"),
    }
    for choice, (value, parameter) in fixed.items():
        if value is not None and value != current.get(parameter, ""):
            present = f"has {choice}={current[parameter]!r}" if current.get(parameter) else f"has no {choice}"
            refuse(
                problem=f"{argument(choice, value)} cannot be set: the existing Pars {options.name!r} {present}.",
                cause=cause,
                fix=fix,
            )


def check_exists(pars: Pars) -> None:
    """Raise `ResourceClobberedException` if the resources of a Pars were deleted, by this session or another one."""
    if Stack(pars._cloud, pars_stack_name(pars.name)).state(pars.stack_id) is None:
        raise ResourceClobberedException(
            f"Another session has clobbered the Pars {pars.name!r}, so no knot can use it. "
            f"Create it again, or connect to a new one of that name: Pars(name={pars.name!r}).",
            resource_id=pars.name,
        )


def delete_pars(cloud: Cloud, name: str, stack_id: str | None = None) -> None:
    """Delete the resources of a Pars. Does nothing without any.

    Parameters
    ----------
    cloud : Cloud
    name : str
    stack_id : str, optional
        The id of its stack when the caller last saw it. A newer Pars of the same name is then left unchanged. Default:
        the Pars that has the name now.

    Raises
    ------
    CannotDeleteResourceException
        A knot uses them, or AWS could not delete them.
    ResourceClobberedException
        The Pars was clobbered, and a newer one has its name.
    """
    stack = Stack(cloud, pars_stack_name(name))
    state = stack.state()
    if state is None:
        return
    if stack_id is not None and state.stack_id != stack_id:
        raise ResourceClobberedException(
            f"The Pars {name!r} was already clobbered, and a new Pars with its name exists. The new one was left "
            f"unchanged. To clobber it, run Pars(name={name!r}).clobber().",
            resource_id=name,
        )
    # CloudFormation does not refuse by itself. It would delete the roles of an idle compute environment, which could
    # then be neither used nor deleted.
    if users := knots_of_pars(cloud, name):
        raise CannotDeleteResourceException(
            f"The Pars {name!r} was not deleted, because {knots_that(users, 'use')} it. "
            f"It costs nothing. To delete it, clobber {'those knots' if len(users) > 1 else 'that knot'}, too: "
            f"`{cloud.command(' '.join(['clobber --pars', *users]))}`.",
            operation="cloudformation:delete_stack",
            resource_id=name,
        )
    stack.delete(state.stack_id)
