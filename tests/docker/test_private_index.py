"""Packages of a private index and local packages reach an edited Dockerfile, and the login of the index does not."""

import base64
import dataclasses
import gzip
import json
import uuid

import pytest

import cloudknot as ck
from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.reference import ImageReference
from cloudknot.image import context
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.program.packages.lock import LocalWheel
from tests.helpers.waiting import LONG
from tests.integration.packages.index import package_index, wheel

SECRET = f"s3cret-{uuid.uuid4().hex}"
"""Random, because functions travel with the source of their module, which is this one."""
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


def lab_version(_):
    import lab_private

    return lab_private.__version__


def stored(repository, base_image):
    """Yield what a repository contains beside a base image: manifests, configurations and unpacked layers."""
    base = ImageReference.parse(base_image)
    with Registry(repository.login()) as registry:
        known = registry.image_manifest(base.repository, base.reference, "linux/amd64").layers
        manifests = [registry.manifest(repository.name, tag) for tag in registry.tags(repository.name)]
        yield from (manifest.body for manifest in manifests)
        for blob in {blob for manifest in manifests for blob in (manifest.config, *manifest.layers)}.difference(known):
            with registry.open_blob(repository.name, blob.digest, blob.size) as stream:
                data = stream.read()
            yield gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


@pytest.mark.parametrize("options", [{}, {"dockerfile_lines": ["RUN echo private > /private"]}])
def test_assembled_image_and_definition_have_no_login(options, cloud, machine, private, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"--extra-index-url {private.url_with_login}\nlab-private==1.0\n")
    name = f"private-{uuid.uuid4().hex[:8]}"
    choices = {"base_image": machine.base_image, "requirements": requirements, "repo_name": name, **options}
    knot = ck.Knot(name=name, func=lab_version, cloud=cloud, **choices)
    job = knot.map([1])
    assert job.result(LONG) == ["1.0"]
    pieces = list(stored(cloud.repository(name), machine.base_image))
    assert any(b"lab_private" in piece for piece in pieces)
    secrets = [SECRET.encode(), base64.b64encode(f"me:{SECRET}".encode())]
    assert [piece[:80] for piece in pieces if any(secret in piece for secret in secrets)] == []
    for client, call in (("batch", "describe_job_definitions"), ("cloudformation", "describe_stacks")):
        assert SECRET not in str(getattr(cloud.client(client), call)())
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    knot.clobber(clobber_repo=True, clobber_image=True)
