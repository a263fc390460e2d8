"""Names of images as Docker reads them."""

import pytest

import cloudknot as ck
from cloudknot.aws.images.registry.reference import HUB, ImageReference, is_loopback, url_of

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "reference"),
    [
        ("python", HUB, "library/python", "latest"),
        ("python:3.11-slim", HUB, "library/python", "3.11-slim"),
        ("docker.io/python:3.11", HUB, "library/python", "3.11"),
        ("index.docker.io/library/python", HUB, "library/python", "latest"),
        ("continuumio/miniconda3", HUB, "continuumio/miniconda3", "latest"),
        (f"python@{DIGEST}", HUB, "library/python", DIGEST),
        (f"python:3.11@{DIGEST}", HUB, "library/python", DIGEST),
        ("public.ecr.aws/docker/library/python:3", "public.ecr.aws", "docker/library/python", "3"),
        ("ghcr.io/a/b_c/d-e", "ghcr.io", "a/b_c/d-e", "latest"),
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/cloudknot/x:format2-ab",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "cloudknot/x",
            "format2-ab",
        ),
        ("localhost/x", "localhost", "x", "latest"),
        ("localhost:5000/x", "localhost:5000", "x", "latest"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000", "a/b", "1"),
        ("[::1]:5000/x:1", "[::1]:5000", "x", "1"),
        ("registry:5000/x", "registry:5000", "x", "latest"),
    ],
)
def test_name_has_registry_repository_and_reference(text, registry, repository, reference):
    found = ImageReference.parse(text)
    assert (found.registry, found.repository, found.reference) == (registry, repository, reference)
    assert ImageReference.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "Python", "a b", "python:", "python@", "python@sha256:12", "a//b", "/a", "a/", "a:b:c", "host:5000/", "é"],
)
def test_other_text_is_refused(text):
    with pytest.raises(ck.errors.CloudknotInputError, match="is not the name of an image"):
        ImageReference.parse(text)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:1", "127.8.9.1", "[::1]:5000"])
def test_loopback_has_no_encryption(host):
    assert is_loopback(host)
    assert url_of(host) == f"http://{host}"


@pytest.mark.parametrize("host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "example:5000", "::1.example"])
def test_every_other_host_has_encryption(host):
    assert url_of(host) == f"https://{host}"
