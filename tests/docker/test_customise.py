"""Customised images: packages, lines, users and edited directories take effect in the containers of jobs."""

import getpass
import io
import os
import shutil
import subprocess

import pytest

import cloudknot as ck
from tests.helpers.waiting import until

LONG = 120


def look_around(path):
    """Return user name, uid, path of `hello`, a variable, and whether a path exists."""
    return getpass.getuser(), os.getuid(), shutil.which("hello"), os.environ.get("COLOUR"), os.path.exists(path)


@pytest.fixture
def choices(cloud, machine):
    return {"cloud": cloud, "base_image": machine.base_image}


def test_container_has_packages_and_dockerfile_lines_and_unprivileged_user(choices):
    knot = ck.Knot(
        name="packages",
        func=look_around,
        apt_packages="hello",
        dockerfile_lines=["ENV COLOUR=green", "RUN touch /made \\\n && chmod a+r /made"],
        **choices,
    )
    ((user, uid, *rest),) = knot.map(["/made"]).result(LONG)
    assert user == "cloudknot-user"
    assert uid != 0
    assert rest == ["/usr/bin/hello", "green", True]


def test_job_runs_as_user_named_by_username(choices):
    knot = ck.Knot(name="user", func=look_around, username="jo", **choices)
    assert knot.map(["/none"]).result(LONG)[0][0] == "jo"


def test_edited_dockerfile_and_added_file_take_effect_in_jobs(choices, tmp_path):
    knot = ck.Knot(name="edited", func=look_around, image_work_dir=tmp_path / "d", **choices)
    assert knot.map(["/none"]).result(LONG)[0][3] is None
    dockerfile = knot.docker_image.docker_path
    dockerfile.write_text(
        dockerfile.read_text().replace("COPY pylock", "COPY data.txt /\nENV COLOUR=red\nCOPY pylock")
    )
    (tmp_path / "d" / "data.txt").write_text("data")
    again = ck.Knot(name="edited", func=look_around, image_work_dir=tmp_path / "d", **choices)
    assert again.map(["/data.txt"]).result(LONG)[0][3:] == ("red", True)


def test_two_knots_share_prepared_image(cloud, machine):
    image = ck.DockerImage("shared", look_around, base_image=machine.base_image, dockerfile_lines="ENV COLOUR=blue")
    knots = [ck.Knot(name=name, docker_image=image, cloud=cloud) for name in ("sharing-1", "sharing-2")]
    assert [knot.map(["/none"]).result(LONG)[0][3] for knot in knots] == ["blue", "blue"]
    assert knots[0].docker_image is knots[1].docker_image is image


SCRIPT = """\
#!/bin/sh
echo "working on $1" >&2
[ "$1" != bad ] || exit 3
echo "$# arguments, the first is $1"
"""


def test_script_runs_with_elements_as_arguments_and_failure_keeps_exit_code(choices, tmp_path):
    (tmp_path / "tool").write_text(SCRIPT)
    knot = ck.Knot(name="script", image_script_path=tmp_path / "tool", **choices)
    future = knot.map(["one", ["two", 2], "bad"])
    assert future[0].result(LONG) == "1 arguments, the first is one\n"
    assert future[1].result(LONG) == "2 arguments, the first is two\n"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        future[2].result(LONG)
    assert caught.value.returncode == 3
    # The log receives a line a little later than S3 receives the result.
    until(lambda: list(future.job.logs(2))[:1] == ["working on bad"])


def test_jobs_run_on_base_image_with_entry_point(choices, engine):
    text = f'FROM {choices["base_image"]}\nENTRYPOINT ["/bin/false"]\n'.encode()
    for event in engine.build(fileobj=io.BytesIO(text), tag="cloudknot-entry:1", rm=True, decode=True):
        assert "error" not in event, event
    knot = ck.Knot(name="entry", func=lambda x: x + 1, **{**choices, "base_image": "cloudknot-entry:1"})
    assert knot.map([1]).result(LONG) == [2]


def test_job_runs_tool_added_to_directory(choices, tmp_path):
    def run_tool(word):
        return subprocess.run(["/opt/cloudknot/tool", word], capture_output=True, text=True, check=True).stdout

    image = ck.DockerImage("tooled", run_tool, dir_name=tmp_path / "tooled", base_image=choices["base_image"])
    (image.build_path / "tool").write_text("#!/bin/sh\necho so $1\n")
    (image.build_path / "tool").chmod(0o755)
    image.docker_path.write_text(image.docker_path.read_text().replace("COPY pylock", "COPY tool ./\nCOPY pylock"))
    knot = ck.Knot(name="tooled", docker_image=image, cloud=choices["cloud"])
    assert knot.map(["be it"]).result(LONG) == ["so be it\n"]


def test_image_tags_are_pushed_and_moved_to_newer_image(choices, cloud):
    knot = ck.Knot(name="tagged", func=lambda x: x, image_tags=["v1", "latest-tagged"], repo_name="tags", **choices)
    repository = cloud.repository(knot.docker_repo.name)
    first = digest_of(cloud, "latest-tagged")
    assert repository.has_tag("v1")
    ck.Knot(name="tagged", func=lambda x: x + 1, image_tags="latest-tagged", repo_name="tags", **choices)
    assert digest_of(cloud, "latest-tagged") != first
    assert digest_of(cloud, "v1") == first


def digest_of(cloud, tag):
    """Return the digest of the tagged image in the repository "tags"."""
    answer = cloud.call("ecr", "describe_images", repositoryName="tags", imageIds=[{"imageTag": tag}])
    return answer["imageDetails"][0]["imageDigest"]


def test_knot_with_pushed_image_needs_no_engine(choices, monkeypatch):
    def unchanged(x):
        return x

    first = ck.Knot(name="again", func=unchanged, **choices)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    again = ck.Knot(name="again", func=unchanged, image_tags="also-without", **choices)
    assert again.map([1]).result(LONG) == [1]
    assert choices["cloud"].repository(first.docker_repo.name).has_tag("also-without")
    with pytest.raises(ck.ImageError, match="base image cloudknot-nowhere:1 was not found"):
        ck.Knot(name="again", func=unchanged, **{**choices, "base_image": "cloudknot-nowhere:1"})


def test_element_error_names_older_cloudpickle_in_image(choices):
    knot = ck.Knot(name="pickled", func=abs, requirements=["cloudpickle==2.2.1"], **choices)
    cause = (
        r"by cloudpickle 3\..*this image has cloudpickle 2\.2\.1\. Its output: .*cloudknot logs \S+ 0 --cloud local\. "
    )
    fix = r"Write cloudpickle==.* in requirements=, or remove cloudpickle from the requirements\.$"
    with pytest.raises(ck.ElementError, match=cause + fix):
        knot.map([-1]).result(LONG)


@pytest.fixture
def github(tmp_path, monkeypatch):
    """Two commits of a local repository, which git of this session fetches instead of GitHub's. No image has it."""
    work, bare = tmp_path / "work", tmp_path / "tool.git"
    work.mkdir()
    (work / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='tool', version='1', py_modules=['tool'])\n"
    )
    git = ["git", "-C", str(work), "-c", "user.name=me", "-c", "user.email=me@example.com"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    commits = []
    for word in ("old", "new"):
        (work / "tool.py").write_text(f"WORD = {word!r}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", word], check=True)
        commits.append(subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip())
    subprocess.run(["git", "clone", "--quiet", "--bare", str(work), str(bare)], check=True)
    address = "insteadOf = https://github.com/somebody/tool"
    (tmp_path / "gitconfig").write_text(f'[url "file://{bare}"]\n{address}\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    return commits


def tool_word(_):
    import tool

    return tool.WORD


def test_github_install_pins_current_commit(choices, github):
    _, new = github
    chosen = {**choices, "func": tool_word}
    with pytest.warns(UserWarning, match="imports tool, which is not installed here"):
        knot = ck.Knot(name="github", image_github_installs="https://github.com/somebody/tool", **chosen)
    assert f"git+https://github.com/somebody/tool@{new}\n" in knot.docker_image.req_path.read_text()
    assert knot.map([0]).result(LONG) == ["new"]


def test_docker_image_is_built_and_pushed_without_knot(machine, cloud):
    image = ck.DockerImage("By-Hand", look_around, base_image=machine.base_image)
    image.build(["one", "two"])
    repository = ck.DockerRepo("by-hand", cloud=cloud)
    image.push(repository)
    assert image.repo_uri == repository.repo_uri
    assert cloud.repository("by-hand").has_tag("one")
    assert cloud.repository("by-hand").has_tag("two")
