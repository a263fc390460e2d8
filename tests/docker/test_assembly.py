"""Images are assembled in a real registry, without a Docker engine, and the engine runs them."""

import contextlib
import getpass
import io
import os
import signal
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from importlib import metadata
from random import Random
from types import SimpleNamespace

import pytest

import cloudknot as ck
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry import patience
from cloudknot.aws.images.registry.client import Registry
from cloudknot.aws.images.registry.manifests import OCI_MANIFEST, digest_of
from cloudknot.aws.images.registry.upload import Blob
from cloudknot.image.assembly.assemble import assemble, assemble_environment
from cloudknot.image.assembly.base.libc import libc_of
from cloudknot.image.assembly.layers.layer import LayerWriter
from cloudknot.image.assembly.manifest import Composition
from cloudknot.image.assembly.progress import StoppedError
from cloudknot.program.packages.lock import LocalWheel, LockedPackage
from cloudknot.program.program import make_program
from tests.helpers.functions import cube, square
from tests.helpers.images import render_image
from tests.helpers.paths import ROOT
from tests.helpers.relay import BUSY, Relay
from tests.helpers.waiting import LONG
from tests.unit.image.assembly.wheels import make_wheel

MB = 1_000_000
PYTHON = "{}.{}".format(*sys.version_info)


@pytest.fixture(scope="module")
def relay(machine):
    """The relay between the assembly and the registry."""
    host, port = machine.registry.split(":")
    with Relay((host, int(port))) as relay:
        yield relay


@pytest.fixture
def repository(machine, relay):
    """A repository that only this test uses, reached through the relay. Only its login is read."""
    relay.forget()
    login = RegistryLogin(relay.address, machine.username, machine.password)
    return SimpleNamespace(name=f"assembled-{uuid.uuid4().hex[:8]}", login=lambda: login)


@pytest.fixture
def registry(repository):
    with Registry(repository.login()) as registry:
        yield registry


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Give this test a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def push_base(registry, name, architecture="amd64", python=PYTHON, files=None):
    """Push a base image with users and the name of a Python, and nothing else."""
    file = io.BytesIO()
    layer = LayerWriter(file)
    layer.file(f"/usr/bin/python{python}", b"")
    layer.link("/usr/bin/python3", f"python{python}")
    layer.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    for path, data in (files or {}).items():
        layer.file(path, data)
    done = layer.close()
    base = Composition({"os": "linux", "architecture": architecture, "config": {}}, (), False).with_layers([done], "x")
    for data in (file.getvalue(), base.config_blob()):
        blob = Blob(digest_of(data), len(data), lambda data=data: io.BytesIO(data))
        registry.push_blob(name, blob)
    media_type, body = base.manifest()
    assert media_type == OCI_MANIFEST
    registry.put_manifest(name, "1", media_type, body)
    return f"{registry.address}/{name}:1"


def packages_in(folder, *sizes):
    """Write wheels with random content to a folder, and return them as an index's packages."""
    for number, size in enumerate(sizes):
        files = {f"pack{number}/__init__.py": "", f"pack{number}/data": os.urandom(size)}
        path = folder / f"pack{number}-1.0-py3-none-any.whl"
        path.write_bytes(make_wheel(files, name=f"pack{number}").getvalue())
        digest = digest_of(path.read_bytes()).removeprefix("sha256:")
        yield LockedPackage(f"pack{number}", "1.0", path.name, digest, path.as_uri(), path.stat().st_size)


def image_of(base, packages, func=square, wheels=(), platform="linux/amd64"):
    """Return the image of a function with these packages, which are its own environment."""
    image = render_image(make_program(func), platform=platform, base_image=base, username="jo")
    lock = replace(image.lock, packages=tuple(packages))
    digest = digest_of(f"{lock.digest}{wheels}{base}{platform}".encode()).removeprefix("sha256:")
    tag = f"format2-{digest_of(f'{digest}{func.__name__}'.encode())[7:39]}"
    return replace(image, lock=lock, wheels=tuple(wheels), environment_digest=digest, tag=tag)


def uri_of(image, repository):
    return f"{repository.login().registry}/{repository.name}:{image.tag}"


def put(image, repository):
    """Assemble an image, and return the digest of its manifest."""
    assemble(image, repository, uri_of(image, repository))
    with Registry(repository.login()) as registry:
        manifest = registry.manifest(repository.name, image.tag)
        assert all(registry.has_blob(repository.name, layer.digest) for layer in manifest.layers)
        return manifest.digest


def test_edited_function_costs_one_small_layer_and_nine_requests(repository, registry, relay, own_cache, tmp_path):
    base = push_base(registry, repository.name)
    packages = list(packages_in(tmp_path, 5 * MB, 1000))
    relay.forget()
    put(image_of(base, packages), repository)
    assert relay.sent > 5 * MB

    relay.forget()
    edited = image_of(base, packages, cube)
    assemble(edited, repository, uri_of(edited, repository))
    # The environment's manifest and configuration; layer and configuration are looked for and sent; the manifest.
    assert len(relay.requests) == 9
    assert relay.sent < 100_000


def test_other_machine_finds_environment_and_needs_no_package(repository, registry, relay, tmp_path, monkeypatch):
    base = push_base(registry, repository.name)
    packages = list(packages_in(tmp_path, 5 * MB, 1000))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    put(image_of(base, packages), repository)
    relay.forget()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    elsewhere = [replace(package, url="https://127.0.0.1:1/gone.whl") for package in packages]
    put(image_of(base, elsewhere, cube), repository)
    assert relay.sent < 100_000


def test_new_package_sends_only_its_own_layer(repository, registry, relay, own_cache, tmp_path):
    base = push_base(registry, repository.name)
    first, second, small = packages_in(tmp_path, 6 * MB, 5 * MB, 1000)
    put(image_of(base, [first]), repository)
    relay.forget()
    (tmp_path / first.filename).unlink()
    put(image_of(base, [first, second, small]), repository)
    assert 5 * MB < relay.sent < 6 * MB


def test_image_is_same_for_other_home_folder_and_umask(repository, registry, tmp_path, monkeypatch):
    base = push_base(registry, repository.name)
    packages = list(packages_in(tmp_path, 5 * MB, 1000))
    wheel = LocalWheel("mylab", "1.0", "mylab-1.0-py3-none-any.whl", make_wheel({"m.py": ""}, name="mylab").getvalue())
    digests = set()
    for name, umask in (("one", 0o022), ("two", 0o077)):
        (tmp_path / name).mkdir()
        for variable in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
            monkeypatch.setenv(variable, str(tmp_path / name))
        monkeypatch.chdir(tmp_path / name)
        before = os.umask(umask)
        image = replace(image_of(base, packages, wheels=[wheel]), nocache=True)
        digests.add(put(image, repository))
        os.umask(before)
    assert len(digests) == 1


def test_arm64_image_is_assembled_on_this_machine(repository, registry, own_cache, tmp_path):
    base = push_base(registry, repository.name, "arm64")
    image = image_of(base, packages_in(tmp_path, 1000), platform="linux/arm64")
    put(image, repository)
    manifest = registry.manifest(repository.name, image.tag)
    config = registry.config(repository.name, manifest)
    assert (config["architecture"], config["config"]["User"]) == ("arm64", "jo")
    assert len(config["rootfs"]["diff_ids"]) == len(manifest.layers) == 4
    with pytest.raises(ck.ImageError, match="for linux/arm64, but the instance types need linux/amd64"):
        put(image_of(base, []), repository)


def test_base_image_with_other_python_is_refused_before_packages_are_sent(repository, registry, relay, own_cache):
    base = push_base(registry, repository.name, python="3.2")
    with pytest.raises(ck.ImageError, match=r"it has Python 3\.2\."):
        put(image_of(base, []), repository)
    assert registry.tags(repository.name) == ["1"]


@pytest.mark.parametrize("seed", range(3))
def test_assembly_survives_a_registry_that_is_busy_and_cuts_connections(
    seed, repository, registry, relay, own_cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    base = push_base(registry, repository.name)
    image = image_of(base, packages_in(tmp_path, 5 * MB, 1000))
    expected = put(image, repository)
    fresh = SimpleNamespace(name=f"{repository.name}-disturbed", login=repository.login)
    random = Random(seed)
    answers = [random.choice([None, None, BUSY, b""]) for _ in range(60)]
    relay.forget()
    relay.disturb(answers)
    assemble(replace(image, nocache=True), fresh, uri_of(image, fresh))
    assert len(relay.requests) > 20
    relay.disturb([])
    assert registry.manifest(fresh.name, image.tag).digest == expected


def packages_seen(_):
    found = {(entry.metadata["Name"], entry.version) for entry in metadata.distributions()}
    return sorted(version for name, version in found if name in ("six", "attrs"))


def test_image_on_an_image_of_cloudknot_has_only_its_own_packages(cloud, machine, tmp_path):
    name = f"below-{uuid.uuid4().hex[:8]}"
    base = {"base_image": machine.base_image, "requirements": ["six==1.16.0", "attrs"]}
    below = ck.Knot(name=name, func=square, cloud=cloud, repo_name=name, **base)
    (tag,) = [tag for tag in tags_of(cloud, name) if tag.startswith("format")]
    base = {"base_image": f"{machine.registry}/{name}:{tag}", "requirements": ["six==1.17.0"]}
    for builder in ("assembly", "engine"):
        choices = {"repo_name": name, "username": "jo", "image_work_dir": tmp_path / "d", **base}
        knot = ck.Knot(name=f"{name}-above", func=packages_seen, cloud=cloud, **choices)
        assert knot.map([0]).result(LONG) == [["1.17.0"]], builder
        # The engine builds an edited environment.
        dockerfile = knot.docker_image.docker_path
        dockerfile.write_text(dockerfile.read_text().replace("COPY pylock", "ENV EDITED=yes\nCOPY pylock"))
    knot.clobber()
    below.clobber(clobber_repo=True, clobber_image=True)


def tags_of(cloud, name):
    with Registry(cloud.repository(name).login()) as registry:
        return registry.tags(name)


def test_environment_alone_is_found_by_later_program(repository, registry, relay, own_cache, tmp_path):
    base = push_base(registry, repository.name)
    image = image_of(base, packages_in(tmp_path, 1000))
    assemble_environment(image, repository, f"{relay.address}/{repository.name}:{image.environment_tag}")
    assert sorted(registry.tags(repository.name)) == sorted(["1", image.environment_tag])
    relay.forget()
    put(image, repository)
    assert relay.sent < 100_000


def test_two_sessions_at_once_both_publish(repository, registry, own_cache, tmp_path):
    base = push_base(registry, repository.name)
    packages = list(packages_in(tmp_path, 8 * MB, 1000))
    digests, errors = set(), []

    def work():
        try:
            digests.add(put(image_of(base, packages), repository))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert (len(digests), errors) == (1, [])


ASSEMBLE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from cloudknot.aws.images.ecr import RegistryLogin
from tests.docker.test_assembly import assemble, image_of, read_packages, uri_of

name, base, folder = sys.argv[1:]
login = RegistryLogin(*sys.stdin.read().split())
repository = SimpleNamespace(name=name, login=lambda: login)
image = image_of(base, read_packages(Path(folder)))
assemble(image, repository, uri_of(image, repository))
"""


def read_packages(folder):
    """Return the wheels in a folder as an index's packages."""
    for path in sorted(folder.glob("*.whl")):
        digest = digest_of(path.read_bytes()).removeprefix("sha256:")
        yield LockedPackage(path.name.partition("-")[0], "1.0", path.name, digest, path.as_uri(), path.stat().st_size)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_assembly_goes_on_in_next_session(how, repository, registry, relay, own_cache, tmp_path):
    base = push_base(registry, repository.name)
    packages = list(packages_in(tmp_path, 5 * MB, 20 * MB))
    (tmp_path / "temporary").mkdir()
    login = repository.login()
    command = [sys.executable, "-c", ASSEMBLE, repository.name, base, str(tmp_path)]
    variables = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    relay.hold_after(12 * MB)
    client = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    client.stdin.write(f"{login.registry} {login.username} {login.password}".encode())
    client.stdin.close()
    assert relay.held.wait(LONG)
    client.send_signal(how)
    relay.cut()
    assert client.wait(LONG) != 0
    relay.mend()
    assert registry.tags(repository.name) == ["1"]
    if how == signal.SIGINT:
        assert list((tmp_path / "temporary").iterdir()) == []
    relay.forget()
    put(image_of(base, packages), repository)
    # The first layer, of 5 MB, arrived before the interrupt.
    assert relay.sent < 22 * MB


def test_stopped_assembly_sends_no_more_and_stores_no_image(repository, registry, relay, own_cache, tmp_path):
    base = push_base(registry, repository.name)
    image, stop, errors = image_of(base, packages_in(tmp_path, 20 * MB, 20 * MB)), threading.Event(), []

    def work():
        try:
            assemble(image, repository, uri_of(image, repository), stop=stop)
        except StoppedError as error:
            errors.append(error)

    relay.hold_after(5 * MB)
    thread = threading.Thread(target=work)
    thread.start()
    assert relay.held.wait(LONG)
    stop.set()
    relay.cut()
    relay.mend()
    thread.join(LONG)
    assert len(errors) == 1
    assert registry.tags(repository.name) == ["1"]


def look_around(x):
    import subprocess
    import sys

    import numpy
    from click.testing import CliRunner

    output = subprocess.run([sys.executable, "-m", "numpy.f2py", "-v"], capture_output=True, text=True).stdout
    script = subprocess.run(["numpy-config", "--version"], capture_output=True, text=True).stdout
    files = metadata.files("numpy")
    return {
        "sum": int(numpy.arange(x).sum()),
        "user": getpass.getuser(),
        "home": os.path.expanduser("~"),
        "uid": os.getuid(),
        "tool": script.strip() == metadata.version("numpy"),
        "module": bool(output) and CliRunner is not None,
        "missing": [str(file) for file in files if not file.locate().exists()],
        "changed": [str(file) for file in files if file.hash and not is_intact(file)],
        "prefix": sys.prefix,
        "writable": os.access(os.getcwd(), os.W_OK),
    }


def is_intact(file):
    import base64
    import hashlib

    digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value


@pytest.mark.contract
def test_map_runs_in_assembled_image_as_its_user(cloud, machine, engine, monkeypatch):
    base = f"{machine.registry}/cloudknot-assembly/base"
    engine.tag(machine.base_image, base, "1", force=True)
    for event in engine.push(base, "1", stream=True, decode=True, auth_config=vars_of(machine)):
        assert "error" not in event, event
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        knot = ck.Knot(name="assembled", func=look_around, base_image=f"{base}:1", username="jo", cloud=cloud)
    (found,) = knot.map([10]).result(LONG)
    assert found == {
        "sum": 45,
        "user": "jo",
        "home": "/home/jo",
        "uid": 1000,
        "tool": True,
        "module": True,
        "missing": [],
        "changed": [],
        "prefix": "/opt/cloudknot/env",
        "writable": True,
    }
    with contextlib.suppress(ck.CloudknotError):
        knot.clobber(clobber_image=True)


def vars_of(machine):
    return {"username": machine.username, "password": machine.password}


@pytest.mark.parametrize(
    ("files", "libc"),
    [
        ({"/lib/ld-musl-x86_64.so.1": b""}, "musllinux_1_2"),
        ({"/lib/libc.so.6": b"GNU C Library (x) stable release version 2.17, by Roland"}, "manylinux_2_17"),
        ({"/lib/libc.so.6": b"GNU C Library (x) stable release version 2.36."}, "manylinux_2_36"),
        ({}, "manylinux_2_36"),
    ],
)
def test_packages_are_chosen_for_the_library_of_the_base_image(files, libc, repository, registry, own_cache):
    base = push_base(registry, repository.name, files=files)
    assert libc_of(base, "linux/amd64", repository.login) == libc
    registry.delete(repository.name, registry.manifest(repository.name, "1").digest)
    assert libc_of(base, "linux/amd64", repository.login) == libc
