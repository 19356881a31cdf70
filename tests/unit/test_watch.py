"""Noticing that a file may have changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.events import (
    DirMovedEvent,
    FileClosedEvent,
    FileClosedNoWriteEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileOpenedEvent,
    FileSystemEvent,
)

from reconciler import watch
from reconciler.watch import FileStamp, FileWatch, Sources, measure_age_s

DEADLINE_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "etc"
    made.mkdir()
    (made / "lb.yaml").write_text("one")
    return made


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def watching(folder: Path, woken: threading.Event) -> Iterator[FileWatch]:
    one = FileWatch(Sources(folder / "lb.yaml"), woken.set)
    yield one
    one.stop()


# --- stamps and ages ---


def read_stamp(path: Path) -> FileStamp:
    (stamp,) = Sources(path).read_stamp().values()
    return stamp


def test_a_stamp_is_of_the_file_that_the_path_leads_to(tmp_path: Path, folder: Path) -> None:
    path = folder / "lb.yaml"
    assert read_stamp(path) == read_stamp(path)
    assert read_stamp(tmp_path / "none") is None
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_stamp(link) == read_stamp(path)
    link.unlink()
    link.symlink_to("link")
    assert read_stamp(link) is None


@pytest.mark.parametrize("change", ["write", "rename", "same size and time", "remove"])
def test_a_stamp_changes_with_the_file(folder: Path, change: str) -> None:
    path = folder / "lb.yaml"
    before = read_stamp(path)
    if change == "write":
        path.write_text("longer")
    elif change == "remove":
        path.unlink()
    else:
        new = folder / "new"
        new.write_text("two")
        if change == "same size and time":
            times = path.stat()
            os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
        new.replace(path)
    assert read_stamp(path) != before


@pytest.mark.parametrize(
    ("written_s", "changed_s", "age_s"),
    [(100, 100, 5), (100, 103, 2), (103, 100, 2), (105, 105, 0), (106, 100, float("inf"))],
)
def test_an_age_is_that_of_the_last_change(
    monkeypatch: pytest.MonkeyPatch, written_s: int, changed_s: int, age_s: float
) -> None:
    monkeypatch.setattr(watch.time, "time", lambda: 105.0)
    assert measure_age_s({"a": (1, 2, 3, written_s * 10**9, changed_s * 10**9), "b": None}) == age_s


def test_what_is_not_there_is_old() -> None:
    assert measure_age_s({"a": None}) == float("inf")


def test_several_files_are_as_old_as_the_youngest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch.time, "time", lambda: 105.0)
    stamp = {str(s): (1, 2, 3, s * 10**9, s * 10**9) for s in (100, 104, 101)}
    assert measure_age_s(stamp) == 1


# --- several files ---


@pytest.fixture
def including(folder: Path) -> Sources:
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "web.yaml").write_text("one")
    patterns = (str(folder / "conf.d" / "*.yaml"), str(folder / "dns.yaml"))
    return Sources(folder / "lb.yaml", patterns)


def edit_included(folder: Path) -> None:
    (folder / "conf.d" / "web.yaml").write_text("longer")


def add_included(folder: Path) -> None:
    (folder / "conf.d" / "new.yaml").write_text("one")


def remove_included(folder: Path) -> None:
    (folder / "conf.d" / "web.yaml").unlink()


def rename_included(folder: Path) -> None:
    (folder / "conf.d" / "web.yaml").rename(folder / "conf.d" / "other.yaml")


def link_included(folder: Path) -> None:
    (folder / "conf.d" / "link.yaml").symlink_to("nowhere")


def replace_folder(folder: Path) -> None:
    (folder / "conf.d").rename(folder / "conf.old")
    (folder / "conf.d").mkdir()


def remove_folder(folder: Path) -> None:
    (folder / "conf.d").rename(folder / "conf.old")


def write_what_is_named(folder: Path) -> None:
    (folder / "dns.yaml").write_text("one")


def edit_the_file(folder: Path) -> None:
    (folder / "lb.yaml").write_text("longer")


@pytest.mark.parametrize(
    "edit",
    [
        edit_included,
        add_included,
        remove_included,
        rename_included,
        link_included,
        replace_folder,
        remove_folder,
        write_what_is_named,
        edit_the_file,
    ],
)
def test_the_stamp_of_several_files_changes_with_each(
    including: Sources, folder: Path, edit: Callable[[Path], None]
) -> None:
    before = including.read_stamp()
    assert including.read_stamp() == before
    edit(folder)
    assert including.read_stamp() != before


def test_what_no_pattern_names_changes_no_file(including: Sources, folder: Path) -> None:
    before = including.list_files()
    for name in ("conf.d/.web.yaml.swp", "conf.d/web.yaml~", "other.yaml"):
        (folder / name).write_text("one")
    assert including.list_files() == before
    assert {path.name for path in before} == {"lb.yaml", "web.yaml", "dns.yaml"}


def test_who_takes_a_file_away_is_waited_for(including: Sources, folder: Path) -> None:
    """As git does: it takes a changed file away and writes it anew."""
    remove_included(folder)
    place = str(folder / "conf.d")
    assert measure_age_s({place: including.read_stamp()[place]}) < DEADLINE_S


def test_no_event_ends_a_change_of_several_files(including: Sources, folder: Path) -> None:
    one = FileWatch(including, threading.Event().set)
    one.on_any_event(FileClosedEvent(str(folder / "lb.yaml")))
    assert not one.take_complete()


@pytest.mark.parametrize("edit", [edit_included, add_included, remove_included])
def test_an_edit_of_an_included_file_wakes(
    including: Sources, folder: Path, woken: threading.Event, edit: Callable[[Path], None]
) -> None:
    one = FileWatch(including, woken.set)
    try:
        one.refresh()
        edit(folder)
        assert woken.wait(DEADLINE_S)
    finally:
        one.stop()


def test_the_target_of_an_included_link_is_watched(
    including: Sources, tmp_path: Path, folder: Path, woken: threading.Event
) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    target.write_text("one")
    (folder / "conf.d" / "link.yaml").symlink_to(target)
    (folder / "conf.d" / "loop.yaml").symlink_to("loop.yaml")
    one = FileWatch(including, woken.set)
    try:
        one.refresh()
        target.write_text("two")
        assert woken.wait(DEADLINE_S)
    finally:
        one.stop()


# --- events ---


@pytest.mark.parametrize(
    ("event", "is_complete", "wakes"),
    [
        (FileClosedEvent("/etc/lb.yaml"), True, True),
        (FileClosedEvent("/etc/other.yaml"), False, True),
        (FileMovedEvent("/etc/.lb.yaml.new", "/etc/lb.yaml"), True, True),
        (FileMovedEvent("/etc/lb.yaml", "/etc/lb.yaml~"), False, True),
        (DirMovedEvent("/etc/..tmp", "/etc/..data"), False, True),
        (FileModifiedEvent("/etc/lb.yaml"), False, True),
        (FileCreatedEvent("/etc/lb.yaml"), False, True),
        (FileClosedEvent(b"/etc/lb.yaml"), True, True),
        (FileOpenedEvent("/etc/lb.yaml"), False, False),  # we ourselves read it
        (FileClosedNoWriteEvent("/etc/lb.yaml"), False, False),
    ],
    ids=repr,
)
def test_what_an_event_says(
    woken: threading.Event, event: FileSystemEvent, is_complete: bool, wakes: bool
) -> None:
    one = FileWatch(Sources(Path("/etc/lb.yaml")), woken.set)
    one.on_any_event(event)
    assert woken.is_set() == wakes
    assert one.take_complete() == is_complete
    assert not one.take_complete()  # taken


def test_the_target_of_a_link_may_have_another_name(
    tmp_path: Path, folder: Path, woken: threading.Event
) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(folder / "lb.yaml")
    one = FileWatch(Sources(link), woken.set)
    one.on_any_event(FileClosedEvent(str(folder / "lb.yaml")))
    assert one.take_complete()


# --- folders ---


def wait_for_complete(one: FileWatch, woken: threading.Event) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        woken.wait(max(deadline - time.monotonic(), 0))
        woken.clear()
        if one.take_complete():
            return True
    return False


def test_a_write_wakes(watching: FileWatch, folder: Path, woken: threading.Event) -> None:
    watching.refresh()
    (folder / "lb.yaml").write_text("two")
    assert wait_for_complete(watching, woken)


def test_a_folder_that_was_replaced_is_watched_after_a_refresh(
    watching: FileWatch, folder: Path, woken: threading.Event
) -> None:
    watching.refresh()
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    watching.refresh()
    (folder / "lb.yaml").write_text("two")
    assert wait_for_complete(watching, woken)


def test_a_link_that_was_turned_is_followed_after_a_refresh(
    tmp_path: Path, folder: Path, woken: threading.Event
) -> None:
    """As Kubernetes mounts a ConfigMap: lb.yaml -> ..data/lb.yaml, ..data -> a folder."""
    second = tmp_path / "second"
    second.mkdir()
    (second / "lb.yaml").write_text("two")
    data = tmp_path / "..data"
    data.symlink_to(folder)
    (tmp_path / "lb.yaml").symlink_to(data / "lb.yaml")
    one = FileWatch(Sources(tmp_path / "lb.yaml"), woken.set)
    try:
        one.refresh()
        turned = tmp_path / "..new"
        turned.symlink_to(second)
        turned.replace(data)
        one.refresh()
        (second / "lb.yaml").write_text("three")
        assert wait_for_complete(one, woken)
    finally:
        one.stop()


def test_a_refresh_of_what_is_watched_starts_no_other_watch(watching: FileWatch) -> None:
    watching.refresh()
    threads = set(threading.enumerate())
    watching.refresh()
    assert set(threading.enumerate()) == threads


def test_without_watches_the_poll_remains(
    watching: FileWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoObserver:
        def schedule(self, *_arguments: object) -> None:
            raise OSError("no space left on device")  # fs.inotify.max_user_watches

    monkeypatch.setattr(watch, "Observer", NoObserver)
    watching.refresh()
    assert not watching.take_complete()


def test_a_folder_that_is_not_there_yet(tmp_path: Path, woken: threading.Event) -> None:
    one = FileWatch(Sources(tmp_path / "none" / "lb.yaml"), woken.set)
    one.refresh()
    (tmp_path / "none").mkdir()
    try:
        one.refresh()
        (tmp_path / "none" / "lb.yaml").write_text("one")
        assert wait_for_complete(one, woken)
    finally:
        one.stop()


def test_stopping_twice_is_stopping(watching: FileWatch) -> None:
    watching.refresh()
    watching.stop()
    watching.stop()
