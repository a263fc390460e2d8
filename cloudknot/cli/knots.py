"""The commands that list knots and their jobs, and that clobber knots."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import click

from cloudknot.cli.choice import choose_from, of_a_cloud
from cloudknot.cli.output import AS_JSON, as_time, confirm, echo_json, echo_table
from cloudknot.options.validators import near_matches

if TYPE_CHECKING:
    from cloudknot.aws.cloud import Cloud

NOTHING_DELETED = "Nothing was deleted (--dry-run)."


@click.command("list")
@AS_JSON
@of_a_cloud
def list_command(as_json: bool, cloud: str | None, region: str | None, profile: str | None) -> None:
    """List all knots of the account in a region."""
    # Each command imports its own stages, so a listing loads neither images nor runs.
    from cloudknot.deploy.account.resources import idle_cost
    from cloudknot.deploy.inventory import list_knots

    chosen = choose_from(cloud, region, profile)
    knots = list_knots(chosen)
    if as_json:
        echo_json([knot._asdict() for knot in knots])
        return
    if not knots:
        click.echo(f"There are no knots in {chosen.place}.")
        _echo_builds(chosen)
        return
    # The image has no column, because its name is longer than all the other cells. JSON has it.
    rows = [(knot.name, knot.status, as_time(knot.created), knot.pars, idle_cost(knot)) for knot in knots]
    echo_table(("Name", "Status", "Created (UTC)", "Pars", "Cost"), rows)
    _echo_builds(chosen)


def _echo_builds(cloud: Cloud) -> None:
    """Name the project for image builds, if there is one."""
    from cloudknot.deploy.cloudformation.stack import Stack
    from cloudknot.deploy.inventory import BUILDS

    if Stack(cloud, BUILDS).state():
        click.echo(
            f"AWS CodeBuild has the project {BUILDS} for the images of knots. It costs nothing while no image is "
            "built. `cloudknot clobber --all` removes it."
        )


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete all knots, shared resources and images.")
@click.option("--pars", is_flag=True, help="Also delete shared resources, unless other knots use them.")
@click.option("--image", is_flag=True, help="Also delete their images, unless other knots use them.")
@click.option("--repo", is_flag=True, help="Also delete the image repository, unless other knots use it.")
@click.option("--results", is_flag=True, help="Also delete inputs and results.")
@click.option("--dry-run", is_flag=True, help="Show the resources without deleting them.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@of_a_cloud
def clobber(
    names: tuple[str, ...],
    everything: bool,
    pars: bool,
    image: bool,
    repo: bool,
    results: bool,
    dry_run: bool,
    yes: bool,
    cloud: str | None,
    region: str | None,
    profile: str | None,
) -> None:
    """End the jobs of knots and delete their resources.

    NAME is the name of a knot. --all stands for everything that cloudknot created in the region. Inputs and results
    are kept unless you pass --results. After an interruption, run the same command again to finish.
    """
    if bool(names) == everything:
        problem = "--all cannot be combined with names." if names else "The name of a knot is missing."
        raise click.UsageError(f"{problem} Pass names that `cloudknot list` shows, or only --all.")
    chosen = choose_from(cloud, region, profile)
    if everything:
        if pars or image or repo:
            raise click.UsageError("--all already includes --pars, --image and --repo. Remove these options.")
        _clobber_all(chosen, results, dry_run, yes)
    else:
        _clobber_named(chosen, names, (pars, image, repo, results), dry_run, yes)


def _clobber_all(cloud: Cloud, results: bool, dry_run: bool, yes: bool) -> None:
    from cloudknot.deploy.account.resources import find_resources, remove
    from cloudknot.display.tables import table

    resources = find_resources(cloud)
    if not resources:
        click.echo(f"cloudknot has no resources in {cloud.place}.")
        return
    click.echo(table(("Resource", "Name", "Cost"), resources.rows()))
    click.echo(_fate_of_results([bucket.name for bucket in resources.buckets], results))
    if dry_run:
        click.echo(NOTHING_DELETED)
        return
    if not yes:
        confirm("Delete these resources?")
    failures = remove(cloud, resources, results, click.echo)
    if failures:
        raise click.ClickException(
            "Some resources could not be deleted. Remove each cause and run the command again.\n" + "\n".join(failures)
        )


def _clobber_named(
    cloud: Cloud, names: tuple[str, ...], also: tuple[bool, bool, bool, bool], dry_run: bool, yes: bool
) -> None:
    from cloudknot.deploy.account.clobber import Extras, UsedPars, clobber_knot, clobber_shared, remains
    from cloudknot.deploy.inventory import name_in_aws

    pars, image, repo, results = also
    named = {name: name_in_aws(cloud, name) for name in dict.fromkeys(names)}
    names = tuple(name for name in named.values() if name)
    # `ending` holds all names: knots that are clobbered together do not keep each other's images.
    chosen = Extras(repo=repo, image=image, results=results, ending=names)
    # With the ids of their stacks, because the person confirms the removal of these knots, and not of newer ones.
    found = {name: remains(cloud, name, chosen) for name in dict.fromkeys(names)}
    existing = {name: stack_id for name, stack_id in found.items() if stack_id is not None}
    missing = [typed for typed, name in named.items() if name not in existing]
    if existing:
        _announce(cloud, list(existing), also)
    if existing and dry_run:
        click.echo(NOTHING_DELETED)
    elif existing:
        if not yes:
            confirm("Delete these resources?")
        knot_of_pars: dict[UsedPars, str] = {}
        # Only its stack names the Pars of a knot, so clobber_knot returns that name.
        for name in _users_first(cloud, existing):
            used_pars, kept = clobber_knot(cloud, name, chosen, existing[name])
            knot_of_pars.setdefault(used_pars, name)
            click.echo("\n".join([f"Deleted knot {name}.", *kept]))
        # A Pars can be deleted only after all knots that use it.
        for used_pars, name in knot_of_pars.items():
            if pars and used_pars.name:
                kept_pars = clobber_shared(cloud, name, used_pars)
                click.echo(kept_pars or f"Deleted shared resources {used_pars.name}.")
    # Last, because the other knots are clobbered even if a name is misspelt.
    if missing:
        raise click.ClickException(_no_such_knots(cloud, missing))


def _users_first(cloud: Cloud, names: Collection[str]) -> list[str]:
    """Return names in an order of removal: knots on the machines of other knots before these."""
    from cloudknot.deploy.inventory import users_of_compute

    users = users_of_compute(cloud) if len(names) > 1 else {}
    return sorted(names, key=lambda name: name not in users)


def _announce(cloud: Cloud, names: list[str], also: tuple[bool, bool, bool, bool]) -> None:
    from cloudknot.deploy.account.buckets import clouds_of_knot

    words = ("shared resources", "images", "image repository", "inputs and results")
    extras = [word for word, included in zip(words, also, strict=True) if included]
    knots = f"knot{'s' * (len(names) > 1)} {', '.join(names)}"
    buckets = dict.fromkeys(place.bucket for name in names for place in clouds_of_knot(cloud, name))
    shared = " Those that other knots use are kept." if any(also[:3]) else ""
    click.echo(f"To delete in {cloud.place}: {', '.join([knots, *extras])}.{shared}")
    click.echo(_fate_of_results(buckets, also[3]))


def _no_such_knots(cloud: Cloud, names: list[str]) -> str:
    from cloudknot.deploy.inventory import list_knots

    existing = [knot.name for knot in list_knots(cloud)]
    near = list(dict.fromkeys(match for name in names for match in near_matches(name, existing)))
    matches = f" Near matches: {', '.join(near)}." if near else ""
    quoted = ", ".join(map(repr, names))
    command = cloud.command("list")
    return f"There is no knot named {quoted} in {cloud.place}.{matches} Run `{command}` to see all knots there."


def _fate_of_results(buckets: Iterable[str], results: bool) -> str:
    if not (places := ", ".join(buckets)):
        return "No inputs or results are stored."
    if results:
        return f"Inputs and results in {places} are deleted. A bucket with versioning keeps their old versions."
    return f"Inputs and results in {places} are kept. To delete them as well, pass --results."
