"""A session whose default encoding is not UTF-8, as on Windows, makes the same program, and names all encodings."""

import os
import subprocess
import sys

from tests.helpers.paths import ROOT

SESSION = """
import sys, warnings
# A text that is opened without an encoding raises an error.
warnings.filterwarnings("error", category=EncodingWarning, module=r"cloudknot\\..*")
from cloudknot.image.docker_image import DockerImage
from tests.helpers.images import image_in
import helper

def call(x):
    return helper.GREETING, "grüezi", x

image = DockerImage("greetings", call, dir_name=sys.argv[1], requirements="requirements.txt")
print(image_in(image).tag)
"""


def tag(folder, name, *options, **variables):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), **variables}
    command = [sys.executable, *options, "session.py", name]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, encoding="utf-8")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_default_encoding_changes_nothing(tmp_path):
    (tmp_path / "session.py").write_text(SESSION, encoding="utf-8")
    (tmp_path / "helper.py").write_text("GREETING = 'grüezi'\n", encoding="utf-8")
    (tmp_path / "requirements.txt").write_text("six  # für Zürich\n", encoding="utf-8")
    here = tag(tmp_path, "one", PYTHONUTF8="1")
    latin = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    rule = ("-X", "warn_default_encoding")
    assert tag(tmp_path, "two", *rule, **latin) == here
    (tmp_path / "requirements.txt").write_text("six  # für Zürich\n", encoding="cp1252")
    assert tag(tmp_path, "three", *rule, **latin) == here
    (tmp_path / "requirements.txt").write_text("six  # für Zürich\r\n", encoding="utf-16")
    (tmp_path / "helper.py").write_text("GREETING = 'grüezi'\r\n", encoding="utf-8-sig")
    assert tag(tmp_path, "four", *rule, **latin) == here
