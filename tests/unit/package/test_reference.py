"""Tab completion offers the names of the reference page, and no others."""

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
"""The page lists inherited names once."""
CLASSES = {name: getattr(ck, name, None) or globals()[name] for name in SECTIONS}
INSTANCES = {
    "DockerImage": lambda: ck.DockerImage(func=abs),
    "BatchJob": lambda: ck.BatchJob("id"),
    "MapFuture": empty_map,
    "Cloud": lambda: ck.Cloud("us-east-1"),
    "LocalCloud": ck.LocalCloud,
    "ElementFuture": lambda: ElementFuture(Block(None, 0), 3),
}
"""Objects of the classes, where one can be made without a cloud."""
SHOWN = {"Knot", "BatchJob", "MapFuture", "ElementFuture", "Pars", "DockerImage", "DockerRepo", "Cloud", "LocalCloud"}
"""Classes whose objects people have in hand."""


def public_names(thing):
    return sorted(name for name in dir(thing) if not name.startswith("_"))


@pytest.mark.parametrize("name", SECTIONS)
def test_a_class_shows_the_names_of_its_section(name):
    assert public_names(CLASSES[name]) == sorted(set(SECTIONS[name]) - attributes_of_instances(name))


@pytest.mark.parametrize("name", INSTANCES)
def test_an_object_shows_the_names_of_its_section(name):
    assert public_names(INSTANCES[name]()) == sorted(SECTIONS[name])


def attributes_of_instances(name):
    """The documented names that only objects have, because the constructor sets them."""
    return set(public_names(INSTANCES[name]())) - set(public_names(CLASSES[name])) if name in INSTANCES else set()


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_lists_each_name_once(name):
    assert len(SECTIONS[name]) == len(set(SECTIONS[name])) > 0


def test_the_future_of_reduce_shows_the_names_of_a_map_future():
    assert public_names(ReducedFuture) == public_names(MapFuture)


def test_each_class_that_people_use_has_a_section():
    assert set(SECTIONS) >= SHOWN
