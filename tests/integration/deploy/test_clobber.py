"""Leaving nothing behind: the account after a clobber is the account before the knot, for every choice."""

import contextlib
import json

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.cli.main import main
from cloudknot.deploy.account.resources import find_resources
from cloudknot.deploy.iam import BATCH, linked_role
from cloudknot.deploy.knot_stack import delete_knot
from tests.helpers.functions import nap
from tests.helpers.inventory import inventory
from tests.helpers.waiting import until


def square(x):
    """A function of its own: images that other tests' knots use are not removed."""
    return x * x


def settled(cloud, before):
    """The inventory, once children of jobs that were ended have ended."""
    with contextlib.suppress(AssertionError):
        until(lambda: inventory(cloud) == before, 20, pause=0.3)
    return inventory(cloud)


CHOICES = {
    "the defaults": ({}, {}),
    "Spot and a disk": ({}, {"bid_percentage": 60, "volume_size": 100}),
    "Fargate": ({}, {"instance_types": "fargate"}),
    "a VPC and roles of its own": (
        {
            "use_default_vpc": False,
            "batch_service_role_name": "lab-batch",
            "ecs_instance_role_name": "lab-ecs",
            "spot_fleet_role_name": "lab-spot",
            "policies": "AmazonS3ReadOnlyAccess",
        },
        {
            "job_definition_name": "own-definition",
            "job_queue_name": "own-queue",
            "compute_environment_name": "own-env",
        },
    ),
    "a repository of its own": ({}, {"repo_name": "lab/images"}),
    "other tags of its image": ({}, {"image_tags": ["v1", "newest"]}),
}


@pytest.mark.parametrize(("of_pars", "of_knot"), CHOICES.values(), ids=CHOICES)
def test_nothing_is_left(cloud, before, of_pars, of_knot):
    pars = ck.Pars("clobbered", cloud=cloud, **of_pars)
    knot = ck.Knot(name="left", func=square, pars=pars, cloud=cloud, **of_knot)
    assert knot.map([1, 2, 3]).result() == [1, 4, 9]
    ck.Knot(name="left", func=lambda x: x + 1, pars=pars, cloud=cloud, **of_knot)  # a second revision and image
    sleeping = ck.Knot(name="left", func=nap, pars=pars, cloud=cloud, **of_knot).map([600, 600])
    until(lambda: sleeping.job.status != "SUBMITTED")
    own_repository = "repo_name" in of_knot
    knot.clobber(clobber_pars=True, clobber_repo=own_repository, clobber_image=True, clobber_results=True)
    assert (knot.clobbered, pars.clobbered) == (True, True)
    assert settled(cloud, before) == before
    knot.clobber(clobber_pars=True, clobber_image=True)


def test_more_can_be_deleted_later(cloud, before):
    pars = ck.Pars("later", cloud=cloud)
    one = ck.Knot(name="later", func=square, pars=pars, cloud=cloud)
    other = ck.Knot(name="later-too", func=square, pars=pars, cloud=cloud)
    assert one.map([2]).result() == [4]
    with pytest.raises(ck.CannotDeleteResourceException, match="later-too"):
        one.clobber(clobber_pars=True)
    other.clobber(clobber_image=True)
    one.clobber()
    assert inventory(cloud) != before
    one.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert settled(cloud, before) == before


def test_what_was_made_anew_is_not_deleted_by_the_knot_of_before(own_cloud):
    before = ck.Knot(name="anew", func=square, cloud=own_cloud)
    before.clobber()
    anew = ck.Knot(name="anew", func=square, cloud=own_cloud)
    assert anew.map([2]).result() == [4]
    before.clobber()
    with pytest.raises(ck.ResourceClobberedException, match="already clobbered, and a new knot with its name exists"):
        before.clobber(clobber_results=True)
    assert [job.result() for job in anew.jobs] == [[4]]
    anew.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)


def test_results_stay_unless_asked(cloud, before):
    knot = ck.Knot(name="kept", func=square, cloud=cloud)
    assert knot.map([2]).result() == [4]
    knot.clobber(clobber_image=True)
    again = ck.Knot(name="kept", func=square, cloud=cloud)
    assert [job.result() for job in again.jobs] == [[4]]
    again.clobber(clobber_image=True, clobber_results=True)
    kept = {kind for kind, names in inventory(cloud).items() if names != before[kind]}
    assert kept <= {"stacks", "roles", "policies of roles", "instance profiles", "security groups"}  # its Pars


def test_a_pars_that_another_knot_uses_is_kept(cloud, before):
    pars = ck.Pars("shared", cloud=cloud)
    one = ck.Knot(name="one", func=square, pars=pars, cloud=cloud)
    two = ck.Knot(name="two", func=square, pars=pars, cloud=cloud)
    with pytest.raises(
        ck.CannotDeleteResourceException, match=r"'one' was clobbered, but .* because the knot 'two' uses it"
    ):
        one.clobber(clobber_pars=True, clobber_image=True)
    assert one.clobbered
    # The image of both is the same, so it stayed, and so did what they share.
    assert two.map([3]).result() == [9]
    two.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert settled(cloud, before) == before


def test_a_repository_that_another_knot_uses_is_kept(cloud, before):
    pars = ck.Pars("images", cloud=cloud)
    one, two = (
        ck.Knot(name=name, func=square, pars=pars, repo_name="lab/shared", cloud=cloud) for name in ("one", "two")
    )
    full = inventory(cloud)
    with pytest.raises(
        ck.CannotDeleteResourceException, match=r"^Nothing was deleted, because the knot 'two' uses .* 'lab/shared'"
    ):
        one.clobber(clobber_repo=True)
    assert not one.clobbered
    assert inventory(cloud) == full
    two.clobber()
    one.clobber(clobber_repo=True, clobber_pars=True)
    assert settled(cloud, before) == before


def test_knots_that_go_together_take_their_repository_along(cloud, before, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    pars = ck.Pars("images", cloud=cloud)
    for name in ("one", "two"):
        ck.Knot(name=name, func=square, pars=pars, repo_name="lab/shared", cloud=cloud)
    words = ["clobber", "one", "two", "--repo", "--pars", "--yes", "--cloud", "local"]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert settled(cloud, before) == before


def test_a_name_without_a_knot_is_told(cloud, before, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))

    def clobber(*words):
        return CliRunner().invoke(main, ["clobber", *words, "--yes", "--cloud", "local"])

    knot = ck.Knot(name="spelt", func=square, pars=ck.Pars("spelt", cloud=cloud), cloud=cloud)
    assert knot.map([2]).result() == [4]
    full = inventory(cloud)
    mistaken = clobber("spellt")
    assert mistaken.exit_code == 1
    assert "no knot named 'spellt'. Near matches: spelt. Run `cloudknot list`" in mistaken.output
    assert "Removed" not in mistaken.output
    assert inventory(cloud) == full
    both = clobber("spellt", "spelt", "--pars")
    assert both.exit_code == 1
    assert "Removed knot spelt." in both.output
    # What an earlier removal left is still a knot's.
    assert clobber("spelt").exit_code == 1
    for option in ("--image", "--results"):
        assert clobber("spelt", option).exit_code == 0
        assert clobber("spelt", option).exit_code == 1
    assert settled(cloud, before) == before


def test_a_knot_found_by_its_name_is_clobbered_with_its_pars(cloud, before):
    ck.Knot(name="found", func=square, pars=ck.Pars("found", cloud=cloud), cloud=cloud)
    ck.Knot(name="found", cloud=cloud).clobber(clobber_pars=True, clobber_image=True)
    assert inventory(cloud) == before


@pytest.mark.parametrize("gone", ["queue", "queue and environment", "role", "stack"])
def test_what_was_deleted_by_hand_hinders_nothing(cloud, before, gone):
    pars = ck.Pars("by-hand", cloud=cloud)
    knot = ck.Knot(name="by-hand", func=square, pars=pars, cloud=cloud)
    batch = {"jobQueue": knot.job_queue}, {"computeEnvironment": knot.compute_environment}
    if gone == "stack":
        cloud.call("cloudformation", "delete_stack", StackName=knot.stack_id)
        until(lambda: knot.job_queue not in inventory(cloud)["job queues"])
    elif gone == "role":
        role = pars.execution_role.rpartition("/")[2]
        for policy in cloud.call("iam", "list_attached_role_policies", RoleName=role)["AttachedPolicies"]:
            cloud.call("iam", "detach_role_policy", RoleName=role, PolicyArn=policy["PolicyArn"])
        cloud.call("iam", "delete_role", RoleName=role)
    else:
        cloud.call("batch", "update_job_queue", **batch[0], state="DISABLED")
        cloud.call("batch", "delete_job_queue", **batch[0])
        if gone != "queue":
            cloud.call("batch", "update_compute_environment", **batch[1], state="DISABLED")
            cloud.call("batch", "delete_compute_environment", **batch[1])
    knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert inventory(cloud) == before


def test_a_removal_that_failed_is_finished_by_another(cloud, before):
    pars = ck.Pars("held", cloud=cloud)
    foreign = {
        "RoleName": pars.job_role.rpartition("/")[2],
        "PolicyArn": "arn:aws:iam::aws:policy/AmazonSQSFullAccess",
    }
    cloud.call("iam", "attach_role_policy", **foreign)
    with pytest.raises(ck.CannotDeleteResourceException, match=r"JobRole .*detach-role-policy"):
        pars.clobber()
    cloud.call("iam", "detach_role_policy", **foreign)
    pars.clobber()
    assert inventory(cloud) == before


def test_a_removal_that_ended_between_stack_and_revisions_is_finished(cloud, before):
    knot = ck.Knot(
        name="between", func=square, pars=ck.Pars("between", cloud=cloud), job_definition_name="mine", cloud=cloud
    )
    ck.Knot(name="between", func=nap, pars=knot.pars, job_definition_name="mine", cloud=cloud)
    cloud.call("cloudformation", "delete_stack", StackName=knot.stack_id)
    until(lambda: knot.job_queue not in inventory(cloud)["job queues"])
    assert find_resources(cloud).half_removed == ("between",)
    delete_knot(cloud, "between")
    assert inventory(cloud)["job definitions"] == before["job definitions"]
    knot.pars.clobber()


@pytest.fixture(scope="module")
def other_cloud(tmp_path_factory):
    """A cloud from which everything may be removed."""
    with ck.LocalCloud(tmp_path_factory.mktemp("all"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture
def command(other_cloud, monkeypatch):
    """Run a ``cloudknot`` command against that cloud."""
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(other_cloud.directory))
    return lambda *words, **options: CliRunner().invoke(main, [*words, "--cloud", "local"], **options)


def test_everything_is_found_shown_and_removed(other_cloud, command):
    empty = inventory(other_cloud)
    assert "cloudknot has no resources in" in command("clobber", "--all").output
    assert "no knots" in command("list").output
    knot = ck.Knot(name="a", func=square, cloud=other_cloud)
    assert knot.map([1, 2]).result() == [1, 4]
    ck.Knot(name="b", func=square, pars=ck.Pars("own", use_default_vpc=False, cloud=other_cloud), cloud=other_cloud)
    full = inventory(other_cloud)

    listed = command("list").output.splitlines()
    assert [line.split()[:2] for line in listed[2:]] == [["a", "CREATE_COMPLETE"], ["b", "CREATE_COMPLETE"]]
    assert knot.jobs[0].job_id in command("jobs", "a").output
    for refused in (("clobber",), ("clobber", "a", "--all"), ("clobber", "--all", "--repo")):
        assert command(*refused).exit_code == 2
    shown = command("clobber", "--all", "--dry-run").output
    for words in ("knot ", "shared resources (Pars)  own", "image repository", "bucket", "are kept"):
        assert words in shown
    assert command("clobber", "--all", input="n\n").exit_code == 1
    assert inventory(other_cloud) == full

    assert command("clobber", "a", "--image", "--yes").exit_code == 0
    assert [one.name for one in ck.list_knots(other_cloud)] == ["b"]
    removed = command("clobber", "--all", input="y\n")
    assert removed.exit_code == 0, removed.output
    left = inventory(other_cloud)
    assert len(left["objects"]) == len(full["objects"]) > 0
    assert command("clobber", "--all", "--yes", "--results").exit_code == 0
    # The service-linked role stays: it is the account's, and costs nothing.
    role = {kind: [name for name in inventory(other_cloud)[kind] if name not in empty[kind]] for kind in empty}
    assert {kind: names for kind, names in role.items() if names} == {"roles": ["AWSServiceRoleForbatch"]}


@pytest.fixture
def chosen_bucket(other_cloud, tmp_path, monkeypatch):
    """A session of that cloud whose settings name a bucket."""

    def choose(name):
        (tmp_path / "settings").write_text(f"[aws]\ns3-bucket = {name}\n")
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
        return ck.LocalCloud(other_cloud.directory)

    return choose


def test_a_bucket_of_a_chosen_name_that_cloudknot_made_goes_with_the_results(chosen_bucket, command):
    cloud = chosen_bucket("chosen-for-runs")
    cloud.storage.ensure_bucket({"Grant": "42"})
    cloud.storage.put("cloudknot.jobs/gone/run/manifest.json", b"{}")
    assert "runs in your own" not in command("clobber", "--all", "--dry-run").output
    kept = command("clobber", "--all", "--yes")
    assert kept.exit_code == 0
    assert "chosen-for-runs" in inventory(cloud)["buckets"]
    removed = command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 0, removed.output
    assert "Removed bucket chosen-for-runs." in removed.output
    assert "chosen-for-runs" not in inventory(cloud)["buckets"]


@pytest.mark.parametrize("tags", [{}, {"cloudknot": "used by it"}, {"Grant": "42"}])
def test_a_bucket_of_the_users_own_stays_with_what_else_is_in_it(chosen_bucket, command, tags):
    name = f"of-the-lab-{len(tags)}-{'-'.join(tags).lower() or 'bare'}"
    cloud = chosen_bucket(name)
    cloud.call("s3", "create_bucket", Bucket=name)
    if tags:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        cloud.call("s3", "put_bucket_tagging", Bucket=name, Tagging={"TagSet": pairs})
    cloud.storage.put("data/of-the-lab", b"1")
    cloud.storage.put("cloudknot.jobs/gone/run/manifest.json", b"{}")
    assert f"runs in your own bucket  {name}" in command("clobber", "--all", "--dry-run").output
    removed = command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 0, removed.output
    assert list(cloud.storage.keys("")) == ["data/of-the-lab"]
    assert name in inventory(cloud)["buckets"]


def test_a_bucket_that_holds_something_else_is_kept_and_told(chosen_bucket, command):
    cloud = chosen_bucket("made-but-used")
    cloud.storage.ensure_bucket({})
    cloud.storage.put("notes", b"1")
    cloud.storage.put("cloudknot.jobs/gone/run/manifest.json", b"{}")
    removed = command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 1
    assert "The bucket made-but-used was not deleted, because it is not empty." in removed.output
    assert list(cloud.storage.keys("")) == ["notes"]


def put_image(cloud, repository, tag):
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {"digest": tag}, "layers": []})
    image = {"imageTag": tag, "imageManifest": manifest, "imageManifestMediaType": kind}
    cloud.call("ecr", "put_image", repositoryName=repository, **image)


def test_what_a_session_of_other_settings_made_is_found_shown_and_removed(chosen_bucket, command, monkeypatch):
    theirs = chosen_bucket("lab-of-others")
    theirs.call("ecr", "create_repository", repositoryName="of-the-lab/images")
    put_image(theirs, "of-the-lab/images", "their-own")
    linked_role(theirs, BATCH)  # It stays on purpose.
    before = inventory(theirs)
    choices = {"pars": ck.Pars("lab", cloud=theirs), "repo_name": "of-the-lab/images", "image_tags": ["v1"]}
    knot = ck.Knot(name="lab", func=square, cloud=theirs, **choices)
    assert knot.map([3]).result() == [9]
    monkeypatch.delenv("CLOUDKNOT_CONFIG_FILE")

    shown = command("clobber", "--all", "--dry-run").output
    row = next(line for line in shown.splitlines() if line.startswith("images in your own repository"))
    assert row.split()[5:] == ["of-the-lab/images", "storage", "of", "2", "images,", *row.split()[-2:]]
    assert any(line.split()[:2] == ["bucket", "lab-of-others"] for line in shown.splitlines())
    kept = command("clobber", "--all", "--yes")
    assert kept.exit_code == 0, kept.output
    left = inventory(theirs)
    assert [name for name in left["images"] if name.startswith("of-the-lab/")] == ["of-the-lab/images:their-own"]
    assert [name for name in left["objects"] if name.startswith("lab-of-others/cloudknot.jobs/lab/")]

    # Nothing but the revisions that Batch still shows tells of the bucket now.
    removed = command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 0, removed.output
    assert "Removed bucket lab-of-others." in removed.output
    left = inventory(theirs)
    assert {
        kind: sorted({*names} - {*before[kind]}) for kind, names in left.items() if {*names} - {*before[kind]}
    } == {}


def test_results_in_buckets_of_other_settings_go_with_their_knot(chosen_bucket, command, monkeypatch):
    theirs = chosen_bucket("lab-of-a-knot")
    knot = ck.Knot(name="lab", func=square, cloud=theirs)
    assert knot.map([3]).result() == [9]
    monkeypatch.delenv("CLOUDKNOT_CONFIG_FILE")
    removed = command("clobber", "lab", "--results", "--yes")
    assert removed.exit_code == 0, removed.output
    assert "lab-of-a-knot are deleted" in removed.output
    assert list(theirs.storage.keys("")) == []
