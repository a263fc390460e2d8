"""Traits of macOS that can be tried elsewhere: limits of open files, proxies of the system, disks that ignore case."""

import resource
import subprocess
import sys
import urllib.request

import pytest

from cloudknot.local.server.process.open_files import raise_file_limit
from cloudknot.local.session.launch import _for_forks_of_macos
from tests.helpers.paths import ROOT


@pytest.fixture
def without_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("without_proxies")
def test_forks_find_the_proxies_of_the_system_in_variables(monkeypatch):
    found = _for_forks_of_macos(lambda: {"http": "http://p:1", "https": "http://p:2", "ftp": "ftp://p"})
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert urllib.request.getproxies_environment()["https"] == "http://p:2"
    assert urllib.request.proxy_bypass_environment("127.0.0.1:5000")
    assert urllib.request.proxy_bypass_environment("printer.local")
    assert not urllib.request.proxy_bypass_environment("s3.amazonaws.com")


@pytest.mark.usefixtures("without_proxies")
def test_forks_ask_the_system_for_no_proxy_if_there_is_none(monkeypatch):
    for name, value in _for_forks_of_macos(dict).items():
        monkeypatch.setenv(name, value)
    # urllib reads the settings of macOS only if this is empty.
    assert urllib.request.getproxies_environment()
    assert urllib.request.proxy_bypass_environment("s3.amazonaws.com")


@pytest.mark.usefixtures("without_proxies")
def test_variables_of_the_person_win(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://own:1")
    assert "https_proxy" not in _for_forks_of_macos(lambda: {"https": "http://p:2"})


def test_the_server_takes_the_most_open_files_that_the_kernel_allows(monkeypatch):
    asked = []

    def setrlimit(_, limits):
        asked.append(limits[0])
        if limits[0] > 10240:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    raise_file_limit()
    assert asked == [65536, 24576, 10240]


# A disk that finds each file under any case, as on macOS and Windows. Python's own import is exact there, too.
IGNORING_CASE = """
import os, sys
real = os.stat
def stat(path, *rest, **options):
    try:
        return real(path, *rest, **options)
    except FileNotFoundError:
        folder, name = os.path.split(os.fspath(path))
        for entry in os.listdir(folder or ".") if os.path.isdir(folder or ".") else ():
            if entry.lower() == name.lower():
                return real(os.path.join(folder, entry), *rest, **options)
        raise
os.stat = stat
"""


def test_a_module_of_another_case_shadows_nothing(tmp_path):
    (tmp_path / "Click.py").write_text("import no_such_package\n", encoding="utf-8")
    (tmp_path / "Yaml").mkdir()
    (tmp_path / "Yaml" / "data.txt").touch()
    (tmp_path / "tool.py").write_text("import click\nimport yaml\nclick.echo('x')\n", encoding="utf-8")
    code = f"""{IGNORING_CASE}
from pathlib import Path
assert Path("click.py").is_file() and Path("yaml").is_dir()
from cloudknot.program.program import make_program
from cloudknot.program.script import make_script
def call(x):
    import click, yaml
    return click.echo(x), yaml.safe_load(x)
script, program = make_script("tool.py"), make_program(call)
assert list(script.modules) == ["tool.py"], script.modules
assert not program.modules, program.modules
for made in (script, program):
    assert [line.partition("==")[0] for line in made.requirements] == ["click", "pyyaml"], made.requirements
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert answer.returncode == 0, answer.stderr
