"""Amounts of memory: a number is MiB, a text has a unit, and amounts that nobody means are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import KnotOptions, MapOptions, RetryOptions, vcpus_of
from cloudknot.options.memory import memory


@pytest.mark.parametrize(
    ("value", "mebibytes"),
    [
        ("8GB", 8192),
        ("8 GiB", 8192),
        ("8g", 8192),
        ("7500 MB", 7500),
        ("512MiB", 512),
        (" 1.5 GiB ", 1536),
        ("0.1 gib", 103),
        ("1 TB", 1024**2),
        ("32 TiB", 32 * 1024**2),
        (64, 64),
        (7500, 7500),
    ],
)
def test_memory_is_mebibytes_of_number_or_text(value: object, mebibytes: int) -> None:
    assert memory("memory", value) == mebibytes
    assert KnotOptions.make(name="x", memory=value).memory == mebibytes
    assert MapOptions.of_map(memory=value).overrides.memory == mebibytes  # type: ignore[arg-type]
    assert RetryOptions.make(memory=value).memory == mebibytes


@pytest.mark.parametrize(
    ("value", "problem", "fix"),
    [
        (8, "memory=8 is 8 MiB, in which Python does not start. A number without a unit is MiB.", "memory='8 GiB'"),
        (63, "memory=63 is 63 MiB", "memory='63 GiB'"),
        ("8 MiB", "memory='8 MiB' is 8 MiB, in which", "memory='8 GiB'"),
        (10_000_000, "memory=10000000 is 9.5 TiB. A number without a unit is MiB.", "Pass the unit"),
        (8 * 1024**3, "memory=8589934592 is 8,192.0 TiB", "memory='16 GiB'"),
        ("33 TiB", "memory='33 TiB' is 33.0 TiB. The largest machine", "memory='16 GiB'"),
        ("8", "memory='8' is not an amount of memory.", "memory='8 GiB' or memory=8192"),
        ("8 kB", "is not an amount of memory", "memory='8 GiB'"),
        ("", "is not an amount of memory", "memory='8 GiB'"),
        ("GB", "is not an amount of memory", "memory='8 GiB'"),
        (7.5, "memory=7.5 is not a whole number of MiB", "memory='8 GiB'"),
        (True, "memory=True is not a whole number of MiB", "memory='8 GiB'"),
        (0, "memory=0 is not a whole number of MiB from 1", "memory='8 GiB'"),
    ],
)
def test_memory_that_nobody_means_is_refused_with_unit(value: object, problem: str, fix: str) -> None:
    for refuse in (memory, lambda name, value: KnotOptions.make(name="x", memory=value)):
        with pytest.raises(CloudknotInputError, match=f"^{re.escape(problem)}|{re.escape(problem)}") as caught:
            refuse("memory", value)
        assert fix in str(caught.value)


@given(
    st.integers(64, 8 * 1024**2),
    st.sampled_from(["{} MiB", "{}MB", "{}m", "{} mib"]),
)
def test_text_in_mebibytes_is_its_number(number: int, form: str) -> None:
    assert memory("memory", form.format(number)) == memory("memory", number) == number


def test_vcpus_and_job_def_vcpus_are_names_of_one_number() -> None:
    assert [vcpus_of(None, None), vcpus_of(3, None), vcpus_of(None, 2), vcpus_of(2, 2)] == [None, 3, 2, 2]
    with pytest.raises(CloudknotInputError, match=r"^vcpus=2 and job_def_vcpus=4 differ\. .* Pass vcpus=2 alone\."):
        vcpus_of(4, 2)
    with pytest.raises(CloudknotInputError, match=r"^vcpus=0 is not a whole number from 1 upwards"):
        vcpus_of(None, 0)
