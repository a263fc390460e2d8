"""The layer with the empty environment hides that of a base image which cloudknot has made, and nothing else."""

import gzip
import io
import tarfile

import pytest

from cloudknot.image.assembly.base.facts import BaseFacts
from cloudknot.image.assembly.layers.environment import environment_frame
from cloudknot.image.assembly.layers.user import JobUser

OWN = "/opt/cloudknot/env/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("packages", "hidden", "has_link"),
    [
        ("", set(), False),
        ("/venv/lib/python3.11/site-packages", set(), True),
        (OWN, {"env", "program", "cloudknot_worker"}, False),
    ],
)
def test_frame_hides_only_an_environment_of_cloudknot(packages, hidden, has_link):
    facts = BaseFacts("/usr/bin/python3.11", "3.11", "manylinux_2_36", packages, "root:x:0:0:root:/root:/bin/sh\n", "")
    _, content = environment_frame(facts, JobUser.of("jo", facts), "")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as archive:
        names = archive.getnames()
    assert {name.split("/")[-2] for name in names if name.endswith("/.wh..wh..opq")} == hidden
    assert (f"{OWN}/_base_image.pth".lstrip("/") in names) == has_link
    assert "opt/cloudknot/env/pyvenv.cfg" in names
