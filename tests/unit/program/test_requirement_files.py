"""Requirements in the files of pip, uv and conda become checked lines, or an error with file, line and fix."""

import sys

import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program.packages import indexes
from cloudknot.program.packages.sources.read import read

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_requirements_file_is_flattened(folder):
    (folder / "base").mkdir()
    (folder / "base" / "more.txt").write_text("six\n-c limits.txt\n-r ../requirements.txt\n")
    (folder / "base" / "limits.txt").write_text("urllib3<3  # not 3\n")
    (folder / "requirements.txt").write_text(
        "# comment\n"
        "-r base/more.txt\n"
        "--find-links base\n"
        "--require-hashes\n"
        "numpy>=2 ; python_version > '3'  # why\n"
        "scipy == 1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    )
    assert read("requirements.txt") == [
        "six",
        "--constraint urllib3<3",
        f"--find-links {folder / 'base'}",
        "numpy>=2 ; python_version > '3'",
        "scipy == 1.0 --hash=sha256:aa --hash=sha256:bb",
    ]
    assert read(folder / "requirements.txt") == read(["-r requirements.txt"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_windows_are_read(folder, encoding):
    (folder / "r.txt").write_bytes("six\r\n# \u00fc\r\nattrs\r\n".encode(encoding))
    assert read("r.txt") == ["six", "attrs"]


def test_lines_that_were_read_can_be_read_again(folder):
    (folder / "limits.txt").write_text("six<2\n")
    lines = read(["-c limits.txt", "--index-url https://host/simple", "numpy --hash=sha256:aa", "--pre"])
    assert read(lines) == lines


def test_local_paths_become_addresses(folder):
    (folder / "lab").mkdir()
    (folder / "lab" / "pyproject.toml").write_text('[project]\nname = "my-lab"\n')
    (folder / "old").mkdir()
    (folder / "dist-1.0-py3-none-any.whl").touch()
    lines = read(["-e ./lab", "./lab[plots]", "./old", "./dist-1.0-py3-none-any.whl", "git+https://host/a/b@1"])
    assert lines == [
        f"my-lab @ {(folder / 'lab').as_uri()}",
        f"my-lab[plots] @ {(folder / 'lab').as_uri()}",
        (folder / "old").as_uri(),
        (folder / "dist-1.0-py3-none-any.whl").as_uri(),
        "git+https://host/a/b@1",
    ]


def test_login_of_an_index_is_in_no_line(folder, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret-token")
    monkeypatch.setattr(indexes, "_logins", {})
    (folder / "r.txt").write_text("--index-url https://me:${TOKEN}@index.example/simple\n-i https://other.example\n")
    lines = read("r.txt")
    assert lines == ["--index-url https://index.example/simple", "--index-url https://other.example"]
    assert indexes.Indexes.of_lines(lines[:1]).default == "https://me:s3cret-token@index.example/simple"
    assert indexes.login_for("https://index.example/files/a.whl") == "me:s3cret-token"
    assert "s3cret" not in indexes.redacted("error at https://me:s3cret-token@index.example/a", None)


def test_project_with_extras_groups_and_sources(folder):
    (folder / "lab").mkdir()
    (folder / "pyproject.toml").write_text(
        f"""
[project]
name = "study"
requires-python = ">={HERE}"
dependencies = ["numpy>=2", "mylab", "special"]
[project.optional-dependencies]
plots = ["matplotlib"]
[dependency-groups]
base = ["six"]
all = [{{include-group = "base"}}, "scipy"]
[tool.uv.sources]
mylab = {{path = "lab", editable = true}}
special = {{index = "lab"}}
[[tool.uv.index]]
name = "lab"
url = "https://index.example/simple"
"""
    )
    base = [
        "numpy>=2",
        f"mylab @ {(folder / 'lab').as_uri()}",
        "--extra-index-url https://index.example/simple",
        "special",
    ]
    assert read("pyproject.toml") == base
    assert read("pyproject.toml[plots, all]") == [*base, "matplotlib", "six", "scipy"]
    with pytest.raises(CloudknotInputError, match=r"no extra or group 'x'. Choose one of these: all, base, plots"):
        read("pyproject.toml[x]")


def test_pylock_gives_exact_versions_with_hashes(folder):
    (folder / "pylock.toml").write_text(
        f"""
lock-version = "1.0"
created-by = "someone"
[[packages]]
name = "six"
version = "1.17.0"
marker = "python_version >= '3'"
wheels = [{{name = "six.whl", url = "https://x/six.whl", hashes = {{sha256 = "{"a" * 64}"}}}}]
[[packages]]
name = "lab"
vcs = {{type = "git", url = "https://host/lab", commit-id = "abc"}}
"""
    )
    assert read("pylock.toml") == [
        f"six==1.17.0 ; python_version >= '3' --hash=sha256:{'a' * 64}",
        "lab @ git+https://host/lab@abc",
    ]


def test_environment_file_gives_pip_part_and_python_packages_of_conda(folder):
    (folder / "environment.yml").write_text(
        f"name: study\nchannels:\n  - conda-forge\ndependencies:\n  - python={HERE}\n  - pip\n  - numpy=2\n"
        "  - conda-forge::packaging>=20,<99  # ok\n  - ffmpeg=6\n  - pip:\n    - six==1.16.0\n    - 'attrs>=1'\n"
        "  - filelock=3.1=py_0\nvariables:\n  - x\n"
    )
    assert read("environment.yml", ["ffmpeg"]) == [
        "numpy==2.*",
        "packaging>=20,<99",
        "six==1.16.0",
        "attrs>=1",
        "filelock==3.1",
    ]
    with pytest.raises(CloudknotInputError) as caught:
        read("environment.yml")
    assert str(caught.value) == (
        "environment.yml, line 9: ffmpeg is not installed here as a Python package, so only conda may have it. "
        "Install it here, list it in the file under `- pip:`, or, if it is no Python package, pass "
        "apt_packages='ffmpeg'."
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.txt", "six\n\nnumpy 2\n", "r.txt, line 3: 'numpy 2' is not a pip requirement"),
        ("r.txt", "a \\\n --no-such\n", "r.txt, line 1: 'a  --no-such'"),
        ("r.txt", "numpy @ file:///croot/numpy/work\n", r"line 1: file:///croot/numpy/work does not .*'numpy==\d"),
        ("r.txt", "--no-binary :all:\n", "r.txt, line 1: cloudknot does not know the option '--no-binary :all:'"),
        ("r.txt", "-r none.txt\n", "The requirements file cannot be read: .*none.txt"),
        (
            "r.txt",
            "--index-url https://${NO_SUCH_NAME}@x/\n",
            "variable NO_SUCH_NAME is not set. Set it",
        ),
        ("r.txt", "a @ git+https://me:pw@host/a\n", r"'a @ git\+https://...@host/a' contains a password"),
        ("pyproject.toml", "[project]\nname='a'\n", "has no .project. dependencies"),
        (
            "pyproject.toml",
            "[project]\nrequires-python='<3'\ndependencies=[]\n",
            "requires Python <3, and this",
        ),
        ("pyproject.toml", "=", "is not a valid TOML file"),
        ("other.toml", "", "is a file of unknown kind"),
        ("environment.yml", "dependencies: [numpy, 'a b c']\n", "line 1: 'a b c' is not a dependency"),
        ("environment.yml", "dependencies: [numpy\n", "environment.yml is not a valid YAML file"),
        ("environment.yml", "dependencies:\n- python=2.7\n", "requires Python ==2.7.*, and this session has"),
    ],
)
def test_error_names_file_line_and_fix(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(CloudknotInputError, match=message) as caught:
        read(name)
    assert "pw" not in str(caught.value).replace("password", "")


def test_line_that_is_no_file_stays_a_line():
    assert read("numpy") == ["numpy"]
