"""What examples/ shows for pipelines does what it says, as far as one can tell without them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reconciler.lab.process import python_environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OLD = """\
interface: eth0
port: 8080
backends:
  - 10.0.0.11
  - 10.0.0.12
  - 10.0.0.13
  - 10.0.0.14
"""
NEW = OLD.replace("10.0.0.13\n", "{address: 10.0.0.13, weight: 50}\n")
INVALID = OLD.replace("port: 8080", "prot: 8080")
TOO_MUCH = OLD.replace("  - 10.0.0.13\n  - 10.0.0.14\n", "")


class Repository:
    """A git repository with a commit on main and one on a branch."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "checkout"
        self.path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (self.path / "README").write_text("a repository\n", encoding="utf-8")
        self.commit()

    def git(self, *words):
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        done = self.run(["git", *who, *words])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, text=None):
        if text is not None:
            (self.path / "lb.yaml").write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def run(self, command, **variables):
        environment = python_environment() | variables
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        return subprocess.run(
            command,
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


# --- the workflow ---


def read_workflow():
    return yaml.safe_load((EXAMPLES / "github-workflow.yaml").read_text(encoding="utf-8"))


def run_workflow(repository, base):
    """Run the job's own steps as a runner does, up to the first that fails; how each ended."""
    workflow = read_workflow()
    expressions = {"github.event.pull_request.base.sha": base}
    variables = {
        key: re.sub(r"\$\{\{ (.+?) \}\}", lambda match: expressions[match[1]], value)
        for key, value in workflow["env"].items()
    }
    runner = repository.folder / "runner"
    runner.mkdir()
    variables |= {"RUNNER_TEMP": str(runner), "GITHUB_STEP_SUMMARY": str(runner / "summary.md")}
    ended = {}
    for step in workflow["jobs"]["plan"]["steps"]:
        if "run" in step and step["name"] != "Install":
            # As runners do: https://docs.github.com/actions, "shell".
            done = repository.run(["bash", "-e", "-c", step["run"]], **variables)
            ended[step["name"]] = done
            if done.returncode != 0:
                break
    return ended


def test_the_workflow_installs_what_it_runs():
    steps = read_workflow()["jobs"]["plan"]["steps"]
    names = [step.get("name", step.get("uses")) for step in steps]
    assert names[:4] == ["actions/checkout@v4", "Install", "Validate", "Plan"]
    # YAML 1.1 reads the key 'on' as true.
    assert read_workflow()[True]["pull_request"]["paths"] == ["lb.yaml", "conf.d/**"]


def test_a_pull_request_shows_what_it_will_cost(repository):
    base = repository.commit(OLD)
    repository.commit(NEW)
    ended = run_workflow(repository, base)
    assert ended["Validate"].stdout == ""
    assert ended["Plan"].returncode == 0, ended["Plan"].stderr
    annotations = ended["Plan"].stdout.splitlines()
    assert annotations[0].startswith("::notice title=plan::ring of default: moves ")
    assert annotations[1].startswith("::notice file=lb.yaml,line=6,col=5,title=plan::~ service.")
    summary = (repository.folder / "runner" / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("```\nlb.yaml against ")
    assert "\nplan: 0 to add, 1 to change, 0 to remove, 0 drifted\n```\n" in summary
    document = json.loads((repository.path / "plan.json").read_text(encoding="utf-8"))
    assert document["summary"]["change"] == 1


INCLUDING = "interface: eth0\ninclude: [conf.d/*.yaml]\n"
INCLUDED = "services:\n  - {name: web, vip: 192.0.2.1, port: 80, backends: [10.0.0.1, 10.0.0.2]}\n"
FEWER = INCLUDED.replace(", 10.0.0.2", "")


def commit_included(repository, text):
    (repository.path / "conf.d").mkdir(exist_ok=True)
    (repository.path / "conf.d" / "web.yaml").write_text(text, encoding="utf-8")
    return repository.commit(INCLUDING)


def test_a_pull_request_to_an_included_file_is_compared_with_what_was_included(repository):
    base = commit_included(repository, INCLUDED)
    commit_included(repository, FEWER)
    ended = run_workflow(repository, base)
    assert "- service.web.backend.10.0.0.2:80" in ended["Plan"].stdout


def test_a_pull_request_that_would_be_refused_says_so(repository):
    base = repository.commit(OLD)
    repository.commit(TOO_MUCH)
    ended = run_workflow(repository, base)
    assert "::error title=XLB601::service default: removes 2 of 4" in ended["Plan"].stdout


def test_an_invalid_file_fails_the_job_beside_its_line(repository):
    base = repository.commit(OLD)
    repository.commit(INVALID)
    ended = run_workflow(repository, base)
    assert list(ended) == ["Validate"]
    assert ended["Validate"].returncode == 78
    assert ended["Validate"].stdout.startswith("::error file=lb.yaml,line=2,col=1,title=XLB201::")


def test_a_new_file_has_nothing_to_be_compared_with(repository):
    base = repository.git("rev-parse", "HEAD")
    repository.commit(NEW)
    ended = run_workflow(repository, base)
    assert [done.returncode for done in ended.values()] == [0, 0]
    assert ended["Plan"].stdout == ""


# --- the hooks ---


def read_hooks():
    (repository,) = yaml.safe_load((EXAMPLES / "pre-commit-config.yaml").read_text("utf-8"))[
        "repos"
    ]
    return {hook["id"]: hook for hook in repository["hooks"]}


def run_hook(repository, hook):
    """Run a hook as pre-commit does: with the files that it is for."""
    files = repository.git("ls-files").splitlines()
    chosen = [name for name in files if re.search(hook.get("files", ""), name)]
    words = [*shlex.split(hook["entry"]), *(chosen if hook.get("pass_filenames", True) else ())]
    return repository.run(words)


def test_this_repository_offers_the_hook_that_the_example_shows():
    (offered,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    shown = read_hooks()["xdplb-validate"]
    assert {key: offered[key] for key in shown} == shown


def test_the_hook_lets_a_valid_file_pass(repository):
    repository.commit(NEW)
    done = run_hook(repository, read_hooks()["xdplb-validate"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hook_stops_an_invalid_file(repository):
    repository.commit(INVALID)
    done = run_hook(repository, read_hooks()["xdplb-validate"])
    assert done.returncode == 78
    assert "lb.yaml:2:1: error[XLB201]" in done.stderr


def test_the_hook_shows_what_a_commit_changes(repository):
    repository.commit(OLD)
    (repository.path / "lb.yaml").write_text(NEW, encoding="utf-8")
    done = run_hook(repository, read_hooks()["xdplb-plan"])
    assert done.returncode == 0, done.stderr
    assert re.match("lb.yaml against /.*/lb.yaml:\n", done.stdout)


def test_the_hooks_follow_included_files(repository):
    commit_included(repository, INCLUDED)
    (repository.path / "conf.d" / "web.yaml").write_text(FEWER, encoding="utf-8")
    done = run_hook(repository, read_hooks()["xdplb-plan"])
    assert "- service.web.backend.10.0.0.2:80" in done.stdout, done.stderr
    (repository.path / "conf.d" / "web.yaml").write_text("services: 1\n", encoding="utf-8")
    hook = read_hooks()["xdplb-validate-included"]
    assert re.search(hook["files"], "conf.d/web.yaml")
    done = run_hook(repository, hook)
    assert done.returncode == 78
    assert "conf.d/web.yaml:1:11: error" in done.stderr
