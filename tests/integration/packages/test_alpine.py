"""A package of a git repository reaches an Alpine image as a wheel. So neither git nor a package manager is needed."""

import subprocess
import sys
from dataclasses import replace

import pytest

from cloudknot.errors import ImageError
from cloudknot.image import context
from cloudknot.image.render import image_of, render
from cloudknot.program.packages.lock import Lock
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.packages.wheels.archive import WheelFile, read_wheel, write_wheel
from cloudknot.program.packages.wheels.fetch import wheel_at
from cloudknot.program.packages.wheels.fit import check_fit
from cloudknot.program.program import make_program
from tests.helpers.functions import square

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MUSL = InstallTarget("linux/amd64", PYTHON, "musllinux_1_2")
PROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\n'


@pytest.fixture
def repository(tmp_path):
    """Return the address of a git repository with a package."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f'{PROJECT}name = "lab"\nversion = "1"\n', encoding="utf-8")
    (folder / "lab.py").write_text("N = 1\n", encoding="utf-8")
    name = ("-c", "user.name=lab", "-c", "user.email=lab@localhost")
    for command in (("init", "--quiet"), ("add", "."), (*name, "commit", "--quiet", "-m", "Start")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return f"lab @ git+{folder.as_uri()}"


def test_repository_is_a_wheel_in_an_alpine_image(repository):
    program = make_program(square, [repository])
    files = render(program, base_image=f"python:{PYTHON}-alpine")
    image = image_of(files, target=MUSL, resolve=lambda *_, **__: Lock(MUSL, ()), fetch=wheel_at)
    assert [wheel.filename for wheel in image.wheels] == ["lab-1-py3-none-any.whl"]
    text = image.files[context.DOCKERFILE].decode()
    assert not [word for word in ("apt-get", "apk", "git ") if word in text]
    assert "git+" not in image.files[context.PIP_LOCK].decode()


def test_compiled_parts_for_another_c_library_are_refused(repository):
    pure = wheel_at(repository, MUSL)
    files = read_wheel(pure.content)
    tagged = files["lab-1.dist-info/WHEEL"].content.replace(b"py3-none-any", b"cp311-cp311-linux_x86_64")
    wheel = write_wheel({**files, "lab-1.dist-info/WHEEL": WheelFile(tagged)})
    with pytest.raises(ImageError, match=r"compiled parts for cp311-cp311-linux_x86_64"):
        check_fit(wheel, "git+file:///lab", replace(MUSL, python="3.11"))
