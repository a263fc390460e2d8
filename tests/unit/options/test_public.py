"""Errors that public functions shorten may have any chain of causes."""

import pytest

from cloudknot.errors import CloudError, CloudknotInputError
from cloudknot.options.public import public_function


@public_function
def raise_its_own_cause():
    error = CloudError("denied")
    raise error from error


@public_function
def raise_with_ring_of_causes():
    first, second = CloudError("denied"), CloudknotInputError("bad")
    second.__cause__ = first
    raise first from second


@public_function
def raise_with_ring_of_contexts():
    first, second = CloudError("denied"), CloudknotInputError("bad")
    second.__context__, first.__context__ = first, second
    raise first


@pytest.mark.parametrize("function", [raise_its_own_cause, raise_with_ring_of_causes, raise_with_ring_of_contexts])
@pytest.mark.timeout(120)
def test_error_in_ring_of_causes_is_raised(function):
    with pytest.raises(CloudError, match="denied"):
        function()
