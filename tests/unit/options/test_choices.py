"""The options of knots, Pars and maps have defaults, and invalid choices raise an error that proposes a valid one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cloudknot as ck
from cloudknot.errors import CloudknotInputError
from cloudknot.options.choices import KnotOptions, MapOptions, ParsOptions, default_name


def test_knot_options_have_defaults() -> None:
    options = KnotOptions.make(name="pi-calc", memory=None)
    assert options.job_definition_name == "pi-calc-cloudknot-job-definition"
    assert options.job_queue_name == "pi-calc-cloudknot-job-queue"
    assert options.compute_environment_name == "pi-calc-cloudknot-compute-environment"
    assert (options.job_def_vcpus, options.memory, options.n_gpus) == (1, 1900, 0)
    assert (options.retries, options.timeout) == (1, 604_800)
    assert (options.min_vcpus, options.desired_vcpus, options.max_vcpus) == (0, 8, 256)
    assert options.instance_types == ("optimal",)
    assert options.bid_percentage is None
    assert options.base_image is None
    assert options.platform == "linux/amd64"
    assert set(options.aws_resource_tags) == {"Owner", "Environment", "Name"}


def test_default_name_turns_user_name_into_valid_knot_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "1 Very.Long_Name of somebody at some university")
    assert default_name() == "Very-Long-Name-of-somebody-at-some-u-default"
    assert KnotOptions.make().name == default_name()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "1a"),
        ("name", "a" * 56),
        ("name", "pi.calc"),
        ("name", ""),
        ("name", 3),
        ("func", "f"),
        ("retries", 0),
        ("retries", 11),
        ("retries", True),
        ("retries", 1.0),
        ("timeout", 59),
        ("memory", 3),
        ("memory", "8000"),
        ("job_def_vcpus", 0),
        ("n_gpus", -1),
        ("bid_percentage", 101),
        ("bid_percentage", -1),
        ("volume_size", 10),
        ("volume_size", 65_537),
        ("image_id", "ubuntu"),
        ("instance_types", ["c5.large", 7]),
        ("instance_types", {"c5.large": 1}),
        ("min_vcpus", -1),
        ("priority", "high"),
        ("job_queue_name", "a b"),
        ("pars_policies", ["no such/ policy"]),
        ("repo_name", "Upper"),
        ("username", "Root User"),
        ("base_image", "python 3"),
        ("image_tags", [""]),
        ("image_github_installs", ["numpy"]),
        ("no_image_cache", "yes"),
        ("requirements", [""]),
        ("apt_packages", ["imagej; rm -rf /"]),
        ("apt_packages", ["Upper"]),
        ("dockerfile_lines", ["RUN true\nFROM other"]),
        ("dockerfile_lines", [3]),
        ("memory_growth", 1),
        ("memory_growth", 9),
        ("memory_growth", True),
        ("memory_growth", "2"),
        ("image_script_path", ""),
        ("instance_types", ["c7g", "c6i"]),
        ("instance_types", ["optimal", "default_arm64"]),
        ("aws_resource_tags", {"aws:x": "y"}),
        ("aws_resource_tags", {"x": 1}),
        ("aws_resource_tags", [{"Name": "x"}]),
        ("aws_resource_tags", {str(n): "" for n in range(47)}),
    ],
)
def test_knot_refuses_invalid_choice(name: str, value: Any) -> None:
    with pytest.raises(CloudknotInputError, match=rf"(?s)^{name}(=| contains ).* Pass .*\.$") as caught:
        KnotOptions.make(**{name: value})
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("instance_types", ["c5.large", 7], "instance_types contains 7, which is not 'optimal', an instance type"),
        ("instance_types", 7, "instance_types=7 is not a string or a list of strings."),
        ("instance_types", ["m7g", "a1.large"], "instance_types contains 'a1.large', which cannot run the machine"),
        ("requirements", [""], "requirements contains '', which is not a requirement in pip's format."),
        ("requirements", "", "requirements='' is not a requirement in pip's format."),
        ("dockerfile_lines", [3], "dockerfile_lines contains 3, which is not a line of a Dockerfile."),
        ("dockerfile_lines", ["FROM x"], "dockerfile_lines contains 'FROM x', which contains FROM."),
    ],
)
def test_error_names_invalid_item_of_list(name: str, value: Any, problem: str) -> None:
    with pytest.raises(CloudknotInputError) as caught:
        KnotOptions.make(**{name: value})
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("size", [30, 16_385, 65_536])
def test_knot_accepts_every_size_of_a_gp3_volume(size: int) -> None:
    assert KnotOptions.make(volume_size=size).volume_size == size


def test_knot_accepts_numpy_integers() -> None:
    options = KnotOptions.make(memory=np.int64(500), retries=np.uint8(3))
    assert (options.memory, options.retries) == (500, 3)
    assert type(options.memory) is int


def test_knot_accepts_string_or_list_without_duplicates() -> None:
    assert KnotOptions.make(instance_types="c6i").instance_types == ("c6i",)
    repeated = ["c6i.large", "m6i.large", "c6i.large"]
    assert KnotOptions.make(instance_types=repeated).instance_types == ("c6i.large", "m6i.large")
    assert KnotOptions.make(requirements=[]).requirements == ()
    assert KnotOptions.make().requirements is None


def test_knot_accepts_tags_as_dict_or_as_aws_list() -> None:
    mapped = KnotOptions.make(name="x", aws_resource_tags={"Project": "pi", "Owner": "me"})
    listed = KnotOptions.make(
        name="x", aws_resource_tags=[{"Key": "Project", "Value": "pi"}, {"Key": "Owner", "Value": "me"}]
    )
    assert mapped.aws_resource_tags == listed.aws_resource_tags
    assert mapped.aws_resource_tags == {"Owner": "me", "Environment": "cloudknot", "Name": "x", "Project": "pi"}


def test_knot_refuses_vcpus_out_of_order() -> None:
    with pytest.raises(
        CloudknotInputError,
        match=r"^desired_vcpus=9, max_vcpus=8 do not satisfy desired_vcpus <= max_vcpus\. "
        r"Pass for example desired_vcpus=8, max_vcpus=9\.$",
    ):
        KnotOptions.make(desired_vcpus=9, max_vcpus=8)
    with pytest.raises(
        CloudknotInputError,
        match=r"^min_vcpus=10, max_vcpus=4 do not satisfy min_vcpus <= max_vcpus\. "
        r"Pass for example min_vcpus=4, max_vcpus=10\.$",
    ):
        KnotOptions.make(min_vcpus=10, max_vcpus=4)
    with pytest.raises(CloudknotInputError, match=r"Pass .* min_vcpus=3, desired_vcpus=4, max_vcpus=5\.$"):
        KnotOptions.make(min_vcpus=5, desired_vcpus=3, max_vcpus=4)
    assert KnotOptions.make(max_vcpus=4).desired_vcpus == 4
    with pytest.raises(
        CloudknotInputError, match=r"^job_def_vcpus=8 is more than .*max_vcpus=4\. No job could start\."
    ):
        KnotOptions.make(job_def_vcpus=8, max_vcpus=4)


def test_knot_warns_that_min_vcpus_keeps_machines_running() -> None:
    with pytest.warns(UserWarning, match=r"min_vcpus=16 keeps .* cost money even when no job runs\."):
        options = KnotOptions.make(min_vcpus=16)
    assert options.desired_vcpus == 16


@pytest.mark.parametrize("choice", [{"min_vcpus": 16}, {"bid_percentage": 0}])
def test_warning_about_knot_points_to_users_file(choice: dict[str, Any]) -> None:
    # The unknown cloud ends the constructor after the warning and before any request.
    with (
        pytest.raises(CloudknotInputError, match="mars"),
        pytest.warns(UserWarning, match=next(iter(choice))) as caught,
    ):
        ck.Knot(name="dear", cloud="mars", **choice)
    assert [warning.filename for warning in caught] == [__file__]


def test_knot_refuses_choices_that_exclude_each_other() -> None:
    with pytest.raises(CloudknotInputError, match=r"^volume_size=50 cannot be combined with image_id='ami-.*Remove"):
        KnotOptions.make(volume_size=50, image_id="ami-0123456789abcdef0")
    with pytest.raises(CloudknotInputError, match=r"^image_script_path='x.py' and func are both given\..*Remove"):
        KnotOptions.make(func=len, image_script_path="x.py")


def test_n_gpus_selects_gpu_instance_types_by_default() -> None:
    assert KnotOptions.make(n_gpus=1).instance_types == ("g4dn", "g5")
    assert KnotOptions.make(n_gpus=1, instance_types="p4d").instance_types == ("p4d",)


@pytest.mark.parametrize(
    ("types", "platform"),
    [
        ("optimal", "linux/amd64"),
        ("default_x86_64", "linux/amd64"),
        ("default_arm64", "linux/arm64"),
        ("m6g.large", "linux/arm64"),
        (["c7g.large", "m6gd", "t4g.nano", "im4gn", "is4gen", "x2gd", "hpc7g", "g5g", "r8gb"], "linux/arm64"),
        (["g4dn.xlarge", "g5", "gr6", "g6e", "c7i-flex", "p5en", "u-6tb1", "p6-b200", "m7a", "inf2"], "linux/amd64"),
        ("p6e-gb200.36xlarge", "linux/arm64"),
    ],
)
def test_platform_follows_instance_types(types: Any, platform: str) -> None:
    assert KnotOptions.make(instance_types=types).platform == platform


def test_knot_keeps_dockerfile_lines_unchanged() -> None:
    lines = ["RUN a && \\", "    b", "RUN a && \\", "    b"]
    assert KnotOptions.make(dockerfile_lines=lines).dockerfile_lines == tuple(lines)
    assert KnotOptions.make(dockerfile_lines="RUN a\nRUN b").dockerfile_lines == ("RUN a\nRUN b",)


@pytest.mark.parametrize("choice", [{"func": len}, {"base_image": "debian:12"}, {"apt_packages": "imagej"}])
def test_knot_refuses_image_options_together_with_docker_image(choice: dict[str, Any]) -> None:
    with pytest.raises(CloudknotInputError, match=f"^{next(iter(choice))}=.* to DockerImage, or remove docker_image="):
        KnotOptions.make(docker_image=object(), **choice)


def test_unknown_choice_raises_type_error() -> None:
    with pytest.raises(TypeError, match="vcpu"):
        KnotOptions.make(vcpu=1)


def test_options_are_immutable() -> None:
    with pytest.raises(AttributeError):
        KnotOptions.make().memory = 1  # type: ignore[misc]


def test_pars_options_have_defaults() -> None:
    options = ParsOptions.make(policies=("AmazonS3FullAccess", "arn:aws:iam::123456789012:policy/mine"))
    assert options.name == "default"
    assert options.use_default_vpc is True
    assert options.policies == ("AmazonS3FullAccess", "arn:aws:iam::123456789012:policy/mine")
    assert options.aws_resource_tags["Name"] == "default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ipv4_cidr", "10.0.0.1/16"),
        ("ipv4_cidr", "10.0.0.0/8"),
        ("ipv4_cidr", 7),
        ("instance_tenancy", "host"),
        ("use_default_vpc", 0),
        ("batch_service_role_name", "a b"),
        ("policies", [3]),
    ],
)
def test_pars_refuses_invalid_choice(name: str, value: Any) -> None:
    with pytest.raises(
        CloudknotInputError, match=rf"^{name}(=| contains ).* Pass for example {name}=|^{name}=.* or {name}="
    ):
        ParsOptions.make(**{"use_default_vpc": False, name: value})


def test_pars_accepts_ipv4_cidr_only_without_default_vpc() -> None:
    with pytest.raises(CloudknotInputError, match=r"^ipv4_cidr='10.1.0.0/16' .*Pass use_default_vpc=False"):
        ParsOptions.make(ipv4_cidr="10.1.0.0/16")
    assert ParsOptions.make(use_default_vpc=False, ipv4_cidr="10.1.0.0/16").ipv4_cidr == "10.1.0.0/16"


def test_map_accepts_env_vars_as_dict_or_as_aws_list() -> None:
    mapped = MapOptions.make(env_vars={"A": "1", "B": "2"})
    listed = MapOptions.make(env_vars=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])
    assert mapped == listed
    assert mapped.container_environment == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert (mapped.max_threads, mapped.job_type, mapped.chunksize, mapped.starmap) == (64, "array", None, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("env_vars", {"AWS_BATCH_JOB_ID": "x"}),
        ("env_vars", {"CLOUDKNOT_MANIFEST": "x"}),
        ("env_vars", {"AWS_ACCESS_KEY_ID": "AKIA"}),
        ("env_vars", {"AWS_PROFILE": "lab"}),
        ("env_vars", {"A": 1}),
        ("env_vars", {"A": "a\0b"}),
        ("env_vars", {"A": "half \ud800 of a pair"}),
        ("env_vars", [{"name": "half\udcff", "value": "1"}]),
        ("env_vars", {"A=B": "1"}),
        ("env_vars", ["A"]),
        ("env_vars", 3),
        ("env_vars", {"A": "x" * 8000}),
        ("max_threads", 0),
        ("job_type", "fan-out"),
        ("chunksize", 0),
        ("starmap", "no"),
    ],
)
def test_map_refuses_invalid_choice(name: str, value: Any) -> None:
    with pytest.raises(CloudknotInputError, match=rf"^{name}=.* (Pass|Rename|Remove) .*\.$"):
        MapOptions.make(**{name: value})
