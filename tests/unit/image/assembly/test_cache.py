"""Entries of the layer cache survive a session, and broken ones count as none."""

from cloudknot.image.assembly.cache import LayerCache


def test_entry_is_found_by_kind_and_key(tmp_path):
    cache = LayerCache(tmp_path / "new" / "folder")
    cache.put("layer", "key", {"size": 1})
    assert LayerCache(tmp_path / "new" / "folder").get("layer", "key") == {"size": 1}
    assert cache.get("layer", "other") is None
    assert cache.get("files", "key") is None
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o77 == 0


def test_broken_entry_counts_as_none(tmp_path):
    cache = LayerCache(tmp_path)
    for text in ("", "{", "[1]", "\xff"):
        cache.put("layer", "key", {"size": 1})
        (file,) = tmp_path.iterdir()
        file.write_text(text)
        assert cache.get("layer", "key") is None


def test_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    cache = LayerCache(tmp_path / "file")
    cache.put("layer", "key", {"size": 1})
    assert cache.get("layer", "key") is None


def test_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    LayerCache().put("layer", "key", {})
    assert [file.parent.name for file in tmp_path.rglob("*.json")] == ["layers"]
