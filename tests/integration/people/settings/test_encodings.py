"""Files of settings from any editor are read, or refused by one error with a command that mends them."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloudknot as ck
from cloudknot.options import config

TEXT = "# Zoë's lab\n[aws]\necr-repo = pictures\n"


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("cp1252"),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
    ],
    ids=["byte order mark", "cp1252", "utf-16", "crlf"],
)
def test_own_config_file_may_have_any_encoding_of_notepad(monkeypatch, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "cloudknot"
    file.write_bytes(data)
    monkeypatch.setenv("CLOUDKNOT_CONFIG_FILE", str(file))
    assert ck.get_ecr_repo() == "pictures"
    ck.set_s3_params("lab-results")
    # Later sessions read UTF-8, and the comment is whole.
    assert file.read_text(encoding="utf-8").splitlines()[0] == "# Zoë's lab"
    assert "s3-bucket = lab-results" in file.read_text(encoding="utf-8")
    assert config.ecr_repo() == "pictures"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (codecs.BOM_UTF8 + b"[default]\nregion = eu-west-1\n", "byte order mark"),
        ("# Zoë\n[default]\nregion = eu-west-1\n".encode("cp1252"), "not encoded as UTF-8, see line 1"),
        ("[default]\nregion = eu-west-1\n".encode("utf-16"), "UTF-16"),
    ],
    ids=["byte order mark", "cp1252", "utf-16"],
)
@pytest.mark.parametrize("name", ["config", "credentials"])
def test_command_in_error_mends_file_of_aws(monkeypatch, tmp_path: Path, name: str, data: bytes, cause: str) -> None:
    file = tmp_path / "a b" / name
    file.parent.mkdir()
    file.write_bytes(data)
    monkeypatch.setenv("AWS_CONFIG_FILE" if name == "config" else "AWS_SHARED_CREDENTIALS_FILE", str(file))
    for use in (ck.get_region, ck.list_profiles, lambda: ck.Cloud("eu-west-1").call("sts", "get_caller_identity")):
        with pytest.raises(ck.CloudknotConfigurationError, match="AWS's own tools cannot read the file") as caught:
            use()
        assert str(file) in str(caught.value)
        assert cause in str(caught.value)
    subprocess.run(str(caught.value).split("`")[1], shell=True, check=True)
    assert ck.get_region() == "eu-west-1"


LOCALES = {
    "C": {"LC_ALL": "C"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_embedded_cloud_runs_in_directory_with_other_letters(tmp_path: Path, locale: str) -> None:
    place = tmp_path / "Zoë 実験"
    code = (
        "import os, cloudknot as ck\n"
        "with ck.LocalCloud(os.environ['PLACE']) as cloud:\n"
        "    print(ck.Knot(name='letters', func=abs, cloud=cloud).map([-1]).result(300))\n"
    )
    environment = {**_environment(), **LOCALES[locale], "PLACE": str(place)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=400, env=environment)
    assert (done.returncode, done.stdout.decode()) == (0, "[1]\n"), done.stderr.decode()


def test_ascii_python_names_its_variable_for_file_of_aws(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("# Zoë\n[default]\nregion = eu-west-1\n", encoding="utf-8")
    environment = {**_environment(), **LOCALES["ASCII"], "AWS_CONFIG_FILE": str(tmp_path / "config")}
    code = "import cloudknot as ck\ntry: print(ck.get_region())\nexcept ck.CloudknotConfigurationError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, env=environment, check=True)
    assert b"export PYTHONUTF8=1" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, env={**environment, "PYTHONUTF8": "1"}
    )
    assert done.stdout == b"eu-west-1\n"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LC_") and name != "LANG"}
