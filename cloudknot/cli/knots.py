"""The commands for knots: what there is, its jobs, and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from cloudknot.aws.cloud import Cloud, choose_cloud
from cloudknot.options.validators import near_matches

Command = TypeVar("Command", bound=Callable[..., object])

CLOUD = click.option("--cloud", type=click.Choice(["aws", "local"]), help="Default: the settings'.")
REGION = click.option("--region", help="AWS region. Default: the settings'.")
PROFILE = click.option("--profile", help="AWS profile. Default: the settings'.")


def _of_a_cloud(command: Command) -> Command:
    """Add the options that choose a cloud to a command."""
    return CLOUD(REGION(PROFILE(command)))


def _choose(cloud: str | None, region: str | None, profile: str | None) -> Cloud:
    chosen = choose_cloud(cloud)
    if not region and not profile:
        return chosen
    if not chosen.has_regions:
        raise click.UsageError("--region and --profile are AWS's; the embedded cloud has neither.")
    return Cloud(region, profile)


@click.command("list")
@_of_a_cloud
def list_command(cloud: str | None, region: str | None, profile: str | None) -> None:
    """List the knots of your account in the region, whoever made them."""
    from cloudknot.deploy.account.resources import idle_cost
    from cloudknot.deploy.inventory import list_knots
    from cloudknot.display.tables import table

    chosen = _choose(cloud, region, profile)
    knots = list_knots(chosen)
    if not knots:
        click.echo(f"There are no knots in {chosen.region}.")
        return
    rows = [
        (
            knot.name,
            knot.status,
            knot.created.strftime("%Y-%m-%d %H:%M") if knot.created else "",
            knot.image.rpartition(":")[2],
            knot.pars,
            idle_cost(knot),
        )
        for knot in knots
    ]
    click.echo(table(("Name", "Status", "Created (UTC)", "Image", "Pars", "Costs"), rows))


@click.command()
@click.argument("name")
@_of_a_cloud
def jobs(name: str, cloud: str | None, region: str | None, profile: str | None) -> None:
    """List the jobs of the knot NAME, oldest first; those of a clobbered one whose results were kept, too."""
    from cloudknot.deploy.account.buckets import clouds_of_knot
    from cloudknot.run.jobs.history import find_jobs, jobs_table

    chosen = _choose(cloud, region, profile)
    clouds = clouds_of_knot(chosen, name)
    found = find_jobs(clouds, name, {})
    where = ", ".join(one.bucket for one in clouds)
    click.echo(jobs_table(chosen, found) if found else f"The knot {name!r} has no jobs in {where}.")


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All knots, what they share, and all images.")
@click.option("--pars", is_flag=True, help="Also what these knots share with others, unless others use it.")
@click.option("--image", is_flag=True, help="Also their images, unless another knot uses them.")
@click.option("--repo", is_flag=True, help="Also their image repository, with all images in it.")
@click.option("--results", is_flag=True, help="Also inputs and results. Without it, they are kept.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_of_a_cloud
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
    """End the jobs of the knots NAME and remove what was made for them; or, with --all, everything of cloudknot's.

    An interrupted removal is finished by calling again.
    """
    if bool(names) == everything:
        raise click.UsageError("Give the names of knots, or --all. `cloudknot list` shows them.")
    chosen = _choose(cloud, region, profile)
    if everything:
        if pars or image or repo:
            raise click.UsageError("--all removes --pars, --image and --repo anyway.")
        _clobber_all(chosen, results, dry_run, yes)
    else:
        _clobber_named(chosen, names, (pars, image, repo, results), dry_run, yes)


def _clobber_all(cloud: Cloud, results: bool, dry_run: bool, yes: bool) -> None:
    from cloudknot.deploy.account.resources import find_resources, remove
    from cloudknot.display.tables import table

    found = find_resources(cloud)
    if not found:
        click.echo(f"There is nothing of cloudknot's in {cloud.region}.")
        return
    click.echo(table(("What", "Name", "Costs"), found.rows()))
    click.echo(_about_results([bucket.name for bucket in found.buckets], results))
    if dry_run:
        return
    if not yes:
        click.confirm("Remove all of it?", abort=True)
    failures = remove(cloud, found, results, click.echo)
    if failures:
        raise click.ClickException(
            "These could not be removed; call again when the cause is gone.\n" + "\n".join(failures)
        )


def _clobber_named(
    cloud: Cloud, names: tuple[str, ...], also: tuple[bool, bool, bool, bool], dry_run: bool, yes: bool
) -> None:
    from cloudknot.deploy.account.clobber import Extras, clobber_knot, clobber_shared, has_remains

    pars, image, repo, results = also
    chosen = Extras(repo=repo, image=image, results=results, ending=names)
    there = [name for name in dict.fromkeys(names) if has_remains(cloud, name, chosen)]
    missing = [name for name in names if name not in there]
    if there:
        _announce(cloud, there, also)
    if there and not dry_run:
        if not yes:
            click.confirm("Remove it?", abort=True)
        shared: dict[str, str] = {}
        for name in there:
            shared.setdefault(clobber_knot(cloud, name, chosen), name)
            click.echo(f"Removed knot {name}.")
        for used, name in shared.items():
            if pars and used:
                clobber_shared(cloud, name, used)
                click.echo(f"Removed shared resources {used}.")
    if missing:
        raise click.ClickException(_not_there(cloud, missing))


def _announce(cloud: Cloud, names: list[str], also: tuple[bool, bool, bool, bool]) -> None:
    from cloudknot.deploy.account.buckets import clouds_of_knot

    besides = [
        word for word, on in zip(("what they share", "images", "repository", "results"), also, strict=True) if on
    ]
    what = f"the knot{'s' * (len(names) > 1)} {', '.join(names)}" + (f", with {', '.join(besides)}" if besides else "")
    buckets = dict.fromkeys(each.bucket for name in names for each in clouds_of_knot(cloud, name))
    click.echo(f"To be removed in {cloud.region}: {what}. {_about_results(buckets, also[3])}")


def _not_there(cloud: Cloud, names: list[str]) -> str:
    from cloudknot.deploy.inventory import list_knots

    known = [knot.name for knot in list_knots(cloud)]
    near = list(dict.fromkeys(match for name in names for match in near_matches(name, known)))
    like = f"Near matches: {', '.join(near)}." if near else "`cloudknot list` shows the knots of a region."
    return f"In {cloud.region} there is nothing to remove of {', '.join(map(repr, names))}. {like}"


def _about_results(buckets: Iterable[str], results: bool) -> str:
    if not (where := ", ".join(buckets)):
        return "There are no inputs and results."
    if results:
        return f"Inputs and results in {where} are deleted; where a bucket keeps versions, S3 keeps the old ones."
    return f"Inputs and results in {where} are kept; --results deletes them, too."
