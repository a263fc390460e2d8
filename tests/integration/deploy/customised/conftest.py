"""Templates of cloudknot with edits, as files of a user's own."""

import pytest

from cloudknot.deploy.cloudformation import template


@pytest.fixture
def edited(tmp_path):
    """Return a function that writes a template with edits, each a pair of old and new text, and returns its path."""

    def write(kind, *edits):
        text = template.load(kind)
        for old, new in edits:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / f"{kind}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
