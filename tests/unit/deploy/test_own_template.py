"""A template of the user's own is refused if it lacks something that cloudknot relies on."""

import json
import re
from pathlib import Path

import pytest

from cloudknot.deploy.cloudformation import template
from cloudknot.deploy.cloudformation.own_template import TEMPLATE_NEEDS, template_for
from cloudknot.errors import CloudknotInputError
from cloudknot.options.template_documents import parse_template
from tests.helpers.paths import ROOT
from tests.unit.deploy.test_templates import findings

TAGS = {"Owner": "me"}


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(content, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize("kind", ["knot", "pars"])
class TestAccepted:
    def test_no_file_means_own_template_of_cloudknot(self, kind):
        ours = template_for(kind, None, TAGS)
        assert (ours.text, ours.custom, ours.chosen) == (template.load(kind), False, False)
        assert ours.digest == template.digest(ours.text)

    @pytest.mark.parametrize(
        "encode",
        [
            lambda text: text.encode(),
            lambda text: text.replace("\n", "\r\n").encode(),
            lambda text: text.encode("utf-8-sig"),
            lambda text: text.encode("utf-16"),
            lambda text: json.dumps(parse_template(text), indent="\t").encode(),
        ],
        ids=["utf-8", "crlf", "bom", "utf-16", "json"],
    )
    def test_file_of_any_editor_is_same_template(self, kind, encode, write):
        ours = template_for(kind, write(encode(template.load(kind))), TAGS)
        assert (ours.custom, ours.chosen) == (False, True)
        assert ours.digest == template_for(kind, None, TAGS).digest

    def test_edit_makes_own_template_and_comment_does_not(self, kind, write):
        text = template.load(kind)
        assert not template_for(kind, write(text + "\n# a comment\n"), TAGS).custom
        changed = template_for(kind, write(text.replace("/cloudknot/", "/cloudknot/lab/")), TAGS)
        assert changed.custom
        assert changed.digest.startswith("custom-")

    def test_every_original_has_all_that_is_needed(self, kind, write):
        loaded, needs = parse_template(template.load(kind)), TEMPLATE_NEEDS[kind]
        assert set(needs.outputs) <= set(loaded["Outputs"])
        assert {name: loaded["Resources"][name]["Type"] for name in needs.resources} == needs.resources


CASES = [
    ("knot", lambda t: t.pop("Description"), "a Description that ends with '(cloudknot)'"),
    ("knot", lambda t: t.update(Description="Mine"), "a Description that ends with '(cloudknot)'"),
    ("knot", lambda t: t["Parameters"].pop("Image"), "the parameter Image"),
    ("pars", lambda t: t["Parameters"].pop("VpcId"), "the parameter VpcId"),
    ("knot", lambda t: t.pop("Parameters"), "the parameter ParsName"),
    ("knot", lambda t: t["Parameters"].update(Mine={"Type": "String"}), "a Default for the parameter Mine"),
    ("knot", lambda t: t["Outputs"].pop("JobRole"), "the output JobRole"),
    ("pars", lambda t: t["Outputs"].pop("Subnets"), "the output Subnets"),
    ("pars", lambda t: t.pop("Outputs"), "the output ExecutionRole"),
    ("knot", lambda t: t["Resources"].pop("JobQueue"), "the resource JobQueue of the type AWS::Batch::JobQueue"),
    ("knot", lambda t: t["Resources"]["JobRole"].update(Type="AWS::IAM::User"), "the resource JobRole of the type"),
    ("knot", lambda t: t["Resources"].update(JobQueue=None), "the resource JobQueue of the type"),
    (
        "knot",
        lambda t: t["Resources"]["JobQueue"]["Properties"].update(JobQueueName="mine"),
        "JobQueueName: !Ref JobQueueName in the resource JobQueue",
    ),
    (
        "knot",
        lambda t: t["Resources"]["ComputeEnvironment"].update(Properties=None),
        "ComputeEnvironmentName: !Ref ComputeEnvironmentName in the resource ComputeEnvironment",
    ),
    (
        "knot",
        lambda t: t["Resources"]["JobDefinition"]["Properties"].pop("ResourceRetentionPolicy"),
        "SkipDeregisterOnUpdate: true",
    ),
]


class TestRefused:
    @pytest.mark.parametrize(("kind", "edit", "lack"), CASES, ids=[lack for _, _, lack in CASES])
    def test_missing_part_is_named(self, kind, edit, lack, write):
        content = parse_template(template.load(kind))
        edit(content)
        with pytest.raises(CloudknotInputError, match="lacks something that cloudknot relies on") as caught:
            template_for(kind, write(json.dumps(content)), TAGS)
        assert lack in str(caught.value)

    def test_all_missing_parts_are_named_at_once(self, write):
        with pytest.raises(CloudknotInputError) as caught:
            template_for("knot", write(template.load("pars")), TAGS)
        assert all(part in str(caught.value) for part in ("parameter Image", "output JobQueue", "resource LogGroup"))

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("Resources: [", "is neither valid YAML nor valid JSON"),
            ('{"Resources": ', "is neither valid YAML nor valid JSON"),
            ("", "it has no Resources"),
            ("just a text", "it has no Resources"),
            ("Resources: []", "it has no Resources"),
            (b"\xff\xfe\x00", "is not a text in UTF-8"),
            (b"Resources: \xe9", "is not a text in UTF-8"),
            ("# " + "x" * template.LONGEST, "has 51,202 bytes"),
        ],
    )
    def test_file_that_is_no_template_is_refused(self, content, problem, write):
        with pytest.raises(CloudknotInputError, match=problem):
            template_for("knot", write(content), TAGS)

    @pytest.mark.parametrize("path", ["missing.yaml", "."])
    def test_unreadable_file_is_refused(self, path, tmp_path):
        with pytest.raises(CloudknotInputError, match="cannot be read"):
            template_for("knot", str(Path(tmp_path, path)), TAGS)


def test_example_on_page_is_valid_template(write):
    """The example of docs/templates.md, in its place in the template."""
    page = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    before, after = example.splitlines()[:2], template.load("knot")
    place = "\n".join(before) + "\n"
    assert place in after
    path = write(after.replace(place, example))
    assert template_for("knot", path, TAGS).custom
    assert findings(Path(path).read_text(encoding="utf-8")) == []
