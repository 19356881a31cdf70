"""Files that `include` names: which they are, and what a hostile directory can't do."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.config import codes
from reconciler.config.text import MAX_BYTES
from reconciler.config.yaml12 import MAX_NODES
from reconciler.config_file import FileReader, Files, load, read_files
from reconciler.included_files import MAX_FILES, find_files

WEB = "services:\n  - {name: web, vip: 192.0.2.1, port: 80, backends: [10.0.0.1]}\n"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.d").mkdir()
    return tmp_path / "conf.d"


def read(*entries: str) -> Files:
    listed = ", ".join(f'"{entry}"' for entry in entries)
    Path("lb.yaml").write_text(f"interface: eth0\ninclude: [{listed}]\n")
    return read_files("lb.yaml")


def find_problems(files: Files) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in files.parse().diagnostics if d.is_error]


def service(name: str) -> str:
    return WEB.replace("web", name).replace("192.0.2.1", f"192.0.2.{len(name)}")


# --- which files ---


def test_files_are_found_beside_the_file_and_sorted_by_name(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["b.yaml", "a.yaml", "Z.yaml", "10.yaml", "9.yaml"]
    for name in [*names, ".hidden.yaml", "a.yaml~", "a.yml", ".a.yaml.swp"]:
        (conf / name).write_text(WEB)
    assert [d.path for d in read("conf.d/*.yaml").included] == [
        f"conf.d/{name}" for name in sorted(names)
    ]
    monkeypatch.chdir("/")
    files = read_files(str(tmp_path / "lb.yaml"))
    assert [d.path for d in files.included] == [str(conf / name) for name in sorted(names)]
    assert files.patterns == (str(conf / "*.yaml"),)
    assert set(files.texts) == {str(tmp_path / "lb.yaml"), *(d.path for d in files.included)}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["a1", "a2", "b1"]),
        ("a?", ["a1", "a2"]),
        ("[ab]1", ["a1", "b1"]),
        ("[!a]*", ["b1"]),
        ("**", ["a1", "a2", "b1"]),
        (".*", [".a1"]),
        ("c*", []),
        ("c1", ["c1"]),
    ],
)
def test_wildcards(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("a1", "a2", "b1", ".a1"):
        (tmp_path / name).touch()
    assert find_files(str(tmp_path / pattern)) == [str(tmp_path / name) for name in names]


def test_entries_keep_their_order_and_each_file_is_read_once(conf: Path) -> None:
    (conf / "a.yaml").write_text(service("a"))
    (conf / "b.yaml").write_text(service("bb"))
    files = read("conf.d/b.yaml", "conf.d/*.yaml", "conf.d/../conf.d/a.yaml")
    assert [d.path for d in files.included] == ["conf.d/b.yaml", "conf.d/a.yaml"]
    config = files.parse().config
    assert config is not None
    assert len(config.services) == 2


def test_the_digest_is_what_sha256sum_says(conf: Path) -> None:
    for name in ("a", "bb"):
        (conf / f"{name}.yaml").write_text(service(name))
    files = read("conf.d/*.yaml")
    command = "sha256sum lb.yaml conf.d/*.yaml | cut -c -64 | sha256sum | cut -c -64"
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert files.sha256 == said.strip()
    config = files.parse().config
    assert config is not None
    assert config.sha256 == files.sha256


def test_a_pattern_may_match_nothing(conf: Path) -> None:
    files = read("conf.d/*.yaml")
    assert (files.included, files.patterns) == ((), ("conf.d/*.yaml",))
    assert [code for code, _ in find_problems(files)] == [codes.TOO_FEW]
    text = f"interface: eth0\ninclude: [conf.d/*.yaml]\n{WEB}"
    Path("lb.yaml").write_text(text)
    assert read_files("lb.yaml").parse().config is not None


# --- what is not there, and what is no file ---


def make_folder(conf: Path) -> None:
    (conf / "x.yaml").mkdir()


def make_fifo(conf: Path) -> None:
    os.mkfifo(conf / "x.yaml")


def make_dangling(conf: Path) -> None:
    (conf / "x.yaml").symlink_to("nowhere")


def make_loop(conf: Path) -> None:
    (conf / "x.yaml").symlink_to("x.yaml")


def make_device(conf: Path) -> None:
    (conf / "x.yaml").symlink_to("/dev/zero")


def make_nothing(conf: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_folder, "conf.d/x.yaml is a directory"),
        (make_fifo, "conf.d/x.yaml is not a regular file"),
        (make_dangling, "conf.d/x.yaml is a link that leads nowhere"),
        (make_loop, "conf.d/x.yaml can't be read: Too many levels of symbolic links"),
        (make_device, "conf.d/x.yaml is not a regular file"),
        (make_nothing, "there is no file conf.d/x.yaml"),
    ],
)
def test_what_can_not_be_read_is_said_at_its_entry(conf: Path, make: object, words: str) -> None:
    make(conf)  # type: ignore[operator]
    patterns = ["conf.d/x.yaml"] if make is make_nothing else ["conf.d/x.yaml", "conf.d/*.yaml"]
    for pattern in patterns:
        files = read(pattern)
        (problem,) = files.parse().diagnostics
        assert (problem.code, problem.message) == (codes.INCLUDE, words)
        assert str(problem.source) == "lb.yaml:2:11"
        assert files.sha256 != read("conf.d/nothing*").sha256


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("lb.yaml/*.yaml", "lb.yaml can't be listed: Not a directory"),
        ("*/x.yaml", "'*/x.yaml' has a wildcard in a directory's name"),
        ("**/*.yaml", "'**/*.yaml' has a wildcard in a directory's name"),
        ("conf.d/", "'conf.d/' is a directory"),
        ("conf.d", "conf.d is a directory"),
        ("*.yaml", "'*.yaml' names this file itself"),
        ("./lb.yaml", "'./lb.yaml' names this file itself"),
        ("x" * 300, f"{'x' * 300} can't be read: File name too long"),
    ],
)
def test_entries_that_lead_nowhere(conf: Path, entry: str, words: str) -> None:
    assert find_problems(read(entry)) == [(codes.INCLUDE, words)]


def test_a_directory_that_is_not_there_holds_no_file_and_that_is_told(conf: Path) -> None:
    text = f"interface: eth0\ninclude: [none.d/*.yaml]\n{WEB}"
    Path("lb.yaml").write_text(text)
    files = read_files("lb.yaml")
    parsed = files.parse()
    assert parsed.config is not None
    assert files.sha256 == parsed.config.sha256 == hashlib.sha256(text.encode()).hexdigest()
    (told,) = parsed.diagnostics
    assert (told.code, told.severity) == (codes.NO_DIRECTORY, "warning")
    assert told.message == "there is no directory none.d: nothing is included from it"
    assert str(told.source) == "lb.yaml:2:11"


def test_who_follows_a_file_misses_a_directory_that_was_there(conf: Path) -> None:
    (conf / "a.yaml").write_text(WEB)
    Path("lb.yaml").write_text("interface: eth0\ninclude: [conf.d/*.yaml, none.d/*]\n")
    reader = FileReader("lb.yaml", load("lb.yaml"))
    assert [one.code for one in reader.read().parse().diagnostics] == [codes.NO_DIRECTORY]
    conf.rename("elsewhere")
    files = reader.read()
    assert files.sha256 == read_files("lb.yaml").sha256
    found = {(one.code, one.message) for one in files.parse().diagnostics}
    assert (codes.INCLUDE, "there is no directory conf.d") in found


def test_what_standard_input_includes_lies_here(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (conf / "a.yaml").write_text(WEB)
    text = b"interface: eth0\ninclude: [conf.d/*.yaml]\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    parsed = read_files("-").parse()
    assert parsed.config is not None
    assert [service.name for service in parsed.config.services] == ["web"]


def test_a_wildcard_may_stand_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "[edge]"
    folder.mkdir()
    (folder / "web.yaml").write_text(WEB)
    (folder / "lb.yaml").write_text("interface: eth0\ninclude: [w*.yaml]\n")
    monkeypatch.chdir(tmp_path)
    assert read_files("[edge]/lb.yaml").parse().config is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(conf: Path) -> None:
    (conf / "x.yaml").touch(mode=0)
    assert find_problems(read("conf.d/*.yaml")) == [
        (codes.INCLUDE, "conf.d/x.yaml can't be read: Permission denied")
    ]


# --- bounds ---


def test_more_files_than_there_may_be(conf: Path) -> None:
    for number in range(MAX_FILES + 1):
        (conf / f"{number}.yaml").write_text("services: []\n")
    files = read("conf.d/*.yaml")
    assert len(files.included) == 1  # the refusal itself: none was read
    assert find_problems(files) == [(codes.TOO_LARGE, f"more than {MAX_FILES} files")]


def test_all_files_together_are_no_larger_than_one_may_be(conf: Path) -> None:
    for name in ("a", "b"):
        (conf / f"{name}.yaml").write_text(f"services:\n{'#' * (MAX_BYTES // 2)}\n")
    found = find_problems(read("conf.d/*.yaml"))
    assert (codes.TOO_LARGE, "the files together are larger than 4 MiB") in found


def test_all_files_together_hold_no_more_values_than_one_may(conf: Path) -> None:
    for name in ("a", "b"):
        (conf / f"{name}.yaml").write_text("services: [" + "1," * (MAX_NODES // 2) + "]\n")
    first, second = read("conf.d/*.yaml").included
    assert first.problems == []
    assert [(d.code, d.message) for d in second.problems] == [
        (codes.TOO_LARGE, f"the files together hold more than {MAX_NODES} values")
    ]


def test_who_was_given_up_leaves_no_room_for_others(conf: Path) -> None:
    for name in ("a", "b"):
        (conf / f"{name}.yaml").write_text("services: [" + "1," * MAX_NODES + "]\n")
    (conf / "c.yaml").write_text(WEB)
    assert [d.root for d in read("conf.d/*.yaml").included] == [None] * 3
