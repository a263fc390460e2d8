"""`DockerBuilder` builds, checks, pushes and pulls images, with a real engine and a real registry with a login."""

import contextlib
import io
import json
import logging
import uuid
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

import cloudknot as ck
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.image.engine.builder import DockerBuilder

INSTALL = "RUN apt-get update && apt-get install --yes --no-install-recommends"


def identity(x):
    return x


@pytest.fixture(scope="session")
def base(machine):
    return machine.base_image


@pytest.fixture
def repository(cloud):
    return cloud.repository("builder-tests")


class RecordingEngine:
    """A client of the engine that records builds, pushes and pulls with their tags."""

    def __init__(self, engine):
        self._engine, self.requests = engine, []

    def __getattr__(self, name):
        method = getattr(self._engine, name)

        def call(*arguments, **options):
            if name in ("build", "push", "pull"):
                tag = options.get("tag") or arguments[-1]
                self.requests.append((name, tag.rpartition(":")[2]))
            return method(*arguments, **options)

        return call


def remove_from_engine(engine, repository, *tags):
    """Remove images with these tags from the engine."""
    for tag in tags:
        with contextlib.suppress(ImageNotFound):
            engine.remove_image(f"{repository.create()}:{tag}", force=True)


def test_builder_reuses_or_pulls_environment_and_rebuilds_only_program(engine, repository, base):
    # The registry keeps images from earlier test runs, so a random variable makes this environment new.
    choices = {"base_image": base, "requirements": ["six==1.16.0"], "dockerfile_lines": f"ENV NEW={uuid.uuid4()}"}
    image = image_in(DockerImage(func=identity, **choices))
    edited = image_in(DockerImage(func=lambda x: x + 2, **choices))
    uri, env = repository.create(), image.environment_tag
    assert edited.environment_tag == env
    first = RecordingEngine(engine)
    DockerBuilder(first).publish(image, repository, f"{uri}:{image.tag}")
    assert first.requests == [("build", env), ("push", env), ("build", image.tag), ("push", image.tag)]
    assert repository.has_tag(image.tag)
    assert repository.has_tag(env)

    second = RecordingEngine(engine)
    DockerBuilder(second).publish(edited, repository, f"{uri}:{edited.tag}")
    assert second.requests == [("build", edited.tag), ("push", edited.tag)]

    # Another machine has neither image. It pulls the environment instead of building it.
    remove_from_engine(engine, repository, image.tag, edited.tag, env)
    repository.delete_images([digest for digest, tags in repository.images().items() if edited.tag in tags])
    assert not repository.has_tag(edited.tag)
    third = RecordingEngine(engine)
    DockerBuilder(third).publish(edited, repository, f"{uri}:{edited.tag}")
    assert third.requests == [("pull", env), ("build", edited.tag), ("push", edited.tag)]
    layers = [engine.inspect_image(f"{uri}:{tag}")["RootFS"]["Layers"] for tag in (env, edited.tag)]
    assert layers[1][: len(layers[0])] == layers[0]
    assert len(layers[1]) == len(layers[0]) + 2


def test_docker_build_of_written_context_gives_unprivileged_user(engine, base, tmp_path):
    """The Dockerfile has both stages, so `docker build .` in the directory suffices."""
    image = DockerImage(func=identity, base_image=base, dir_name=tmp_path / "d", requirements=[])
    events = list(engine.build(path=str(image.build_path), tag="cloudknot-by-hand:1", rm=True, decode=True))
    assert not [event for event in events if "error" in event]
    container = engine.create_container("cloudknot-by-hand:1", ["id", "-un"])["Id"]
    engine.start(container)
    engine.wait(container, timeout=60)
    assert engine.logs(container) == b"cloudknot-user\n"
    engine.remove_container(container)


def test_image_error_names_failed_step_and_keeps_log(engine, base):
    image = image_in(DockerImage(func=identity, base_image=base, dockerfile_lines=["RUN echo before; false"]))
    with pytest.raises(ck.ImageError, match="RUN echo before; false") as caught:
        DockerBuilder(engine).build(image, "cloudknot-failing:1")
    assert caught.value.log.splitlines()[-1] == "before"


@pytest.fixture(scope="session")
def other_python(engine, base):
    """Base images for failures: in one, `python3` is PyPy of another minor version; in the other, it is missing."""
    for name, line in (
        ("old", f"{INSTALL} pypy3 && rm /usr/bin/python3* && ln -sf pypy3 /usr/bin/python3"),
        ("none", "RUN rm /usr/bin/python*"),
    ):
        text = f"FROM {base}\n{line}\n".encode()
        for event in engine.build(fileobj=io.BytesIO(text), tag=f"cloudknot-{name}:1", rm=True, decode=True):
            assert "error" not in event, event


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    ("name", "message"),
    [("old", r"it has Python 3\.\d+\. The program was pickled by"), ("none", "no command `python`")],
)
def test_builder_refuses_base_image_with_wrong_or_no_python_before_push(engine, repository, name, message):
    image = image_in(DockerImage(func=identity, base_image=f"cloudknot-{name}:1"))
    recording = RecordingEngine(engine)
    with pytest.raises(ck.ImageError, match=message):
        DockerBuilder(recording).publish(image, repository, f"{repository.create()}:{image.tag}")
    assert {request[0] for request in recording.requests} == {"build"}


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    "template", ["FROM cloudknot-old:1 AS environment\n{}FROM ${{ENVIRONMENT}}\n{}", "FROM cloudknot-old:1\n{}{}"]
)
def test_builder_refuses_same_image_again(engine, repository, tmp_path, template):
    text = template.format(f"ENV NEW={uuid.uuid4()}\n", "COPY program ./program/\n")
    (tmp_path / "Dockerfile").write_text(f"ARG ENVIRONMENT=environment\n{text}")
    image = image_in(DockerImage(func=identity, dir_name=tmp_path))
    recording = RecordingEngine(engine)
    for _ in range(2):
        with pytest.raises(ck.ImageError, match=r"it has Python 3\.\d+\. The program was pickled by"):
            DockerBuilder(recording).publish(image, repository, f"{repository.create()}:{image.tag}")
    assert {request[0] for request in recording.requests} == {"build"}


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    ("name", "message"),
    [("old", r"it has Python 3\.\d+\. The program was pickled by"), ("none", "no command `python`")],
)
def test_builder_checks_python_of_edited_dockerfile(engine, tmp_path, name, message):
    (tmp_path / "Dockerfile").write_text(f"FROM cloudknot-{name}:1\nCOPY . /opt/cloudknot\n")
    image = image_in(DockerImage(func=identity, dir_name=tmp_path))
    with pytest.raises(ck.ImageError, match=message):
        DockerBuilder(engine).build(image, "cloudknot-edited:1")


def test_push_with_wrong_password_fails_and_right_password_leaves_no_trace(engine, machine, repository, base, caplog):
    image = image_in(DockerImage(func=identity, base_image=base, requirements=["six==1.16.0"]))
    uri = f"{repository.create()}:{image.tag}"
    with caplog.at_level(logging.DEBUG):
        DockerBuilder(engine).build(image, uri)
        with pytest.raises(ck.ImageError, match="Pushing"):
            DockerBuilder(engine).push(uri, RegistryLogin(machine.registry, "cloudknot", "wrong"))
        DockerBuilder(engine).push(uri, repository.login())
    assert machine.password not in caplog.text
    config = Path.home() / ".docker" / "config.json"
    assert not config.exists() or machine.password not in config.read_text()
    assert machine.password not in json.dumps(engine.inspect_image(uri))


def test_repository_is_created_once_with_scan_tags_and_lifecycle_rule(cloud):
    repository = cloud.repository("made/on-first-use", {"Project": "pi"})
    uri = repository.create()
    assert uri == repository.create()
    assert repository.describe()["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = cloud.call("ecr", "list_tags_for_resource", resourceArn=repository.arn)["tags"]
    assert {"Key": "Project", "Value": "pi"} in tags
    policy = cloud.call("ecr", "get_lifecycle_policy", repositoryName=repository.name)["lifecyclePolicyText"]
    (rule,) = json.loads(policy)["rules"]
    assert rule["selection"]["tagStatus"] == "untagged"
    assert rule["action"] == {"type": "expire"}
    repository.clobber()


def test_clobber_of_docker_image_removes_its_names_from_the_engine_and_not_from_the_registry(engine, cloud, base):
    """The end of the old notebook about `DockerImage`: build, push, ``image.clobber()`` and ``repo.clobber()``."""
    image = DockerImage("clobbered_here", identity, base_image=base)
    repo = ck.DockerRepo(f"notebook-{uuid.uuid4()}", cloud=cloud)
    image.build(tags=["example", "newest"])
    image.push(repo=repo)
    names = [f"{name}:{tag}" for name in ("cloudknot/clobbered-here", repo.repo_uri) for tag in ("example", "newest")]
    assert [name for name in names if name in tags_in_engine(engine)] == names
    image.clobber()
    assert [name for name in names if name in tags_in_engine(engine)] == []
    assert sorted(tag for tags in cloud.repository(repo.name).images().values() for tag in tags) == [
        "example",
        "newest",
    ]
    repo.clobber()
    assert cloud.repository(repo.name).find() is None


def tags_in_engine(engine):
    return {tag for found in engine.images() for tag in found["RepoTags"] or ()}
