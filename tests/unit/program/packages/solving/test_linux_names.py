"""Requirement lines of Windows and macOS become those that Linux has."""

import pytest
from packaging.requirements import Requirement

from cloudknot.program.packages.solving.linux_names import for_linux, on_linux, only_here, system_of


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("tensorflow-intel==2.15.0", "tensorflow==2.15.0"),
        ("tensorflow_macos==2.15.0", "tensorflow==2.15.0"),
        ("TensorFlow-Intel>=2.13,<3 --hash=sha256:" + "0" * 64, "tensorflow<3,>=2.13"),
        (
            "tensorflow-macos[and-cuda]==2.15.0 ; python_version > '3'",
            'tensorflow[and-cuda]==2.15.0; python_version > "3"',
        ),
        ("onnxruntime-directml==1.17.0", "onnxruntime==1.17.0"),
        ("python-magic-bin==0.4.14", "python-magic"),
        *(
            (line, line)
            for line in ("numpy==2.1.0", "tensorflow==2.15.0", "--index-url https://i", "windows-tools==1")
        ),
        *((line, line) for line in ("git+https://host/pywin32", "--constraint pywin32==306", "x @ file:///lab/x")),
        ("uvloop==0.21; sys_platform != 'win32'", "uvloop==0.21; sys_platform != 'win32'"),
        ("mkl==2024; platform_machine == 'x86_64'", "mkl==2024; platform_machine == 'x86_64'"),
    ],
)
def test_line_on_linux(here, there):
    assert for_linux([here]) == ([there], [])


@pytest.mark.parametrize(
    "name", ["pywin32", "PyWin32", "pywinpty", "windows-curses", "pyobjc-core", "pyobjc_framework_Quartz"]
)
def test_package_that_linux_lacks(name):
    kept, lacking = for_linux([f"{name}==306", "numpy"])
    assert kept == ["numpy"]
    assert [system_of(found) for found in lacking] in (["Windows"], ["macOS"])


@pytest.mark.parametrize("marker", ["sys_platform == 'win32'", "platform_system == 'Darwin'", "os_name == 'nt'"])
def test_line_for_another_system_is_left_out_without_a_word(marker):
    assert for_linux([f"pywin32==306; {marker}", f"colorama; {marker}"]) == ([], [])


def test_two_names_of_one_package_become_one_line():
    assert for_linux(["tensorflow==2.15.0", "tensorflow-intel==2.15.0"]) == (["tensorflow==2.15.0"], [])


def on_windows(requirement):
    marker = requirement.marker
    windows = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "extra": ""}
    return marker is None or marker.evaluate(windows)


NEEDS = {
    "click": ['colorama; platform_system == "Windows"'],
    "jupyter-core": ['pywin32>=300; sys_platform == "win32" and platform_python_implementation != "PyPy"'],
    "keyring": ['pywin32-ctypes; sys_platform == "win32"', "jaraco-classes"],
    "tensorflow": ['tensorflow-intel==2.15.0; platform_system == "Windows"'],
    "tensorflow-intel": ["numpy", "only-of-intel"],
    **{name: [] for name in ("colorama", "pywin32", "pywin32-ctypes", "jaraco-classes", "only-of-intel", "numpy")},
    "pandas": ["numpy"],
}


def found(asked=(), needs=NEEDS):
    parsed = {name: [Requirement(line) for line in lines] for name, lines in needs.items()}
    return only_here(parsed, asked, on_windows)


def test_markers_decide_what_is_only_here():
    assert found() == {"colorama", "pywin32", "pywin32-ctypes", "tensorflow-intel", "only-of-intel"}


def test_a_package_that_a_person_installed_is_kept():
    assert "colorama" not in found(asked={"colorama"})


def test_a_package_that_another_one_needs_everywhere_is_kept():
    assert "colorama" not in found(needs={**NEEDS, "loguru": ["colorama"]})


def test_linux_needs_all_of_its_own():
    everywhere = {name: [Requirement(line) for line in lines] for name, lines in NEEDS.items()}
    assert only_here(everywhere, (), on_linux) == set()
