"""Packages of a private index and local packages reach an edited Dockerfile, and the login of the index does not."""

import dataclasses
import json

import pytest

from cloudknot.image import context
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.program.packages.lock import LocalWheel
from tests.helpers.waiting import LONG
from tests.integration.packages.index import package_index, wheel

SECRET = "s3cret-of-the-index"
NAME = "cloudknot-private:1"
PRINT = "import lab_private, mylab, sys; print(lab_private.__version__, mylab.__version__, sys.prefix)"


@pytest.fixture
def private(monkeypatch, tmp_path):
    """Yield an index with a login, which only the netrc file of this session contains."""
    with package_index(wheel("lab-private", "1.0"), login=f"me:{SECRET}") as index:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield index


def saved(engine, name):
    """Return everything that an image consists of: its descriptions and layers, which are not compressed."""
    return b"".join(engine.get_image(name))


def output_of(engine, command):
    container = engine.create_container(NAME, command, network_disabled=True)["Id"]
    try:
        engine.start(container)
        engine.wait(container, timeout=LONG)
        return engine.logs(container).decode()
    finally:
        engine.remove_container(container, force=True)


def test_edited_dockerfile_gets_files_of_private_index_without_its_login(engine, machine, private, tmp_path):
    base, lines = machine.base_image, {"requirements": ["lab-private==1.0"]}
    made = DockerImage(func=abs, base_image=base, dir_name=tmp_path / "d", **lines)
    text = made.docker_path.read_text()
    made.docker_path.write_text(text.replace("COPY pylock", "ENV EDITED=1\nCOPY pylock"))
    image = image_in(made)
    assert image.needs_engine == context.EDITED
    assert [package.version for package in image.lock.packages if package.name == "lab-private"] == ["1.0"]
    filename, content = wheel("mylab", "0.1")
    local = LocalWheel("mylab", "0.1", filename, content)
    files = {**image.files, **context.locked_files(image.lock, [local])}
    image = dataclasses.replace(image, wheels=(local,), files=files, nocache=True)

    DockerBuilder(engine).build(image, NAME)
    assert output_of(engine, ["python", "-c", PRINT]).split() == ["1.0", "0.1", "/opt/cloudknot/env"]
    assert "EDITED=1" in json.dumps(engine.inspect_image(NAME))
    data = saved(engine, NAME)
    assert b"lab_private" in data
    assert SECRET.encode() not in data
    assert all(SECRET.encode() not in content for content in image.files.values())
