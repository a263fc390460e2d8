"""Images for an architecture that is not the engine's own: Graviton (arm64) images built on an x86-64 machine."""

import io
import struct
import tarfile
import uuid
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.image.engine.builder import DockerBuilder

# A whole arm64 program by hand, since no arm64 image is at hand: mov x0, #0; mov x8, #93 (exit); svc #0.
# ELF header and program header follow.
CODE = struct.pack("<III", 0xD2800000, 0xD2800BA8, 0xD4000001)
START, LENGTH = 0x400078, 0x78 + len(CODE)
ARM64_PROGRAM = (
    struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 183, 1, START, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, LENGTH, LENGTH, 4096)
    + CODE
)


@pytest.fixture(scope="session")
def arm64_base(engine):
    """A base image for linux/arm64. Its shell and its Python are an arm64 program that exits at once."""
    dockerfile = b"FROM scratch\nCOPY passwd /etc/\nCOPY program /bin/sh\nCOPY program /usr/bin/python\n"
    files = {"Dockerfile": (dockerfile, 0o644), "program": (ARM64_PROGRAM, 0o755)}
    files["passwd"] = b"root:x:0:0::/:/bin/sh\n", 0o644
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, (data, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    context.seek(0)
    options = {"custom_context": True, "platform": "linux/arm64", "tag": "cloudknot-arm64:1"}
    for event in engine.build(fileobj=context, decode=True, **options):
        assert "error" not in event, event
    assert engine.inspect_image("cloudknot-arm64:1")["Architecture"] == "arm64"
    return "cloudknot-arm64:1"


def test_knot_refuses_base_image_for_another_architecture_before_push(cloud, machine):
    knot = {"name": "graviton", "func": abs, "instance_types": "m7g.large", "repo_name": "graviton", "cloud": cloud}
    with pytest.raises(ck.ImageError, match=r"for linux/amd64, but the instance types need linux/arm64.*base_image="):
        ck.Knot(base_image=machine.base_image, **knot)
    assert cloud.call("ecr", "list_images", repositoryName="graviton")["imageIds"] == []


EMULATED = any(Path("/proc/sys/fs/binfmt_misc").glob("*aarch64*"))


@pytest.mark.skipif(EMULATED, reason="this machine emulates arm64")
def test_build_without_emulator_raises_image_error_with_advice(engine, arm64_base):
    # A random variable, since an engine that had an emulator once may have cached the build.
    line = f"ENV NEW={uuid.uuid4()}"
    image = image_in(DockerImage(func=abs, base_image=arm64_base, dockerfile_lines=line), "linux/arm64")
    with pytest.raises(ck.ImageError, match=r"cannot run programs for linux/arm64.*Install an emulator"):
        DockerBuilder(engine).build(image, "cloudknot-graviton:1")


@pytest.mark.skipif(not EMULATED, reason="this machine does not emulate arm64, as Debian's qemu-user-static would")
def test_engine_with_emulator_builds_and_pushes_arm64_image(cloud, engine, arm64_base):
    knot = ck.Knot(name="emulated", func=abs, base_image=arm64_base, instance_types="m7g.large", cloud=cloud)
    image = image_in(knot.docker_image, "linux/arm64")
    uri, login = f"{knot.docker_repo.repo_uri}:{image.tag}", cloud.repository(knot.docker_repo.name).login()
    engine.remove_image(uri, force=True)
    auth = {"username": login.username, "password": login.password}
    engine.pull(*uri.rsplit(":", 1), auth_config=auth, platform="linux/arm64")
    assert engine.inspect_image(uri)["Architecture"] == "arm64"
