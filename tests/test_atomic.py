"""A file is written whole or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from seqrnn.rundir import atomic
from seqrnn.rundir.atomic import remove_unfinished, replacing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is there already."""
    path = tmp_path / "weights.npz"
    path.write_text("before")
    return path


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("name", ["weights.npz", "new.png", "no suffix"])
def test_the_new_file_takes_the_place_of_the_old_one(name: str, durable: bool, path: Path) -> None:
    target = path.with_name(name)
    with replacing(target, durable=durable) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == target.suffix
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert target.read_text() == "after"
    assert names(path.parent) == sorted({"weights.npz", name})


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()]
)
def test_an_error_in_between_leaves_the_old_file_and_nothing_else(error: BaseException, path: Path) -> None:
    with suppress(type(error)), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert names(path.parent) == ["weights.npz"]


def test_a_new_file_that_fails_its_check_leaves_the_old_one(path: Path) -> None:
    def check(temporary: Path) -> None:
        assert temporary.read_text() == "damaged"
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"), replacing(path, check=check) as temporary:
        temporary.write_text("damaged")
    assert path.read_text() == "before"
    assert names(path.parent) == ["weights.npz"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    def write() -> None:
        with replacing(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("after")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "before"
    assert names(path.parent) == ["weights.npz"]


def test_a_killed_process_leaves_the_old_file_and_what_it_leaves_is_removed_later(path: Path) -> None:
    child = os.fork()
    if child == 0:
        for name in ("weights.npz", "no suffix"):
            with replacing(path.with_name(name)) as temporary:
                temporary.write_text("half")
                if name == "no suffix":
                    os._exit(9)  # as SIGKILL does: nothing is cleaned up
    os.waitpid(child, 0)
    assert len(names(path.parent)) == 2
    (path.parent / ".lock").touch()
    (path.parent / "notes.tmp.txt").touch()
    remove_unfinished(path.parent)
    assert names(path.parent) == [".lock", "notes.tmp.txt", "weights.npz"]


def test_only_what_no_other_process_may_be_writing_is_removed_from_a_directory(path: Path) -> None:
    child = os.fork()
    if child == 0:
        with replacing(path.with_name("killed.png")) as temporary:
            temporary.write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    running = path.with_name(f"{atomic.PREFIX}00000000-{os.getpid()}-0123abcd-{path.name}")
    running.touch()  # on another machine, so that it is not known whether it runs
    with replacing(path.with_name("diagnosis.png")) as picture:
        picture.write_text("drawn by a process that runs")
        remove_unfinished(path.parent, ["diagnosis.json"])
        assert names(path.parent) == sorted([running.name, picture.name, path.name])
    remove_unfinished(path.parent, [path.name])
    assert names(path.parent) == ["diagnosis.png", path.name]


def test_a_link_is_replaced_and_what_it_leads_to_stays(path: Path) -> None:
    link = path.with_name("link.npz")
    link.symlink_to(path)
    with replacing(link) as temporary:
        temporary.write_text("after")
    assert (link.read_text(), path.read_text(), link.is_symlink()) == ("after", "before", False)


def test_a_durable_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        calls.append("directory" if os.path.isdir(handle) else "file")  # noqa: PTH112
        sync(handle)

    def replaced(self: Path, target: Path) -> Any:
        calls.append("replace")
        return replace(self, target)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)
    with replacing(path) as temporary:
        temporary.write_text("quick")
    assert calls == ["replace"]
    with replacing(path, durable=True) as temporary:
        temporary.write_text("durable")
    assert calls[1:] == ["file", "replace", "directory"]


def test_what_a_killed_process_has_left_of_a_file_is_removed_when_the_file_is_written_next(path: Path) -> None:
    child = os.fork()
    if child == 0:
        with replacing(path) as temporary, replacing(path.with_name("other.npz")) as other:
            temporary.write_text("half")
            other.write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    elsewhere = path.with_name(f"{atomic.PREFIX}00000000-{child}-0123abcd-{path.name}")
    elsewhere.touch()  # of a process of the same number on another machine
    left = {name for name in names(path.parent) if name.endswith("other.npz")}
    with replacing(path) as temporary:
        temporary.write_text("first")
        with replacing(path) as second:
            second.write_text("second")  # two writers at once do not take each other's files
    assert path.read_text() == "first"
    assert {*names(path.parent)} == {path.name, elsewhere.name, *left}


@pytest.mark.parametrize("where", ["open", "write", "replace"])
def test_an_error_names_the_file_and_not_the_temporary_one(where: str, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "run.json" if where == "open" else tmp_path / "run.json"

    def write() -> None:
        with replacing(path) as temporary:
            if where == "write":
                raise OSError(errno.ENOSPC, "No space left on device")
            if where == "open":
                temporary.write_text("")

    with pytest.raises(OSError, match=r"'\S*/run\.json'") as caught:
        write()
    assert caught.value.filename == str(path)
