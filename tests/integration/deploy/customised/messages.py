"""Refusals and news about templates of the user's own, and about knots that share the machines of another."""

from __future__ import annotations

import cloudknot as ck
from cloudknot.cli.printing.permissions import permissions
from cloudknot.cli.printing.template import template as template_command
from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.own_template import template_for
from cloudknot.options.choices import KnotOptions
from tests.helpers.functions import square
from tests.integration.messages.catalogue import Area, World, error_of

AREA = Area("customised")
AREA.refuses(
    KnotOptions.make,
    {"name": "pi-calc", "template": "mine.yaml"},
    {"name": "pi-calc", "compute": "other"},
    {"name": "pi-calc", "func": square, "compute": "other", "max_vcpus": 8},
    {"name": "pi-calc", "func": square, "compute": "other", "instance_types": "c6i"},
)


def _file(world: World, content: str | bytes) -> str:
    path = world.path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@AREA.case
def files_that_are_no_templates(world: World) -> list[Exception]:
    contents = ("Resources: [", "x", b"\xe9", "# " + "x" * template.LONGEST)
    made: list[Exception] = [error_of(lambda: template_for("knot", str(world.path / "missing.yaml"), {}))]
    made += [error_of(lambda text=content: template_for("knot", _file(world, text), {})) for content in contents]
    return made


@AREA.case
def template_without_needed_parts(world: World) -> None:
    template_for("knot", _file(world, "Description: Mine\nResources: {}\n"), {})


@AREA.case
def template_that_aws_refuses(world: World) -> None:
    text = template.load("knot").replace("RetentionInDays: 90", "RetentionInDays: !Ref Days")
    ck.Knot("templated", func=square, template=_file(world, text), cloud=world.cloud)


@AREA.case
def knot_and_pars_that_keep_their_templates(world: World) -> None:
    text = template.load("knot").replace("RetentionInDays: 90", "RetentionInDays: 30")
    pars_text = template.load("pars").replace("nothing comes in", "closed")
    try:
        ck.Pars("templated", template=_file(world, pars_text), cloud=world.cloud)
        pars = ck.Pars("templated", cloud=world.cloud)
        for path in (_file(world, text), None):
            ck.Knot("templated", func=square, template=path, pars=pars, cloud=world.cloud)
    finally:
        ck.Knot("templated", cloud=world.cloud).clobber(clobber_pars=True)


@AREA.case
def template_file_that_exists(world: World) -> None:
    template_command.main(["knot", "-o", _file(world, "mine")], standalone_mode=False)


@AREA.case
def compute_of_unknown_knot(world: World) -> None:
    ck.Knot("sharing", func=square, compute="nobody", cloud=world.cloud)


@AREA.case
def choices_that_shared_machines_exclude(world: World) -> list[Exception]:
    owner = ck.Knot("lending", func=square, cloud=world.cloud)
    user = ck.Knot("sharing", func=square, compute=owner)
    apart = ck.Knot("apart", func=square, cloud=world.cloud)
    try:
        return [
            error_of(lambda: ck.Knot("lending", func=square, compute=owner)),
            error_of(lambda: ck.Knot("apart", func=square, compute=owner)),
            error_of(lambda: ck.Knot("sharing", func=square, compute=apart)),
            error_of(lambda: ck.Knot("sharing", func=square, max_vcpus=8, cloud=world.cloud)),
            error_of(lambda: ck.Knot("another", func=square, compute=owner, n_gpus=1)),
            error_of(lambda: ck.Knot("another", func=square, compute=owner, cloud=ck.Cloud("eu-west-1"))),
            error_of(owner.clobber),
        ]
    finally:
        for knot in (user, owner, apart):
            knot.clobber()


@AREA.case
def policy_for_shared_queue_without_knot(world: World) -> None:
    permissions.main(["run", "--account", "1" * 12, "--compute", "owner"], standalone_mode=False)
