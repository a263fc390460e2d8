"""The package exposes exactly its public names. They load lazily, but help, inspect and pickle work with them."""

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


def test_all_is_sorted_and_contains_promised_names():
    assert ck.__all__ == sorted(ck.__all__)
    assert set(ck.__all__) >= PROMISED


@pytest.mark.parametrize("name", ck.__all__)
def test_public_name_exists_and_has_docstring(name):
    value = getattr(ck, name)
    assert name == "__version__" or inspect.getdoc(value)


def test_package_exposes_no_other_public_names():
    modules = {name for name in dir(ck) if inspect.ismodule(getattr(ck, name))}
    assert modules == {"aws", "errors", "local"}
    assert set(dir(ck)) - modules == set(ck.__all__)
    assert set(ck._MODULE_OF) | set(errors.__all__) | {"__version__"} == set(ck.__all__)


def test_star_import_provides_every_public_name():
    namespace = {}
    exec("from cloudknot import *", namespace)
    assert set(ck.__all__) <= set(namespace)


def test_unknown_name_raises_attribute_error_or_import_error():
    with pytest.raises(AttributeError, match="no attribute 'Knott'"):
        ck.Knott  # noqa: B018
    with pytest.raises(ImportError):
        exec("from cloudknot import Knott")


@pytest.mark.parametrize("name", [name for name in ck.__all__ if name != "__version__"])
def test_public_object_is_pickled_by_name(name):
    value = getattr(ck, name)
    assert pickle.loads(pickle.dumps(value)) is value


def test_help_shows_public_names():
    page = pydoc.plain(pydoc.render_doc(ck))
    assert "class Knot(" in page
    assert "set_region(" in page


def test_inspect_finds_public_classes_and_their_source():
    assert {"BatchJob", "Knot", "MapFuture"} <= {name for name, _ in inspect.getmembers(ck, inspect.isclass)}
    assert inspect.getsourcefile(ck.Knot).endswith("knot.py")


@pytest.mark.parametrize("name", errors.__all__)
def test_error_class_belongs_to_documented_tree(name):
    error_class = getattr(errors, name)
    assert issubclass(error_class, ck.CloudknotError)
    assert name in errors.__doc__


def test_input_and_timeout_errors_inherit_from_builtin_errors():
    assert issubclass(ck.CloudknotInputError, ValueError)
    assert issubclass(ck.CKTimeoutError, TimeoutError)
    assert issubclass(ck.JobTimeoutError, TimeoutError)


def test_old_notebooks_find_classes_under_aws():
    assert ck.aws.BatchJob is ck.BatchJob
    assert ck.aws.DockerRepo is ck.DockerRepo
    with pytest.raises(AttributeError):
        ck.aws.Nonsense  # noqa: B018


def test_knot_and_map_keep_their_parameters_in_order():
    # The first parameters are those in cloudknot's paper. Old scripts may pass them by position.
    assert list(inspect.signature(ck.Knot).parameters) == [
        *("name", "pars", "pars_policies", "docker_image", "base_image", "func", "image_script_path"),
        *("image_work_dir", "image_github_installs", "username", "repo_name", "image_tags", "no_image_cache"),
        *("job_definition_name", "job_def_vcpus", "memory", "n_gpus", "retries", "compute_environment_name"),
        *("instance_types", "min_vcpus", "max_vcpus", "desired_vcpus", "volume_size", "image_id", "ec2_key_pair"),
        *("bid_percentage", "job_queue_name", "priority", "aws_resource_tags", "cloud", "timeout", "requirements"),
        *("environment", "apt_packages", "dockerfile_lines", "memory_growth", "vcpus", "template", "compute"),
    ]
    assert list(inspect.signature(ck.Knot.map).parameters) == [
        *("self", "iterdata", "env_vars", "max_threads", "starmap", "job_type"),
        *("chunksize", "depends_on", "progress", "kwargs", "memory", "vcpus", "timeout", "retries"),
    ]
