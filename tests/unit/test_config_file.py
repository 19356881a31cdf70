import hashlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.cli.main import run
from reconciler.config import ConfigInvalid
from reconciler.config_file import default_config_path, load, read_config, read_files
from reconciler.errors import ExitCode, NoInput

SHORT = b"interface: eth0\nport: 8080\nbackends: [10.0.0.11]\n"


class FakeInput:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def test_file_is_loaded(tmp_path):
    path = tmp_path / "lb.yaml"
    path.write_bytes(SHORT)
    loaded = load(str(path))
    assert loaded.config.sha256 == hashlib.sha256(SHORT).hexdigest()
    assert loaded.config.path == str(path)
    assert loaded.warnings == ()
    assert loaded.texts == {str(path): SHORT.decode()}


def test_standard_input_is_loaded(monkeypatch):
    monkeypatch.setattr(sys, "stdin", FakeInput(SHORT))
    assert load("-").config.path == "<stdin>"


def test_warnings_come_with_the_configuration(tmp_path):
    path = tmp_path / "lb.yaml"
    path.write_bytes(SHORT.replace(b"10.0.0.11", b"127.0.0.1"))
    assert [d.severity for d in load(str(path)).warnings] == ["warning"]


def test_invalid_file_raises_with_all_it_needs_to_be_shown(tmp_path):
    path = tmp_path / "lb.yaml"
    path.write_bytes(b"prot: 80\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(str(path))
    assert caught.value.exit_code is ExitCode.CONFIG
    assert "1 | prot: 80" in caught.value.render()


def test_missing_file(tmp_path):
    with pytest.raises(NoInput) as caught:
        read_config(str(tmp_path / "lb.yaml"))
    assert caught.value.exit_code is ExitCode.NOINPUT
    assert caught.value.remedy


@pytest.mark.skipif(os.path.exists("/etc/xdplb/lb.yaml"), reason="this machine has one")
def test_all_places_are_named_where_none_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    with pytest.raises(NoInput, match=r"^there is no file /etc/xdplb/lb\.yaml, nor lb\.yaml here;"):
        load(default_config_path())


@pytest.mark.parametrize("path", [".", "/dev/null/x", "a\0b"])
def test_path_that_is_no_file(path):
    with pytest.raises(NoInput) as caught:
        read_config(path)
    assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "lb.yaml"
    path.touch(mode=0)
    with pytest.raises(NoInput, match="may not be read"):
        read_config(str(path))


def test_device_without_end_is_refused():
    with pytest.raises(ConfigInvalid, match="not valid"):
        load("/dev/zero")


# --- pipes ---


@pytest.fixture
def pipe(tmp_path):
    """A named pipe to which nobody writes."""
    path = tmp_path / "lb.yaml"
    os.mkfifo(path)
    return str(path)


@pytest.mark.parametrize("takes_pipe", [True, False])
def test_nobody_waits_for_a_writer(pipe, takes_pipe):
    with pytest.raises(NoInput, match=r"pipe|regular"):
        read_config(pipe, takes_pipe=takes_pipe)


@pytest.mark.parametrize(
    "words",
    [
        "validate lb.yaml",
        "plan lb.yaml --against lb.yaml",
        "run -c lb.yaml",
        "run --once -c lb.yaml",
        "apply --yes lb.yaml",
        "export -c lb.yaml",
    ],
)
def test_no_command_waits_for_a_writer(pipe, words, monkeypatch, capsys):
    monkeypatch.chdir(os.path.dirname(pipe))
    monkeypatch.setattr("reconciler.cli.run.start_log", lambda **_flags: None)
    assert run(words.split()) == ExitCode.NOINPUT
    assert "lb.yaml is " in capsys.readouterr().err


def test_a_pipe_with_a_writer_is_read_once():
    reader, writer = os.pipe()
    os.write(writer, SHORT)
    os.close(writer)
    try:
        assert load(f"/dev/fd/{reader}").config.sha256 == hashlib.sha256(SHORT).hexdigest()
    finally:
        os.close(reader)


def test_a_slow_writer_is_waited_for():
    reader, writer = os.pipe()
    with ThreadPoolExecutor() as pool:
        try:
            config = pool.submit(load, f"/dev/fd/{reader}")
            for byte in SHORT:
                os.write(writer, bytes([byte]))
        finally:
            os.close(writer)
        assert config.result(timeout=10).config.path == f"/dev/fd/{reader}"
    os.close(reader)


def test_who_follows_a_file_takes_no_pipe():
    reader, writer = os.pipe()
    os.write(writer, SHORT)
    try:
        with pytest.raises(NoInput, match="not a regular file"):
            read_files(f"/dev/fd/{reader}")
    finally:
        os.close(writer)
        os.close(reader)


def test_default_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPLB_CONFIG", raising=False)
    assert default_config_path() == "/etc/xdplb/lb.yaml"
    (tmp_path / "lb.yaml").touch()
    assert default_config_path() == "lb.yaml"
    monkeypatch.setenv("XDPLB_CONFIG", "/srv/lb.yaml")
    assert default_config_path() == "/srv/lb.yaml"
