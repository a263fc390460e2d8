"""The public names are what is promised, and exist."""

import inspect
import pickle
import pydoc

import pytest

import cloudknot as ck
from cloudknot import errors

PROMISED = {
    "BatchJob",
    "Cloud",
    "DockerImage",
    "DockerRepo",
    "Knot",
    "LocalCloud",
    "MapFuture",
    "Pars",
    "__version__",
    "get_ecr_repo",
    "get_profile",
    "get_region",
    "get_s3_params",
    "list_profiles",
    "refresh_clients",
    "set_ecr_repo",
    "set_profile",
    "set_region",
    "set_s3_params",
    *errors.__all__,
}


def test_all_is_sorted_and_is_what_is_promised():
    assert ck.__all__ == sorted(ck.__all__)
    assert set(ck.__all__) >= PROMISED


@pytest.mark.parametrize("name", ck.__all__)
def test_every_public_name_exists_and_is_documented(name):
    thing = getattr(ck, name)
    assert name == "__version__" or inspect.getdoc(thing)


def test_no_other_public_name_leaks():
    modules = {name for name in dir(ck) if inspect.ismodule(getattr(ck, name))}
    assert modules == {"aws", "errors", "local"}
    assert set(dir(ck)) - modules == set(ck.__all__)
    assert set(ck._MODULE_OF) | set(errors.__all__) | {"__version__"} == set(ck.__all__)


def test_a_star_import_gives_every_public_name():
    names = {}
    exec("from cloudknot import *", names)
    assert set(ck.__all__) <= set(names)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Knott'"):
        ck.Knott  # noqa: B018
    with pytest.raises(ImportError):
        exec("from cloudknot import Knott")


@pytest.mark.parametrize("name", [name for name in ck.__all__ if name != "__version__"])
def test_public_names_are_pickled_by_name(name):
    thing = getattr(ck, name)
    assert pickle.loads(pickle.dumps(thing)) is thing


def test_help_shows_the_public_names():
    shown = pydoc.plain(pydoc.render_doc(ck))
    assert "class Knot(" in shown
    assert "set_region(" in shown


def test_inspect_sees_the_public_names():
    assert {"BatchJob", "Knot", "MapFuture"} <= {name for name, _ in inspect.getmembers(ck, inspect.isclass)}
    assert inspect.getsourcefile(ck.Knot).endswith("knot.py")


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_in_the_one_tree(name):
    kind = getattr(errors, name)
    assert issubclass(kind, ck.CloudknotError)
    assert name in errors.__doc__


def test_errors_that_are_also_builtin_ones():
    assert issubclass(ck.CloudknotInputError, ValueError)
    assert issubclass(ck.CKTimeoutError, TimeoutError)
    assert issubclass(ck.JobTimeoutError, TimeoutError)


def test_old_notebooks_find_their_names_under_aws():
    assert ck.aws.BatchJob is ck.BatchJob
    assert ck.aws.DockerRepo is ck.DockerRepo
    with pytest.raises(AttributeError):
        ck.aws.Nonsense  # noqa: B018


def test_the_signatures_of_the_paper():
    assert list(inspect.signature(ck.Knot).parameters) == [
        *("name", "pars", "pars_policies", "docker_image", "base_image", "func", "image_script_path"),
        *("image_work_dir", "image_github_installs", "username", "repo_name", "image_tags", "no_image_cache"),
        *("job_definition_name", "job_def_vcpus", "memory", "n_gpus", "retries", "compute_environment_name"),
        *("instance_types", "min_vcpus", "max_vcpus", "desired_vcpus", "volume_size", "image_id", "ec2_key_pair"),
        *("bid_percentage", "job_queue_name", "priority", "aws_resource_tags", "cloud", "timeout", "requirements"),
        *("apt_packages", "dockerfile_lines", "memory_growth"),
    ]
    assert list(inspect.signature(ck.Knot.map).parameters) == [
        *("self", "iterdata", "env_vars", "max_threads", "starmap", "job_type"),
        *("chunksize", "depends_on", "progress", "kwargs", "memory", "vcpus", "timeout", "retries"),
    ]
