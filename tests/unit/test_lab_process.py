import os
import signal
import subprocess
import sys
import threading

import pytest

from reconciler.errors import ExitCode, Overdue, XdplbError
from reconciler.lab import namespaces, process
from reconciler.lab.controller import PlanReport, find_program
from reconciler.lab.phase import RingMove
from reconciler.lab.waiting import wait_until


def start(code):
    return process.start([sys.executable, "-c", code], stdout=subprocess.PIPE)


def test_waiting_ends_when_the_condition_holds():
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "the third")


def test_waiting_in_vain_says_for_what():
    with pytest.raises(Overdue, match=r"waited 0 s in vain: rain") as error:
        wait_until(lambda: False, "rain", timeout_s=0)
    assert error.value.exit_code is ExitCode.TIMEOUT


def test_the_first_line_is_awaited():
    running = start("print('ready', flush=True); import time; time.sleep(60)")
    process.await_line(running, "ready")
    process.end([running])
    assert running.returncode == -signal.SIGTERM


def test_another_first_line_is_an_error():
    running = start("print('no')")
    with pytest.raises(XdplbError, match="said 'no'"):
        process.await_line(running, "ready")
    process.end([running])


def test_silence_is_an_error():
    running = start("import time; time.sleep(60)")
    with pytest.raises(Overdue, match="no word"):
        process.await_line(running, "ready", timeout_s=0.05)
    process.end([running])


def test_who_does_not_listen_is_killed_with_its_children():
    code = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    running = start(code)
    child = int(running.stdout.readline())
    process.end([running], grace_s=0.1)
    assert running.returncode == -signal.SIGKILL
    wait_until(lambda: not namespaces.is_running(child), "the child ends")


def test_termination_is_raised_and_the_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised, process.termination_raised():
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_disturbs_a_clean_up():
    with process.undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)


def test_another_thread_may_use_both():
    failed = []

    def work():
        try:
            with process.termination_raised(), process.undisturbed():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


def test_tags_of_dead_makers_are_stale_and_kept_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(namespaces, "DIRECTORY", tmp_path)
    dead = start("")
    dead.wait()
    mine = namespaces.make_tag(0, kept=False)
    names = (
        f"xdplb-{dead.pid}-0-client",
        f"xdplb-{dead.pid}-0-lb",
        f"xdplb-kept-{dead.pid}-1-lb",
        f"{mine}-client",
        "xdplb-other",
        "somebody",
    )
    for name in names:
        (tmp_path / name).touch()
    assert namespaces.list_tags(stale=True) == {f"xdplb-{dead.pid}-0"}
    assert namespaces.list_tags(kept=True) == {f"xdplb-kept-{dead.pid}-1"}
    assert namespaces.list_tags() == set()


def test_a_plan_is_read():
    document = {
        "in_sync": False,
        "changes": [{"address": "service.web.backend.web-2", "actions": ["update"], "reason": "x"}],
        "rings": [{"service": "web", "size": 65537, "slots_moved": 12, "slots_moved_min": 11}],
    }
    assert PlanReport.parse(document) == PlanReport(
        False,
        (("service.web.backend.web-2", "update"),),
        (RingMove("web", 65537, 12, 11),),
    )


def test_programs_are_found_beside_python_or_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    words = [str(tmp_path / "python"), "-m", "reconciler.cli.main", "run"]
    assert find_program("xdplb-reconcile", "run") == words
    (tmp_path / "xdplb-reconcile").touch()
    assert find_program("xdplb-reconcile", "run") == [str(tmp_path / "xdplb-reconcile")]
