"""The images and repositories that a removal deletes, and those that it keeps for other knots."""

import pytest

from cloudknot.aws.cloud import Cloud
from cloudknot.deploy.account.clobber import Belongings, Extras, UsedPars, _fate_of_images
from cloudknot.image.unused_images import images_of, knots_by_image, knots_by_repository, knots_that

REPO = "123456789012.dkr.ecr.us-east-1.amazonaws.com/lab/images"


def revision(knot, image, environment="", tagged=True):
    """Return a revision of a knot's job definition, as Batch describes it."""
    return {
        "jobDefinitionName": f"{knot}-cloudknot-job-definition",
        "containerProperties": {"image": image},
        "parameters": {"environment": environment} if environment else None,
        "tags": {"cloudknot": f"{knot}-cloudknot"} if tagged else {},
    }


OTHERS = [
    revision("a", f"{REPO}:one", "env-1"),
    revision("b", f"{REPO}:two", "env-1"),
    revision("b", f"{REPO}2:two"),
    revision("c", f"{REPO}@sha256:3", tagged=False),
]


def test_each_image_and_environment_has_its_users():
    users = knots_by_image(OTHERS)
    assert users == {
        ("lab/images", "one"): {"a"},
        ("lab/images", "two"): {"b"},
        ("lab/images", "env-1"): {"a", "b"},
        ("lab/images2", "two"): {"b"},
        ("lab/images", "sha256:3"): {"c"},
    }
    assert knots_by_repository(users) == {"lab/images": {"a", "b", "c"}, "lab/images2": {"b"}}
    assert images_of(OTHERS) == set(users)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"a"}, "the knot 'a' uses"),
        ({"b", "a"}, "the knots 'a' and 'b' use"),
        ({"c", "a", "b"}, "the knots 'a', 'b' and 'c' use"),
    ],
)
def test_knots_are_the_subject_of_a_sentence(names, sentence):
    assert knots_that(names, "use") == sentence


def fate(extras, images, former=(), others=()):
    found = Belongings(None, "", "", [], [], set(images), set(former), (), UsedPars())
    return _fate_of_images(Cloud("eu-west-1"), found, extras, knots_by_image(others))


OWN = [("lab/images", "mine"), ("lab/images", "env-1")]


def test_repository_without_other_knots_is_deleted_whole():
    deleted = fate(Extras(repo=True, image=True), OWN, [("old", "former")])
    assert (deleted.repositories, deleted.images, deleted.kept) == ({"lab/images"}, {("old", "former")}, [])


def test_shared_repository_is_kept_and_own_images_are_deleted():
    deleted = fate(Extras(repo=True), OWN, others=OTHERS)
    assert (deleted.repositories, deleted.images) == (set(), set(OWN))
    (message,) = deleted.kept
    assert "because the knots 'a', 'b' and 'c' use it" in message
    assert message.endswith("run `cloudknot clobber --repo a b c --region eu-west-1`.")


def test_shared_image_is_reported_once_for_each_repository():
    own = [*OWN, ("lab/images2", "two"), ("lab/images2", "mine")]
    deleted = fate(Extras(image=True), own, others=OTHERS)
    assert (deleted.repositories, deleted.images) == (set(), set(own))
    assert ["'a' and 'b' use" in message or "'b' uses" in message for message in deleted.kept] == [True, True]


def test_knots_of_the_same_call_keep_images_without_a_report():
    for extras in (Extras(repo=True, ending=("a", "b", "c")), Extras(image=True, ending=("a", "b", "c"))):
        deleted = fate(extras, OWN, others=OTHERS)
        assert (deleted.repositories, deleted.kept) == (set(), [])


def test_no_image_is_deleted_without_request():
    assert fate(Extras(results=True), OWN, OWN, OTHERS)[:2] == (set(), set())
