"""The origin of each installed distribution is read from its metadata."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from cloudknot.program.packages.distributions import (
    ARCHIVE,
    EDITABLE,
    FOLDER,
    REPOSITORY,
    LocalDistribution,
    local_distributions,
    origin_of,
)
from tests.unit.program.packages.projects import editable, installed, project, site_packages


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return site_packages(tmp_path)


def origin(site: Path) -> LocalDistribution | None:
    (distribution,) = metadata.distributions(path=[str(site)])
    return origin_of(distribution)


@pytest.mark.parametrize(
    ("recorded", "kind", "address"),
    [
        ({"url": "file:///src/my%20lab", "dir_info": {}}, FOLDER, "/src/my lab"),
        ({"url": "file:///w/lab-1.whl", "archive_info": {}}, ARCHIVE, "/w/lab-1.whl"),
        ({"url": "https://me:pass@host/lab-1.tar.gz?key=s3cret", "archive_info": {}}, ARCHIVE, "https://host/lab-1.tar.gz"),
        (
            {"url": "https://token@host/o/lab.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            REPOSITORY,
            "https://host/o/lab.git@abc",
        ),
    ],
)  # fmt: skip
def test_direct_url_names_origin_without_login(site: Path, recorded: dict[str, Any], kind: str, address: str) -> None:
    installed(site, "My_Lab", "1.0", {"lab.py": ""}, origin=recorded)
    found = origin(site)
    assert found is not None
    assert (found.name, found.version, found.origin, found.address) == ("my-lab", "1.0", kind, address)


def test_distribution_without_direct_url_came_from_an_index(site: Path) -> None:
    installed(site, "lab", files={"lab.py": ""})
    assert origin(site) is None


@pytest.mark.parametrize("damaged", ["", "{}", "[]", '{"url": 3}'])
def test_damaged_direct_url_counts_as_none_or_archive(site: Path, damaged: str) -> None:
    installed(site, "lab", files={"lab.py": ""}, extra={"direct_url.json": damaged})
    found = origin(site)
    assert found is None or found.origin == ARCHIVE


def test_package_of_conda_is_no_local_one(site: Path) -> None:
    """conda-build records the folders of its own machines."""
    recorded = {"url": "file:///home/conda/feedstock_root/build_artifacts/lab/work", "dir_info": {}}
    info = installed(site, "lab", files={"lab.py": ""}, origin=recorded)
    (info / "INSTALLER").write_text("conda\n")
    assert origin(site) is None


def test_package_with_record_of_conda_is_no_local_one(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(site, "lab", files={"lab.py": ""}, origin={"url": "file:///croot/lab", "dir_info": {}})
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "lab-1.0-py311_0.json").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert origin(site) is None


def test_editable_installation_names_source_and_roots(site: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "my lab", "lab")
    editable(site, "lab", source, source / "src")
    assert origin(site) == LocalDistribution("lab", "1.0", EDITABLE, str(source), source, (source / "src",))


def test_finder_of_setuptools_names_roots(site: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "lab")
    files = {
        "__editable__.lab-1.0.pth": "import __editable___lab_1_0_finder",
        "__editable___lab_1_0_finder.py": f"MAPPING = {{'lab': {str(source / 'src/lab')!r}}}\n",
    }
    installed(site, "lab", files=files, origin={"url": source.as_uri(), "dir_info": {"editable": True}})
    found = origin(site)
    assert found is not None
    assert found.roots == (source / "src",)


def test_develop_installation_without_direct_url_is_editable(tmp_path: Path) -> None:
    """As ``setup.py develop`` leaves it: a link to the metadata in the source folder."""
    source = project(tmp_path / "p", "lab")
    (source / "src" / "lab.egg-info").mkdir()
    (source / "src" / "lab.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    assert origin(source / "src") == LocalDistribution("lab", "1.0", EDITABLE, str(source), source, (source / "src",))


def test_pth_file_without_direct_url_is_editable(site: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "p", "lab")
    installed(site, "lab", files={"lab.pth": f"{source / 'src'}\n"})
    found = origin(site)
    assert found is not None
    assert (found.origin, found.source) == (EDITABLE, source)


def test_pth_file_with_code_alone_is_not_editable(site: Path) -> None:
    installed(site, "lab", files={"lab.pth": "import sys\n", "lab.py": ""})
    assert origin(site) is None


def test_first_distribution_of_a_name_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = site_packages(tmp_path / "a"), site_packages(tmp_path / "b")
    installed(second, "lab-hidden", files={"lab.py": ""}, origin={"url": "file:///src", "dir_info": {}})
    monkeypatch.syspath_prepend(str(second))
    assert "lab-hidden" in local_distributions()
    installed(first, "lab-hidden", "2.0", files={"lab.py": ""})
    monkeypatch.syspath_prepend(str(first))
    assert "lab-hidden" not in local_distributions()


def test_installation_in_the_same_session_is_noticed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    assert "lab-late" not in local_distributions()
    installed(site, "lab-late", files={"lab.py": ""}, origin={"url": "file:///src", "dir_info": {}})
    assert "lab-late" in local_distributions()
