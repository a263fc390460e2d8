"""The check of the packages that inputs need: its texts, and its cost for many elements."""

from __future__ import annotations

import datetime
import io
import types
from pathlib import Path

import numpy as np
import pytest

from cloudknot.errors import CloudknotInputError
from cloudknot.program import pickling
from cloudknot.program.inputs.input_pickling import pickle_into
from cloudknot.program.inputs.met_modules import MetModules
from cloudknot.program.inputs.needs import LONGEST, ImagePackages, InputNeeds, LackingPackages
from cloudknot.program.pickling import MissingModules
from cloudknot.program.script import make_script


@pytest.mark.parametrize("complete", [True, False])
def test_packages_survive_job_definition(complete: bool) -> None:
    packages = ImagePackages(frozenset({"numpy", "zope-interface"}), complete)
    assert ImagePackages.from_text(packages.to_text()) == packages


def test_too_many_packages_count_as_unknown() -> None:
    packages = ImagePackages(frozenset(f"package-{number}" for number in range(LONGEST // 9)))
    assert ImagePackages.from_text(packages.to_text()) is None


@pytest.mark.parametrize("element", [np.ones(2), datetime.date(2024, 1, 1), [np.float64(1), {"a": np.arange(3)}]])
def test_modules_of_many_elements_are_looked_at_once(element: object) -> None:
    looked_at: list[str] = []

    def is_missing(module: str) -> bool:
        looked_at.append(module)
        return False

    missing, met = MissingModules(is_missing, lambda cls: ""), MetModules()
    pickling.dump(element, io.BytesIO(), (), missing, met)
    once = list(looked_at)
    for _ in range(100):
        pickling.dump(element, io.BytesIO(), (), missing, met)
    assert looked_at == once
    assert len(set(once)) == len(once) > 0
    assert met.importable == set(once)


def test_each_lacking_package_is_reported_for_its_first_element() -> None:
    needs = InputNeeds(ImagePackages(frozenset({"boto3"})), "a-knot", None)
    for plain in (1, "text", (2, 3.0), datetime.date(2024, 1, 1)):
        pickle_into(io.BytesIO(), plain, None, needs)
    with pytest.raises(LackingPackages, match=r"^numpy$"):
        pickle_into(io.BytesIO(), np.ones(2), None, needs)


def test_unknown_packages_refuse_nothing() -> None:
    pickle_into(io.BytesIO(), np.ones(2), None, InputNeeds(None, "a-knot", None))


def test_package_of_another_name_than_its_module_is_known() -> None:
    import dateutil.tz

    pickle_into(
        io.BytesIO(), dateutil.tz.UTC, None, InputNeeds(ImagePackages(frozenset({"python-dateutil"})), "x", None)
    )
    with pytest.raises(LackingPackages, match=r"^python-dateutil$"):
        pickle_into(io.BytesIO(), dateutil.tz.UTC, None, InputNeeds(ImagePackages(frozenset({"numpy"})), "x", None))


def test_module_after_module_made_at_run_time_is_met() -> None:
    met = MetModules()
    missing = MissingModules(lambda module: False, lambda cls: "")
    pickling.dump([types.ModuleType("made"), np, np.add], io.BytesIO(), (), missing, met)
    assert {"made", "numpy"} <= met.importable


def test_message_names_script(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text("print(1)")
    program = make_script(script, ["six"])
    needs = InputNeeds(ImagePackages(frozenset({"six"})), "a-knot", program)
    with pytest.raises(LackingPackages) as lacking:
        pickle_into(io.BytesIO(), np.ones(2), program, needs)
    with pytest.raises(CloudknotInputError, match=r"image_script_path='tool.py', requirements=\['six', 'numpy=="):
        lacking.value.refuse("Element 0 of the input")
