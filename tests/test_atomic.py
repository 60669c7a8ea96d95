import pytest

from lpsnet import atomic


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "scores.json"
    with atomic.opened(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "scores.json"
    atomic.write_bytes(path, b"old")

    def fail() -> None:
        with atomic.opened(path) as file:
            file.write(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "out"
    with atomic.folder(path) as folder:
        (folder / "a.txt").write_text("a")
        assert not path.exists()
    assert (path / "a.txt").read_text() == "a"
    assert [p.name for p in path.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    with atomic.folder(path) as folder:
        (folder / "a.txt").write_text("a")
    assert (path / "a.txt").exists()


def test_a_folder_that_fails_vanishes(tmp_path):
    def fail() -> None:
        with atomic.folder(tmp_path / "out") as folder:
            (folder / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_is_left_as_it_is(tmp_path, kind):
    path = tmp_path / "out"
    if kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        path.write_text("mine")
    with pytest.raises(FileExistsError, match="out: expected a new or an empty folder"), atomic.folder(path):
        raise AssertionError
    assert (path / "mine" if kind == "folder" else path).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
