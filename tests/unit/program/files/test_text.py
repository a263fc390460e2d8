"""Source code becomes what Linux runs, text is read in the encodings of Windows, and data stay as they are."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudknot.program.files.modes import is_program
from cloudknot.program.files.text import decoded, is_source, portable

LINES = "#!/bin/sh\necho é\n"
FORMS = {
    "LF": LINES.encode(),
    "CRLF": LINES.replace("\n", "\r\n").encode(),
    "BOM": codecs.BOM_UTF8 + LINES.encode(),
    "BOM and CRLF": codecs.BOM_UTF8 + LINES.replace("\n", "\r\n").encode(),
}
UTF16 = {
    "UTF-16 LE": codecs.BOM_UTF16_LE + LINES.encode("utf-16-le"),
    "UTF-16 BE": codecs.BOM_UTF16_BE + LINES.replace("\n", "\r\n").encode("utf-16-be"),
}


@pytest.mark.parametrize("content", [*FORMS.values(), *UTF16.values()], ids=[*FORMS, *UTF16])
@pytest.mark.parametrize("name", ["run.sh", "bin/RUN.SH", "main.py", "Dockerfile", "requirements.txt", "model.R"])
def test_source_code_is_the_same_on_every_system(name, content):
    assert portable(name, content) == LINES.encode()


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_a_first_line_shows_source_code_of_any_name(content):
    assert portable("tool", content) == LINES.encode()


@pytest.mark.parametrize("name", ["table.csv", "notes.txt", "image.tif", "data", "weights.m.bin", "settings.json"])
@pytest.mark.parametrize("content", [b"a\r\nb\r\n", codecs.BOM_UTF8 + b"a\r\n", UTF16["UTF-16 LE"]])
def test_data_stay_as_they_are(name, content):
    assert portable(name, content) == content


@pytest.mark.parametrize("name", ["matrix.m", "blob.py", "tool"])
def test_binary_data_under_the_name_of_source_code_stay_as_they_are(name):
    content = b"#!MATLAB\r\n\0\r\n"
    assert portable(name, content) == content


@given(st.binary())
def test_any_bytes_of_a_data_file_stay_as_they_are(content):
    assert is_source("a.csv", content) or portable("a.csv", content) == content


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0\ufeff")))
def test_any_text_is_the_same_after_an_editor_of_windows(text):
    content = text.encode()
    assert portable("a.py", codecs.BOM_UTF8 + content.replace(b"\n", b"\r\n")) == content


@pytest.mark.parametrize("content", [*FORMS.values(), *UTF16.values()], ids=[*FORMS, *UTF16])
def test_text_is_read_in_every_form(content):
    assert decoded(content).replace("\r\n", "\n") == LINES


def test_text_in_another_encoding_is_read_as_far_as_possible():
    assert decoded("numpy  # é".encode("cp1252")) == "numpy  # \ufffd"


@pytest.mark.parametrize("content", [FORMS["CRLF"], FORMS["BOM"], b"\x7fELF\x02\x01", b"#!python"])
def test_programs_are_known_by_their_content(content):
    assert is_program(content)


@pytest.mark.parametrize("content", [b"", b"import os\n", b"a,b\r\n", b"# !", b"MZ\x90"])
def test_other_files_are_no_programs(content):
    assert not is_program(content)
