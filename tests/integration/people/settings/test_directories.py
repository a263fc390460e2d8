"""Odd directories of the embedded cloud and of the user: each works, or gives one clear error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.local.options import local_command
from cloudknot.local.runners.images.environments import environments_folder
from cloudknot.options import config
from tests.helpers.batch import alive
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until


@pytest.mark.parametrize("variable", ["CLOUDKNOT_LOCAL_DIR", "CLOUDKNOT_LOCAL_ENVIRONMENTS"])
def test_relative_directory_in_variable_is_refused_with_absolute_one(monkeypatch, tmp_path: Path, variable) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "clouds/mine")
    with pytest.raises(
        ck.CloudknotConfigurationError, match=f"^{variable}='clouds/mine' is a relative path"
    ) as caught:
        ck.LocalCloud().start() if variable == "CLOUDKNOT_LOCAL_DIR" else environments_folder(tmp_path)
    assert f"{variable}='{tmp_path}/clouds/mine'" in str(caught.value)
    assert os.listdir(tmp_path) == []
    monkeypatch.setenv(variable, "~/clouds")
    assert config.directory(variable) == Path.home() / "clouds"


def test_relative_argument_is_a_directory_of_the_first_working_directory(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    cloud = ck.LocalCloud("mine")
    monkeypatch.chdir("/")
    assert cloud.directory == tmp_path / "mine"


@pytest.mark.parametrize(
    ("variable", "folder", "usual"),
    [("XDG_CACHE_HOME", config.cache_folder, ".cache"), ("XDG_DATA_HOME", config.data_folder, ".local/share")],
)
def test_folders_follow_the_variables_for_all_programs(monkeypatch, variable, folder, usual) -> None:
    for invalid in ("", "relative"):
        monkeypatch.setenv(variable, invalid)
        assert folder() == Path.home() / usual / "cloudknot"
    monkeypatch.setenv(variable, "/var/mine")
    assert folder() == Path("/var/mine/cloudknot")


def test_results_do_not_lie_in_a_folder_that_people_empty(monkeypatch) -> None:
    monkeypatch.delenv("CLOUDKNOT_LOCAL_DIR", raising=False)
    assert config.cache_folder() not in ck.LocalCloud().directory.parents
    assert ck.LocalCloud().directory == config.data_folder() / "local"


def test_commands_of_messages_name_the_directory_if_it_is_not_the_usual_one(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLOUDKNOT_LOCAL_DIR", raising=False)
    usual = ck.LocalCloud().directory
    assert local_command("start", usual) == local_command("start", None) == "cloudknot local start"
    assert local_command("stop", tmp_path / "a b") == f"cloudknot local stop --directory '{tmp_path}/a b'"
    # Another shell may not have the variable.
    monkeypatch.setenv("CLOUDKNOT_LOCAL_DIR", str(tmp_path))
    assert local_command("stop", tmp_path) == f"cloudknot local stop --directory {tmp_path}"


def test_cloud_ends_when_its_directory_is_deleted_and_leaves_next_one_alone(tmp_path: Path) -> None:
    cloud = ck.LocalCloud(tmp_path / "cloud")
    first = cloud.start()
    shutil.rmtree(tmp_path / "cloud")
    # At once, before the first one can have noticed.
    other = ck.LocalCloud(tmp_path / "cloud")
    second = other.start()
    assert second.pid != first.pid
    until(lambda: not alive(first.pid))
    assert other.status().pid == second.pid  # type: ignore[union-attr]
    assert (tmp_path / "cloud" / ".cloudknot-scratch").is_dir()
    with pytest.raises(ck.CloudError, match="was deleted while its embedded cloud ran"):
        cloud.call("sts", "get_caller_identity")
    assert other.stop()
    until(lambda: not alive(second.pid))


NOBODY = """
import pwd

def unknown(uid):
    raise KeyError(uid)

pwd.getpwuid = unknown
import cloudknot as ck
"""
"""The beginning of a program that runs as a user without an entry in /etc/passwd."""


def run_homeless(code: str, **variables: str) -> str:
    """Return the output of a program without HOME that runs as an unknown user."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true", **variables}
    command = [sys.executable, "-c", NOBODY + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_settings_need_no_home() -> None:
    assert run_homeless("print(ck.get_region(), ck.list_profiles().profile_names)") == "us-east-1 []\n"


@pytest.mark.parametrize("statement", ["ck.LocalCloud().start()", "ck.Knot('x', func=abs, cloud='local')"])
def test_missing_home_is_one_clear_error(statement: str) -> None:
    code = f"try:\n    {statement}\nexcept ck.CloudknotConfigurationError as error:\n    print(error)"
    assert run_homeless(code).startswith("Your home directory is unknown: HOME is not set")


def test_unknown_user_with_a_home_runs_a_map(cloud: ck.LocalCloud, tmp_path: Path) -> None:
    code = (
        f"cloud = ck.LocalCloud({str(cloud.directory)!r})\nprint(ck.Knot(func=abs, cloud=cloud).map([-3]).result(300))"
    )
    assert run_homeless(code, HOME=str(tmp_path)) == "[3]\n"


def test_packages_that_replace_modules_of_python_are_harmless(tmp_path: Path) -> None:
    """Install cloudknot beside ``enum34`` and ``dataclasses``, as people have them, and run a map."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=100)
    packages = next(venv.glob("lib/python*/site-packages"))
    shutil.copytree(ROOT / "cloudknot", packages / "cloudknot", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("enum", "dataclasses"):
        (packages / f"{name}.py").write_text("raise ImportError('not the module of the standard library')\n")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    code = (
        f"import cloudknot as ck\nassert ck.__file__.startswith({str(venv)!r})\n"
        f"with ck.LocalCloud({str(tmp_path / 'cloud')!r}) as cloud:\n"
        "    print(ck.Knot('shadowed', func=abs, cloud=cloud).map([-1]).result(300))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [venv / "bin" / "python", "-c", code],
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr
