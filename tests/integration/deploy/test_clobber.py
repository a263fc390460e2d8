"""Clobber returns the account to its state before the knot, and keeps resources in use, on the embedded cloud."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

import cloudknot as ck
from cloudknot.aws.images.codebuild import CONTEXTS
from cloudknot.cli.main import main
from cloudknot.deploy.account.clobber import Extras, clobber_knot
from cloudknot.deploy.account.resources import find_resources
from cloudknot.deploy.cloudformation.stack import Stack
from cloudknot.deploy.codebuild.project import make_project
from cloudknot.deploy.iam import BATCH, linked_role
from cloudknot.deploy.inventory import BUILDS
from tests.helpers.functions import nap
from tests.helpers.inventory import idle_inventory, inventory
from tests.helpers.waiting import until
from tests.integration.people.conftest import Meddled


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """Yield a cloud for this module: clobber keeps the images and environments that knots of other tests use."""
    with ck.LocalCloud(tmp_path_factory.mktemp("clobber"), vcpus=2, quota=1000) as cloud:
        yield cloud


def square(x):
    """Return x squared."""
    return x * x


def settled_inventory(cloud, inventory_before):
    """Return the inventory, once the child jobs of terminated jobs have ended."""
    # The caller's assertion shows the difference.
    with contextlib.suppress(AssertionError):
        until(lambda: inventory(cloud) == inventory_before, pause=0.3)
    return inventory(cloud)


def delete_stack(cloud, knot):
    """Delete the stack of a knot by hand, and wait for its end: the job queue goes before the rest."""
    cloud.call("cloudformation", "delete_stack", StackName=knot.stack_id)
    until(lambda: Stack(cloud, knot.stack_id.split("/")[1]).state(knot.stack_id) is None)


CHOICES = {
    "defaults": ({}, {}),
    "Spot and a disk": ({}, {"bid_percentage": 60, "volume_size": 100}),
    "Fargate": ({}, {"instance_types": "fargate"}),
    "own VPC and roles": (
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
    "own repository": ({}, {"repo_name": "lab/images"}),
    "other image tags": ({}, {"image_tags": ["v1", "newest"]}),
}


@pytest.mark.parametrize(("pars_choices", "knot_choices"), CHOICES.values(), ids=CHOICES)
def test_clobber_with_every_option_leaves_nothing(cloud, inventory_before, pars_choices, knot_choices):
    pars = ck.Pars("clobbered", cloud=cloud, **pars_choices)
    knot = ck.Knot(name="left", func=square, pars=pars, cloud=cloud, **knot_choices)
    assert knot.map([1, 2, 3]).result() == [1, 4, 9]
    ck.Knot(name="left", func=lambda x: x + 1, pars=pars, cloud=cloud, **knot_choices)  # A second revision and image.
    sleeping = ck.Knot(name="left", func=nap, pars=pars, cloud=cloud, **knot_choices).map([600, 600])
    until(lambda: sleeping.job.status != "SUBMITTED")
    own_repository = "repo_name" in knot_choices
    knot.clobber(clobber_pars=True, clobber_repo=own_repository, clobber_image=True, clobber_results=True)
    assert (knot.clobbered, pars.clobbered) == (True, True)
    assert settled_inventory(cloud, inventory_before) == inventory_before
    knot.clobber(clobber_pars=True, clobber_image=True)


def test_later_clobber_deletes_pars_image_and_results(cloud, inventory_before):
    pars = ck.Pars("later", cloud=cloud)
    knot = ck.Knot(name="later", func=square, pars=pars, cloud=cloud)
    other_knot = ck.Knot(name="later-too", func=square, pars=pars, cloud=cloud)
    assert knot.map([2]).result() == [4]
    knot.clobber(clobber_pars=True)
    assert (knot.clobbered, pars.clobbered) == (True, False)
    other_knot.clobber(clobber_image=True)
    knot.clobber()
    assert inventory(cloud) != inventory_before
    knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert settled_inventory(cloud, inventory_before) == inventory_before


def test_clobber_keeps_results_by_default(cloud, inventory_before):
    knot = ck.Knot(name="kept", func=square, cloud=cloud)
    assert knot.map([2]).result() == [4]
    knot.clobber(clobber_image=True)
    again = ck.Knot(name="kept", func=square, cloud=cloud)
    assert [job.result() for job in again.jobs] == [[4]]
    again.clobber(clobber_image=True, clobber_results=True)
    kept = {kind for kind, names in inventory(cloud).items() if names != inventory_before[kind]}
    assert kept <= {"stacks", "roles", "policies of roles", "instance profiles", "security groups"}  # its Pars


EVERYTHING = {"clobber_pars": True, "clobber_repo": True, "clobber_image": True}
"""The arguments in the last line of most notebooks."""


def test_last_line_of_a_notebook_deletes_own_resources_and_keeps_shared_ones(cloud, inventory_before, caplog):
    pars = ck.Pars("shared", cloud=cloud)
    choices = {"pars": pars, "repo_name": "lab/shared", "cloud": cloud}
    first, second = (ck.Knot(name=name, func=square, **choices) for name in ("one", "two"))
    # An image of its own: same environment, other function.
    third = ck.Knot(name="three", func=lambda x: x + 3, **choices)
    own_image = third.image_uri.rpartition("/")[2]
    assert f"lab/{own_image}" in inventory(cloud)["images"]
    caplog.clear()

    third.clobber(**EVERYTHING)
    assert third.clobbered
    assert not [
        name for kind, names in inventory(cloud).items() for name in names if "three" in name or own_image in name
    ]
    repository, shared = [record.getMessage() for record in caplog.records]
    assert "The image repository 'lab/shared' was kept, because the knots 'one' and 'two' use it." in repository
    assert "(Pars) 'shared' were kept, because the knots 'one' and 'two' use them. They cost nothing." in shared

    # Both knots have the same image, so it is kept, too.
    first.clobber(**EVERYTHING)
    assert "because the knot 'two' uses it" in caplog.text
    assert second.map([3]).result() == [9]
    second.clobber(**EVERYTHING, clobber_results=True)
    assert pars.clobbered
    assert settled_inventory(cloud, inventory_before) == inventory_before


def test_clobber_with_image_reports_image_that_another_knot_uses(cloud, inventory_before, caplog):
    pars = ck.Pars("same", cloud=cloud)
    first, second = (ck.Knot(name=name, func=square, pars=pars, cloud=cloud) for name in ("one", "two"))
    caplog.clear()
    first.clobber(clobber_image=True)
    message = "Images in the repository 'cloudknot' were kept, because the knot 'two' uses them, too."
    assert [record.getMessage().startswith(message) for record in caplog.records] == [True]
    caplog.clear()
    second.clobber(clobber_image=True, clobber_pars=True)
    assert caplog.records == []
    assert settled_inventory(cloud, inventory_before) == inventory_before


def test_knots_that_two_people_clobber_at_once_leave_nothing_shared(cloud, inventory_before):
    pars = ck.Pars("shared", cloud=cloud)
    names = ("one", "two", "three")
    knots = [ck.Knot(name=name, func=square, pars=pars, repo_name="lab/shared", cloud=cloud) for name in names]
    with ThreadPoolExecutor(len(knots)) as people:
        for outcome in [people.submit(knot.clobber, **EVERYTHING) for knot in knots]:
            outcome.result()
    assert settled_inventory(cloud, inventory_before) == inventory_before


@pytest.mark.parametrize("repository_of", ["settings", "knot"])
def test_repository_and_pars_objects_refuse_to_delete_what_a_knot_uses(cloud, inventory_before, repository_of):
    pars = ck.Pars("guarded", cloud=cloud)
    knot = ck.Knot(name="guard", func=square, pars=pars, repo_name="lab/guarded", cloud=cloud)
    repository = knot.docker_repo if repository_of == "knot" else ck.DockerRepo("lab/guarded", cloud=cloud)
    full = inventory(cloud)
    with pytest.raises(
        ck.CannotDeleteResourceException,
        match=r"because the knot 'guard' uses it.*cloudknot clobber --repo guard --cloud local`",
    ) as no:
        repository.clobber()
    assert no.value.resource_id == "lab/guarded"
    with pytest.raises(ck.CannotDeleteResourceException, match="because the knot 'guard' uses it") as no:
        pars.clobber()
    assert no.value.resource_id == "guarded"
    assert inventory(cloud) == full
    knot.clobber()
    repository.clobber()
    repository.clobber()
    pars.clobber()
    assert settled_inventory(cloud, inventory_before) == inventory_before


@pytest.mark.parametrize("names", [("one", "two"), ("two",)])
def test_clobber_command_deletes_shared_repository_with_its_last_knot(cloud, inventory_before, monkeypatch, names):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))
    pars = ck.Pars("images", cloud=cloud)
    knots = [
        ck.Knot(name=name, func=square, pars=pars, repo_name="lab/shared", cloud=cloud) for name in ("one", "two")
    ]
    words = ["clobber", *names, "--repo", "--pars", "--yes", "--cloud", "local"]
    shown = CliRunner().invoke(main, [*words, "--dry-run"]).output
    assert "shared resources, image repository. Those that other knots use are kept." in shown
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    if len(names) == 1:
        assert "Deleted knot two.\nThe image repository 'lab/shared' was kept, because the knot 'one'" in done.output
        assert "The shared resources (Pars) 'images' were kept" in done.output
        knots[0].clobber(**EVERYTHING)
    else:
        assert "kept, because" not in done.output
    assert settled_inventory(cloud, inventory_before) == inventory_before


def test_clobber_command_reports_name_without_knot(cloud, inventory_before, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(cloud.directory))

    def clobber(*words):
        return CliRunner().invoke(main, ["clobber", *words, "--yes", "--cloud", "local"])

    knot = ck.Knot(name="spelt", func=square, pars=ck.Pars("spelt", cloud=cloud), cloud=cloud)
    assert knot.map([2]).result() == [4]
    full = idle_inventory(cloud)
    misspelt = clobber("spellt")
    assert misspelt.exit_code == 1
    assert "no knot named 'spellt' in the embedded cloud at" in misspelt.output
    assert "Near matches: spelt. Run `" in misspelt.output
    assert "cloudknot list --cloud local`" in misspelt.output
    assert "Deleted" not in misspelt.output
    assert inventory(cloud) == full
    both = clobber("spellt", "spelt", "--pars")
    assert both.exit_code == 1
    assert "Deleted knot spelt." in both.output
    # The image and the results that the first clobber kept still belong to the knot.
    assert clobber("spelt").exit_code == 1
    for option in ("--image", "--results"):
        assert clobber("spelt", option).exit_code == 0
        assert clobber("spelt", option).exit_code == 1
    assert settled_inventory(cloud, inventory_before) == inventory_before


def test_knot_connected_by_name_clobbers_its_pars(cloud, inventory_before):
    ck.Knot(name="found", func=square, pars=ck.Pars("found", cloud=cloud), cloud=cloud)
    ck.Knot(name="found", cloud=cloud).clobber(clobber_pars=True, clobber_image=True)
    assert inventory(cloud) == inventory_before


@pytest.mark.parametrize("deleted", ["queue", "queue and environment", "role", "stack", "stack, not yet"])
def test_clobber_succeeds_after_resources_were_deleted_by_hand(cloud, inventory_before, deleted):
    pars = ck.Pars("by-hand", cloud=cloud)
    knot = ck.Knot(name="by-hand", func=square, pars=pars, cloud=cloud)
    queue, environment = {"jobQueue": knot.job_queue}, {"computeEnvironment": knot.compute_environment}
    if deleted == "stack":
        delete_stack(cloud, knot)
    elif deleted == "stack, not yet":
        cloud.call("cloudformation", "delete_stack", StackName=knot.stack_id)
    elif deleted == "role":
        role = pars.execution_role.rpartition("/")[2]
        for policy in cloud.call("iam", "list_attached_role_policies", RoleName=role)["AttachedPolicies"]:
            cloud.call("iam", "detach_role_policy", RoleName=role, PolicyArn=policy["PolicyArn"])
        cloud.call("iam", "delete_role", RoleName=role)
    else:
        cloud.call("batch", "update_job_queue", **queue, state="DISABLED")
        cloud.call("batch", "delete_job_queue", **queue)
        if deleted != "queue":
            cloud.call("batch", "update_compute_environment", **environment, state="DISABLED")
            cloud.call("batch", "delete_compute_environment", **environment)
    knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert inventory(cloud) == inventory_before


@pytest.mark.parametrize("operation", ["list_jobs", "delete_stack"])
def test_clobber_succeeds_when_the_stack_is_deleted_during_the_call(cloud, inventory_before, operation):
    knot = ck.Knot(name="meanwhile", func=square, pars=ck.Pars("meanwhile", cloud=cloud), cloud=cloud)
    acts = []
    knot._cloud = Meddled(cloud.directory, operation, lambda: acts.append(delete_stack(cloud, knot)))
    knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
    assert len(acts) == 1
    assert inventory(cloud) == inventory_before


def test_second_clobber_finishes_after_failed_one(cloud, inventory_before):
    pars = ck.Pars("held", cloud=cloud)
    attachment = {
        "RoleName": pars.ecs_instance_role.rpartition("/")[2],
        "PolicyArn": "arn:aws:iam::aws:policy/AmazonSQSFullAccess",
    }
    cloud.call("iam", "attach_role_policy", **attachment)
    with pytest.raises(ck.CannotDeleteResourceException, match=r"EcsInstanceRole .*detach-role-policy"):
        pars.clobber()
    cloud.call("iam", "detach_role_policy", **attachment)
    pars.clobber()
    assert inventory(cloud) == inventory_before


def test_clobber_knot_removes_revisions_left_without_stack(cloud, inventory_before):
    knot = ck.Knot(
        name="between", func=square, pars=ck.Pars("between", cloud=cloud), job_definition_name="mine", cloud=cloud
    )
    ck.Knot(name="between", func=nap, pars=knot.pars, job_definition_name="mine", cloud=cloud)
    delete_stack(cloud, knot)
    assert find_resources(cloud).half_removed == ("between",)
    clobber_knot(cloud, "between", Extras())
    assert inventory(cloud)["job definitions"] == inventory_before["job definitions"]
    knot.pars.clobber()


@pytest.fixture(scope="module")
def other_cloud(tmp_path_factory):
    """Yield a cloud of this module alone, so that a test can clobber everything in it."""
    with ck.LocalCloud(tmp_path_factory.mktemp("all"), vcpus=2) as cloud:
        yield cloud


@pytest.fixture
def run_command(other_cloud, command_on):
    """Return a function that runs a ``cloudknot`` command on `other_cloud`."""
    return command_on(other_cloud)


def test_clobber_all_shows_and_removes_every_resource(other_cloud, run_command):
    empty = inventory(other_cloud)
    assert "cloudknot has no resources in" in run_command("clobber", "--all").output
    assert "no knots" in run_command("list").output
    knot = ck.Knot(name="a", func=square, cloud=other_cloud)
    assert knot.map([1, 2]).result() == [1, 4]
    ck.Knot(name="b", func=square, pars=ck.Pars("own", use_default_vpc=False, cloud=other_cloud), cloud=other_cloud)
    full = idle_inventory(other_cloud)

    listed = run_command("list").output.splitlines()
    assert [line.split()[:2] for line in listed[2:]] == [["a", "CREATE_COMPLETE"], ["b", "CREATE_COMPLETE"]]
    assert knot.jobs[0].job_id in run_command("jobs", "a").output
    for refused in (("clobber",), ("clobber", "a", "--all"), ("clobber", "--all", "--repo")):
        assert run_command(*refused).exit_code == 2
    listing = run_command("clobber", "--all", "--dry-run").output
    for words in ("knot ", "shared resources (Pars)  own", "image repository", "bucket", "are kept"):
        assert words in listing
    assert run_command("clobber", "--all", input="n\n").exit_code == 1
    assert inventory(other_cloud) == full

    assert run_command("clobber", "a", "--image", "--yes").exit_code == 0
    assert [listed_knot.name for listed_knot in ck.list_knots(other_cloud)] == ["b"]
    removed = run_command("clobber", "--all", input="y\n")
    assert removed.exit_code == 0, removed.output
    remaining = inventory(other_cloud)
    assert len(remaining["objects"]) == len(full["objects"]) > 0
    assert run_command("clobber", "--all", "--yes", "--results").exit_code == 0
    # Clobber keeps the service-linked role: it belongs to the account and costs nothing.
    added = {kind: [name for name in inventory(other_cloud)[kind] if name not in empty[kind]] for kind in empty}
    assert {kind: names for kind, names in added.items() if names} == {"roles": ["AWSServiceRoleForBatch"]}


@pytest.fixture
def session_with_bucket(other_cloud, tmp_path, monkeypatch):
    """Return a function that begins a session of `other_cloud` with a bucket in its settings."""

    def choose(name):
        (tmp_path / "settings").write_text(f"[aws]\ns3-bucket = {name}\n")
        monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(tmp_path / "settings"))
        return ck.LocalCloud(other_cloud.directory)

    return choose


def test_clobber_all_with_results_deletes_bucket_that_cloudknot_created(session_with_bucket, run_command):
    cloud = session_with_bucket("chosen-for-runs")
    cloud.storage.ensure_bucket({"Grant": "42"})
    cloud.storage.put("cloudknot.jobs/gone/run/manifest.json", b"{}")
    assert "runs in your own" not in run_command("clobber", "--all", "--dry-run").output
    kept = run_command("clobber", "--all", "--yes")
    assert kept.exit_code == 0
    assert "chosen-for-runs" in inventory(cloud)["buckets"]
    removed = run_command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 0, removed.output
    assert "Deleted bucket chosen-for-runs." in removed.output
    assert "chosen-for-runs" not in inventory(cloud)["buckets"]


@pytest.mark.parametrize("tags", [{}, {"cloudknot": "used by it"}, {"Grant": "42"}])
def test_clobber_all_with_results_keeps_users_bucket_and_other_objects(session_with_bucket, run_command, tags):
    name = f"of-the-lab-{len(tags)}-{'-'.join(tags).lower() or 'bare'}"
    cloud = session_with_bucket(name)
    cloud.call("s3", "create_bucket", Bucket=name)
    if tags:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        cloud.call("s3", "put_bucket_tagging", Bucket=name, Tagging={"TagSet": pairs})
    cloud.storage.put("data/of-the-lab", b"1")
    cloud.storage.put("cloudknot.jobs/gone/run/manifest.json", b"{}")
    assert f"runs in your own bucket  {name}" in run_command("clobber", "--all", "--dry-run").output
    removed = run_command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 0, removed.output
    assert list(cloud.storage.keys("")) == ["data/of-the-lab"]
    assert name in inventory(cloud)["buckets"]


def test_clobber_all_with_results_reports_bucket_with_other_objects(session_with_bucket, run_command):
    cloud = session_with_bucket("made-but-used")
    cloud.storage.ensure_bucket({})
    cloud.storage.put("notes", b"1")
    cloud.storage.put("cloudknot.jobs/gone/run/manifest.json", b"{}")
    removed = run_command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 1
    assert "The bucket made-but-used was not deleted, because it still has objects" in removed.output
    assert list(cloud.storage.keys("")) == ["notes"]


def put_image(cloud, repository, tag):
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {"digest": tag}, "layers": []})
    image = {"imageTag": tag, "imageManifest": manifest, "imageManifestMediaType": kind}
    cloud.call("ecr", "put_image", repositoryName=repository, **image)


def test_clobber_all_removes_resources_of_sessions_with_other_settings(session_with_bucket, run_command, monkeypatch):
    lab_session = session_with_bucket("lab-of-others")
    lab_session.call("ecr", "create_repository", repositoryName="of-the-lab/images")
    put_image(lab_session, "of-the-lab/images", "their-own")
    linked_role(lab_session, BATCH)  # Clobber keeps this role.
    before = inventory(lab_session)
    choices = {"pars": ck.Pars("lab", cloud=lab_session), "repo_name": "of-the-lab/images", "image_tags": ["v1"]}
    knot = ck.Knot(name="lab", func=square, cloud=lab_session, **choices)
    assert knot.map([3]).result() == [9]
    monkeypatch.delenv("CLOUDKNOT_CONFIG_FILE")

    listing = run_command("clobber", "--all", "--dry-run").output
    row = next(line for line in listing.splitlines() if line.startswith("images in your own repository"))
    assert row.split()[5:] == ["of-the-lab/images", "storage", "of", "2", "images,", *row.split()[-2:]]
    assert any(line.split()[:2] == ["bucket", "lab-of-others"] for line in listing.splitlines())
    kept = run_command("clobber", "--all", "--yes")
    assert kept.exit_code == 0, kept.output
    remaining = inventory(lab_session)
    assert [name for name in remaining["images"] if name.startswith("of-the-lab/")] == ["of-the-lab/images:their-own"]
    assert [name for name in remaining["objects"] if name.startswith("lab-of-others/cloudknot.jobs/lab/")]

    # Only the inactive revisions that Batch still lists name the bucket now.
    removed = run_command("clobber", "--all", "--yes", "--results")
    assert removed.exit_code == 0, removed.output
    assert "Deleted bucket lab-of-others." in removed.output
    remaining = inventory(lab_session)
    assert {
        kind: sorted({*names} - {*before[kind]}) for kind, names in remaining.items() if {*names} - {*before[kind]}
    } == {}


def test_clobber_deletes_results_in_bucket_of_other_settings(session_with_bucket, run_command, monkeypatch):
    lab_session = session_with_bucket("lab-of-a-knot")
    knot = ck.Knot(name="lab", func=square, cloud=lab_session)
    assert knot.map([3]).result() == [9]
    monkeypatch.delenv("CLOUDKNOT_CONFIG_FILE")
    removed = run_command("clobber", "lab", "--results", "--yes")
    assert removed.exit_code == 0, removed.output
    assert "lab-of-a-knot are deleted" in removed.output
    assert list(lab_session.storage.keys("")) == []


def test_clobbered_knot_cannot_delete_new_knot_of_its_name(own_cloud):
    old = ck.Knot(name="anew", func=square, cloud=own_cloud)
    old.clobber()
    new = ck.Knot(name="anew", func=square, cloud=own_cloud)
    assert new.map([2]).result() == [4]
    old.clobber()
    with pytest.raises(ck.ResourceClobberedException, match="already clobbered, and a new knot with its name exists"):
        old.clobber(clobber_results=True)
    assert [job.result() for job in new.jobs] == [[4]]
    new.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)


def test_clobber_deletes_project_of_builds_with_last_pars_and_knot(own_cloud, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(own_cloud.directory))
    first, second = (
        ck.Knot(name=name, func=square, pars=ck.Pars(name, cloud=own_cloud), cloud=own_cloud)
        for name in ("one", "two")
    )
    before = inventory(own_cloud)
    make_project(own_cloud, own_cloud.repository("cloudknot"))
    own_cloud.storage.upload(f"{CONTEXTS}/forgotten", [b"files"])
    listing = CliRunner().invoke(main, ["list", "--cloud", "local"]).output
    assert f"the project {BUILDS} for the images of knots. It costs nothing while no image is built." in listing
    row = ("project for image builds (CodeBuild)", BUILDS, "none while idle")
    first.clobber(clobber_pars=True)
    assert row in find_resources(own_cloud).rows()
    second.clobber(clobber_pars=True)
    assert row not in find_resources(own_cloud).rows()
    left = inventory(own_cloud)
    assert {kind for kind, names in left.items() if {*names} - {*before[kind]}} == set()
