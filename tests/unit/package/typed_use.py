"""A user's script for mypy in `make check`. Lazily loaded names have their types, and a wrong name is an error."""

from typing import assert_type

import cloudknot as ck
from cloudknot import Knot, MapFuture


def double(x: int) -> int:
    return 2 * x


knot = ck.Knot(name="typed", func=double)
future = knot.map(range(3))
assert_type(knot, Knot)
assert_type(future, MapFuture)
assert_type(knot.jobs, list[ck.BatchJob])
assert_type(ck.Cloud("us-east-1").region, str)
assert_type(ck.get_region(), str)
assert_type(ck.list_profiles().profile_names, list[str])
assert_type(ck.LocalCloud(), ck.LocalCloud)
assert_type(ck.errors.CloudError("refused", code="AccessDenied"), ck.CloudError)
assert_type(ck.__version__, str)
ck.Knott  # type: ignore[attr-defined]  # noqa: B018
