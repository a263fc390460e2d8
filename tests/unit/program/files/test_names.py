"""Names of files are compared as Linux does, whatever the disk says."""

import unicodedata

from cloudknot.program.files.names import has, has_file, portable_paths

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "données") for form in ("NFC", "NFD"))


def test_only_the_exact_name_counts(tmp_path):
    (tmp_path / "Lab").mkdir()
    (tmp_path / "Lab" / "Click.py").touch()
    assert has_file(tmp_path, "Lab", "Click.py")
    assert not has_file(tmp_path, "Lab", "click.py")
    assert not has_file(tmp_path, "lab", "Click.py")
    assert has(tmp_path, "Lab")
    assert not has(tmp_path, "lab")
    assert not has_file(tmp_path, "Lab")


def test_the_form_of_accents_does_not_count(tmp_path):
    (tmp_path / DECOMPOSED).mkdir()
    assert has(tmp_path, COMPOSED)
    assert has(tmp_path, DECOMPOSED)


def test_accents_have_one_form_in_an_image():
    assert portable_paths([f"{DECOMPOSED}/a.txt", "b"]) == {f"{DECOMPOSED}/a.txt": f"{COMPOSED}/a.txt", "b": "b"}


def test_two_files_stay_two_files():
    paths = [COMPOSED, DECOMPOSED]
    assert portable_paths(paths) == {path: path for path in paths}
