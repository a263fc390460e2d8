"""A process dies before each step of a change of users, of an image's assembly, and of a prune."""

import json
import os
import shutil

import pytest

from cloudknot.local.directory.documents import Documents, cloud_database
from cloudknot.local.iam.keys import Keys
from cloudknot.local.iam.signing import AccessKey
from cloudknot.local.runners.images.contents import is_intact
from cloudknot.local.runners.images.prune import prune
from cloudknot.local.runners.images.store import materialise
from cloudknot.local.server.services.iam.api import Iam
from cloudknot.local.server.services.service import ControlPlane
from tests.helpers.batch import Image
from tests.unit.local.s3.deaths import dies_at

NOTHING = json.dumps({"Version": "2012-10-17", "Statement": []})
CHANGES = {
    "user": ("CreateUser", {"UserName": "ben"}),
    "key": ("CreateAccessKey", {"UserName": "ann"}),
    "deleted key": ("DeleteAccessKey", {"UserName": "ann", "AccessKeyId": "KEY"}),
    "policy": ("PutUserPolicy", {"UserName": "ann", "PolicyName": "none", "PolicyDocument": NOTHING}),
    "role": ("CreateRole", {"RoleName": "role", "AssumeRolePolicyDocument": NOTHING}),
}


def control_plane(directory):
    database = cloud_database(directory)
    keys = Keys(AccessKey("AKIA", "secret"), kept=Documents(database, "key"))
    return ControlPlane({"iam": Iam(database, keys)}, database, {}), database, keys


def users_and_roles(directory):
    """Return all users with their keys and policies, the roles, and the accepted keys."""
    plane, database, keys = control_plane(directory)
    found = []
    for user in plane.call("iam", "ListUsers")["Users"]:
        name = user["UserName"]
        listed = plane.call("iam", "ListAccessKeys", UserName=name)["AccessKeyMetadata"]
        accepted = [keys.find(key["AccessKeyId"]) is not None for key in listed]
        found.append(
            (name, len(listed), accepted, plane.call("iam", "ListUserPolicies", UserName=name)["PolicyNames"])
        )
    found.append([role["RoleName"] for role in plane.call("iam", "ListRoles")["Roles"]])
    found.append(len(Documents(database, "key")))
    database.close()
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_change_of_users_is_whole_or_not_there(tmp_path, name):
    first = tmp_path / "first"
    first.mkdir()
    plane, database, _ = control_plane(first)
    plane.call("iam", "CreateUser", UserName="ann")
    key = plane.call("iam", "CreateAccessKey", UserName="ann")["AccessKey"]["AccessKeyId"]
    database.close()
    operation, arguments = CHANGES[name]
    arguments = {member: key if value == "KEY" else value for member, value in arguments.items()}
    states, step, is_dead = [users_and_roles(first)], 0, True
    while is_dead:
        step += 1
        directory = tmp_path / str(step)
        shutil.copytree(first, directory)
        is_dead = dies_at(
            step,
            lambda directory=directory: control_plane(directory)[0],
            lambda plane: plane.call("iam", operation, **arguments),
        )
        if (found := users_and_roles(directory)) not in states:
            states.append(found)
    assert len(states) == 2
    assert step > 3


def test_image_is_assembled_after_a_death_at_each_step(tmp_path):
    step, is_dead = 0, True
    while is_dead:
        step += 1
        directory = tmp_path / str(step)
        is_dead = dies_at(step, lambda directory=directory: directory, lambda place: materialise(place, Image("t")))
        assert is_whole(directory) or not (directory / "images" / "t").exists()
        materialise(directory, Image("t"))
        assert is_whole(directory)
        shutil.rmtree(directory)
    assert step > 10


def is_whole(directory):
    """Return whether the image exists with all of its files and an intact environment."""
    image = directory / "images" / "t"
    names = [*Image("t").files, "environment"]
    return all((image / name).exists() for name in names) and is_intact((image / "environment").resolve())


def test_prune_frees_everything_after_a_death_at_each_step(tmp_path):
    for tag, digest in (("used", "one"), ("unused", "one"), ("old", "two")):
        materialise(tmp_path / "first", Image(tag, environment_digest=digest))
    step, is_dead = 0, True
    while is_dead:
        step += 1
        directory = tmp_path / str(step)
        shutil.copytree(tmp_path / "first", directory, symlinks=True)
        is_dead = dies_at(step, lambda directory=directory: directory, lambda place: prune(place, {"used"}))
        for folder in ("images", "environments"):
            for leftover in (directory / folder).glob(".*.*"):
                os.utime(leftover, (0, 0))
        prune(directory, {"used"})
        assert (directory / "images" / "used" / "environment").resolve().is_dir()
        assert sorted(path.name for path in (directory / "images").iterdir()) == ["used"]
        assert {path.name for path in (directory / "environments").iterdir() if path.is_dir()} == {"one"}
        shutil.rmtree(directory)
    assert step > 10
