"""Tab completion offers exactly the names that docs/reference.md lists for each class."""

import re

import pytest

import cloudknot as ck
from cloudknot.run.collect.element_future import Block, ElementFuture
from cloudknot.run.collect.map_future import MapFuture, ReducedFuture, empty_map
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "reference.md"
SECTIONS = {
    title: re.findall(r"^\| `(\w+)`", body, re.MULTILINE)
    for title, body in re.findall(r"^## (\w+)$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
}
SECTIONS["LocalCloud"] += SECTIONS["Cloud"]
"""The page does not repeat inherited names."""
CLASSES = {name: getattr(ck, name, None) or globals()[name] for name in SECTIONS}
INSTANCES = {
    "DockerImage": lambda: ck.DockerImage(func=abs),
    "BatchJob": lambda: ck.BatchJob("id"),
    "MapFuture": empty_map,
    "Cloud": lambda: ck.Cloud("us-east-1"),
    "LocalCloud": ck.LocalCloud,
    "ElementFuture": lambda: ElementFuture(Block(None, 0), 3),
}
"""Constructors of objects, for classes that need no cloud."""
USED = {"Knot", "BatchJob", "MapFuture", "ElementFuture", "Pars", "DockerImage", "DockerRepo", "Cloud", "LocalCloud"}
"""Classes of the objects that people use."""


def public_names(value):
    return sorted(name for name in dir(value) if not name.startswith("_"))


@pytest.mark.parametrize("name", SECTIONS)
def test_class_offers_exactly_names_of_its_section(name):
    assert public_names(CLASSES[name]) == sorted(set(SECTIONS[name]) - attributes_of_instances(name))


@pytest.mark.parametrize("name", INSTANCES)
def test_object_offers_exactly_names_of_its_section(name):
    assert public_names(INSTANCES[name]()) == sorted(SECTIONS[name])


def attributes_of_instances(name):
    """Return the names that only objects of a class have, because the constructor sets them."""
    return set(public_names(INSTANCES[name]())) - set(public_names(CLASSES[name])) if name in INSTANCES else set()


@pytest.mark.parametrize("name", SECTIONS)
def test_section_lists_each_name_once(name):
    assert len(SECTIONS[name]) == len(set(SECTIONS[name])) > 0


def test_reduced_future_offers_same_names_as_map_future():
    assert public_names(ReducedFuture) == public_names(MapFuture)


def test_every_class_that_people_use_has_section():
    assert set(SECTIONS) >= USED
