"""Jobs run as a user with a name, a free number and a home."""

import io

import pytest

from cloudknot.image.assembly.base.facts import BaseFacts
from cloudknot.image.assembly.layers.layer import LayerWriter, Owner
from cloudknot.image.assembly.layers.user import JobUser
from tests.unit.image.assembly.wheels import members, texts

ROOT_LINE = "root:x:0:0:root:/root:/bin/sh\n"


def facts(passwd=ROOT_LINE, group="root:x:0:\n"):
    return BaseFacts("/usr/bin/python3.11", "3.11", "", "", passwd, group)


def layer_for(user, base):
    file = io.BytesIO()
    layer = LayerWriter(file)
    user.write(layer, base)
    layer.close()
    return file.getvalue()


def test_new_user_gets_line_group_and_home():
    base = facts()
    user = JobUser.of("jo", base)
    content = layer_for(user, base)
    assert user.owner == Owner(1000, 1000)
    assert texts(content)["etc/passwd"] == f"{ROOT_LINE}jo:x:1000:1000::/home/jo:/bin/sh\n"
    assert texts(content)["etc/group"] == "root:x:0:\njo:x:1000:\n"
    home = members(content)["home/jo"]
    assert (home.uid, home.gid, home.mode) == (1000, 1000, 0o755)


@pytest.mark.parametrize(
    ("passwd", "group", "uid"),
    [
        (f"{ROOT_LINE}ubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n", "", 1001),
        (f"{ROOT_LINE}a:x:1001:5::/:/bin/sh\n", "a:x:1000:\n", 1002),
        ("", "", 1000),
        ("broken\nroot:x:0:0::/:", "also:broken", 1000),
    ],
)
def test_new_user_gets_first_free_number(passwd, group, uid):
    assert JobUser.of("jo", facts(passwd, group)).owner == Owner(uid, uid)


def test_missing_last_newline_is_added():
    base = facts(ROOT_LINE.rstrip(), "root:x:0:")
    content = layer_for(JobUser.of("jo", base), base)
    assert texts(content)["etc/passwd"].splitlines()[0] == ROOT_LINE.rstrip()
    assert len(texts(content)["etc/group"].splitlines()) == 2


def test_image_without_users_gets_root_too():
    base = facts("", "")
    content = layer_for(JobUser.of("jo", base), base)
    assert [line.partition(":")[0] for line in texts(content)["etc/passwd"].splitlines()] == ["root", "jo"]


def test_existing_user_keeps_numbers_and_home():
    base = facts(f"{ROOT_LINE}jovyan:x:1000:100:,,,:/home/jovyan:/bin/bash\n")
    user = JobUser.of("jovyan", base)
    assert (user.owner, user.home, user.is_new) == (Owner(1000, 100), "/home/jovyan", False)
    assert members(layer_for(user, base)) == {}


def test_existing_group_is_used():
    base = facts(group="root:x:0:\njo:x:50:\n")
    user = JobUser.of("jo", base)
    assert user.owner == Owner(1000, 50)
    assert "etc/group" not in texts(layer_for(user, base))


def test_user_of_the_base_image_needs_nothing():
    base = facts()
    assert members(layer_for(JobUser.of("", base), base)) == {}
