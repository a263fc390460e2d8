"""`DockerImage` writes a directory, respects edits there, and is built and pushed. A fake builder records calls."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError, ImageError
from cloudknot.image.docker_image import EDITED, DockerImage, docker_image_of, program_in
from cloudknot.options.choices import KnotOptions
from tests.helpers.functions import cube, square
from tests.helpers.images import image_in


@dataclass
class Builder:
    """A fake `DockerBuilder` that records its calls."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *error: object) -> None: ...

    def build(self, image: Any, uri: str) -> None:
        self.calls.append(("build", uri, image.nocache, image.platform))

    def tag(self, uri: str, other: str) -> None:
        self.calls.append(("tag", uri, other))

    def push(self, uri: str, login: Any = None) -> None:
        self.calls.append(("push", uri, login))

    def remove(self, uri: str) -> None:
        self.calls.append(("remove", uri))


@pytest.fixture
def image(tmp_path: Path) -> DockerImage:
    return DockerImage("squares", square, dir_name=tmp_path / "d")


def test_directory_contains_build_context(image: DockerImage, tmp_path: Path) -> None:
    assert image.build_path == tmp_path / "d"
    assert image.docker_path.read_text().startswith("# Made by cloudknot")
    assert "cloudpickle==" in image.req_path.read_text()
    assert "def square" in image.script_path.read_text()
    assert image_in(image).files == image_in(DockerImage(func=square)).files


@pytest.mark.parametrize(
    "option",
    [
        {"base_image": "mine:1"},
        {"github_installs": "https://github.com/somebody/tool@" + "0" * 40},
        {"apt_packages": "python3-tool"},
        {"dockerfile_lines": "RUN make tool"},
    ],
)
def test_missing_import_causes_warning_if_image_may_contain_it(option: dict[str, str]) -> None:
    def func() -> None:
        import no_such_tool  # type: ignore[import-not-found]  # noqa: F401

    with pytest.warns(UserWarning, match="imports no_such_tool, which is not installed here.*unless the base image"):
        DockerImage(func=func, **option)  # type: ignore[arg-type]
    with pytest.raises(CloudknotInputError, match="no_such_tool"):
        DockerImage(func=func)


def test_reading_docker_path_writes_temporary_directory() -> None:
    image = DockerImage(func=square)
    assert image.docker_path.is_file()
    assert image_in(image) == image_in(DockerImage(func=square))


def test_edited_dockerfile_is_built_and_changes_tag(image: DockerImage) -> None:
    before = image_in(image)
    image.docker_path.write_text(image.docker_path.read_text().replace("COPY pylock", "RUN true\nCOPY pylock"))
    after = image_in(image)
    assert b"RUN true\n" in after.files["Dockerfile"]
    assert after.tag != before.tag
    assert after.environment_digest != before.environment_digest
    assert (before.needs_engine, after.needs_engine) == ("", EDITED)


def test_new_function_keeps_edits_and_replaces_program_files(image: DockerImage) -> None:
    edited = image.docker_path.read_text() + "ENV MINE=1\n"
    image.docker_path.write_text(edited)
    (image.build_path / "data.csv").write_text("1,2")
    again = DockerImage("squares", cube, dir_name=image.build_path)
    assert again.docker_path.read_text() == edited
    assert "def cube" in again.script_path.read_text()
    assert "data.csv" in image_in(again).files


def test_added_file_keeps_executable_bit(image: DockerImage) -> None:
    (image.build_path / "tool").write_text("echo\n")
    assert image_in(image).executables == frozenset()
    (image.build_path / "tool").chmod(0o744)
    # cloudknot's own files have no such bit in the image.
    for own_file in (image.docker_path, image.req_path, image.script_path):
        own_file.chmod(0o755)
    assert image_in(image).executables == {"tool"}


def test_new_requirements_warn_about_edited_file(image: DockerImage) -> None:
    image.req_path.write_text("cloudpickle\nboto3\n")
    with pytest.warns(UserWarning, match=r"edited requirements\.txt in .* is out of date.*overwrite=True"):
        again = DockerImage("squares", square, dir_name=image.build_path, requirements=["six==1.16.0"])
    assert image_in(again).requirements == ("cloudpickle", "boto3")
    replaced = DockerImage("squares", square, dir_name=image.build_path, requirements=["six==1.16.0"], overwrite=True)
    assert "six==1.16.0" in image_in(replaced).requirements


def test_new_program_removes_files_of_previous_one(tmp_path: Path) -> None:
    script = tmp_path / "a.sh"
    script.write_text("#!/bin/sh\necho $1\n")
    DockerImage(script_path=script, dir_name=tmp_path / "d")
    image = DockerImage(func=square, dir_name=tmp_path / "d")
    assert not [path for path in image_in(image).files if path.endswith("a.sh")]


def test_existing_dockerfile_is_kept(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM mine\nCOPY . /opt/cloudknot\n")
    image = DockerImage(func=square, dir_name=tmp_path)
    assert image.docker_path.read_text().startswith("FROM mine")
    assert image_in(image).needs_engine == EDITED
    DockerImage(func=square, dir_name=tmp_path)


def test_directory_with_conflicting_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program/function.py").write_text("mine")
    with pytest.raises(
        CloudknotInputError, match=r"program/function\.py, which cloudknot did not write\..*pass another directory"
    ):
        DockerImage(func=square, dir_name=tmp_path)
    assert (tmp_path / "program/function.py").read_text() == "mine"


def test_existing_directory_is_read_without_function(image: DockerImage) -> None:
    again = DockerImage(dir_name=image.build_path)
    assert program_in(again) is None
    assert image_in(again).tag == image_in(image).tag
    with pytest.raises(
        CloudknotInputError, match="is not a build context of cloudknot\\. It has no Dockerfile, no requirements"
    ):
        DockerImage(dir_name=image.build_path / "program")


def test_imports_become_requirements(tmp_path: Path) -> None:
    def func() -> object:
        # pipreqs' table has this module of a package that hardly anybody installs.
        import aadb  # type: ignore[import-not-found]
        import numpy

        return numpy, aadb

    with pytest.warns(UserWarning, match="auto-adjust-display-brightness"):
        image = DockerImage(func=func)
    assert "numpy" in image.pip_imports
    assert image.missing_imports == ("aadb",)
    assert [line for line in image_in(image).requirements if line.startswith("numpy==")]
    with pytest.warns(UserWarning, match="auto-adjust"):
        image = DockerImage(func=func, pin_pip_versions=False)
    assert "numpy" in image_in(image).requirements


def test_dockerfile_has_unprivileged_user() -> None:
    assert b"\nUSER cloudknot-user\n" in image_in(DockerImage(func=square)).files["Dockerfile"]
    assert b"\nUSER jo\n" in image_in(DockerImage(func=square, username="jo")).files["Dockerfile"]


def test_image_is_built_once_and_pushed_under_every_tag() -> None:
    builder = Builder()
    image = DockerImage("Squares", square, builder=builder)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"no image to push.* Call image\.build\("):
        image.push(repo_uri="host/r")
    image.build(["v1", "latest"], nocache=True)
    assert image.images == [{"name": "cloudknot/squares", "tag": "v1"}, {"name": "cloudknot/squares", "tag": "latest"}]
    image.push(repo_uri="host/r")
    assert image.repo_uri == "host/r"
    assert builder.calls == [
        ("build", "cloudknot/squares:v1", True, "linux/amd64"),
        ("tag", "cloudknot/squares:v1", "cloudknot/squares:latest"),
        ("tag", "cloudknot/squares:v1", "host/r:v1"),
        ("push", "host/r:v1", None),
        ("tag", "cloudknot/squares:latest", "host/r:latest"),
        ("push", "host/r:latest", None),
    ]
    with pytest.raises(CloudknotInputError, match="needs either repo= or repo_uri="):
        image.push()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"func": square, "script_path": "x.py"},
        {"func": square, "apt_packages": "a;b"},
        {"script_path": "/none.py"},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(CloudknotInputError):
        DockerImage(**options)


def test_knot_options_become_docker_image() -> None:
    options = KnotOptions.make(func=square, apt_packages="imagej", username="jo", base_image="debian:12")
    image = docker_image_of(options)
    assert image is not None
    same = DockerImage(func=square, apt_packages="imagej", username="jo", base_image="debian:12")
    assert image_in(image) == image_in(same)
    assert image_in(image).needs_engine == "apt_packages"
    assert docker_image_of(KnotOptions.make(docker_image=image)) is image
    assert docker_image_of(KnotOptions.make(name="found-by-name")) is None
    with pytest.raises(CloudknotInputError, match=r"docker_image='mine' is not a DockerImage\..*Pass for example"):
        ck.Knot(docker_image="mine")  # type: ignore[arg-type]


def test_base_image_has_running_python_version() -> None:
    text = image_in(DockerImage(func=square)).files["Dockerfile"].decode()
    assert f"FROM python:3.{sys.version_info.minor}-slim AS system" in text


def test_image_shows_the_choices_that_old_notebooks_print() -> None:
    image = DockerImage("test_func", square, github_installs="https://github.com/somebody/tool@" + "0" * 40)
    assert (image.name, image.func, image.username) == ("test_func", square, "cloudknot-user")
    assert image.github_installs == ("https://github.com/somebody/tool@" + "0" * 40,)


def test_clobber_deletes_the_image_and_the_files_that_cloudknot_wrote(tmp_path: Path) -> None:
    builder = Builder()
    image = DockerImage("test_func", square, dir_name=tmp_path / "d", builder=cast(Any, builder))
    image.build(["a", "b"])
    image.push(repo_uri="registry/lab")
    assert image.images == [{"name": "cloudknot/test-func", "tag": tag} for tag in ("a", "b")]
    builder.calls.clear()
    image.clobber()
    image.clobber()
    names = ("cloudknot/test-func:a", "registry/lab:a", "cloudknot/test-func:b", "registry/lab:b")
    assert builder.calls == [("remove", name) for name in names]
    assert not (tmp_path / "d").exists()
    assert (image.images, image.clobbered) == ([], True)
    for use in (lambda: image.build("c"), lambda: image.docker_path, lambda: image.push(repo_uri="registry/lab")):
        with pytest.raises(ck.ResourceClobberedException, match="'test_func' was clobbered") as caught:
            use()
        assert caught.value.resource_id == "test_func"
    with pytest.raises(ck.ResourceClobberedException):
        docker_image_of(KnotOptions.make(docker_image=image))


def test_clobber_keeps_edited_and_added_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = DockerImage("kept", square, dir_name=tmp_path / "d")
    image.docker_path.write_text(image.docker_path.read_text() + "RUN true\n")
    (tmp_path / "d" / "data").mkdir()
    (tmp_path / "d" / "data" / "atlas.txt").write_text("mine")
    (tmp_path / "d" / ".git" / "refs").mkdir(parents=True)
    image.clobber()
    assert (tmp_path / "d" / ".git" / "refs").is_dir()
    kept = sorted(
        path.relative_to(tmp_path / "d").as_posix() for path in (tmp_path / "d").rglob("*") if path.is_file()
    )
    assert kept == [".cloudknot.json", "Dockerfile", "data/atlas.txt"]
    assert "were kept: Dockerfile, data/atlas.txt." in caplog.text


def test_clobber_of_an_image_that_was_never_built_needs_no_engine() -> None:
    image = DockerImage("never", square)
    folder = image.build_path
    image.clobber()
    assert not folder.exists()
