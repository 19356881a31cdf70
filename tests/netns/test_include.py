"""The controller follows every file that its file includes."""

import shutil

import pytest

from reconciler.lab import Lab, Topology, wait_until

pytestmark = pytest.mark.root

MAIN = (
    "interface: eth0\nlimits: {ring_slots: 4096, flows: 65536}\n"
    "include: [conf.d/*.yaml]\nreconcile: {resync: 1h}\n"
)


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=1, backends=2)) as made:
        yield made


def write_services(*names, port=8080):
    listed = (
        f"  - {{name: {name}, vip: 192.0.2.{100 + ord(name[0])}, port: {port}, ring_size: 251,"
        f" backends: [10.0.0.11]}}\n"
        for name in names
    )
    return "services:\n" + "".join(listed)


def await_services(xdplb, *names, port=8080):
    def have_arrived():
        tables = xdplb.tables()
        ports = {endpoint.port for endpoint in tables.services} - {0}
        return {info.name for info in tables.service_info.values()} == set(names) and ports <= {
            port
        }

    wait_until(have_arrived, f"the services are {', '.join(names)}")


@pytest.fixture
def conf(xdplb):
    folder = xdplb.folder / "conf.d"
    folder.mkdir()
    (folder / "a.yaml").write_text(write_services("a"), encoding="utf-8")
    xdplb.start(MAIN)
    return folder


def test_files_that_come_change_and_go(xdplb, conf):
    await_services(xdplb, "a")
    (conf / "b.yaml").write_text(write_services("b"), encoding="utf-8")
    await_services(xdplb, "a", "b")
    (conf / "b.new").write_text(write_services("c"), encoding="utf-8")
    (conf / "b.new").replace(conf / "b.yaml")
    await_services(xdplb, "a", "c")
    (conf / "a.yaml").unlink()
    await_services(xdplb, "c")
    assert xdplb.plan()["in_sync"]


def test_a_directory_that_is_a_link_to_a_checkout(xdplb):
    """As git-sync and Kubernetes do it: all files change in one step."""
    for number, names in enumerate(("ab", "bc", "c")):
        checkout = xdplb.folder / f"rev-{number}"
        checkout.mkdir()
        for name in names:
            (checkout / f"{name}.yaml").write_text(write_services(name), encoding="utf-8")
    link = xdplb.folder / "conf.d"
    link.symlink_to("rev-0")
    xdplb.start(MAIN)
    await_services(xdplb, "a", "b")
    for number, names in ((1, "bc"), (2, "c")):
        new = xdplb.folder / "conf.new"
        new.symlink_to(f"rev-{number}")
        new.replace(link)
        await_services(xdplb, *names)


def test_a_rewritten_checkout_takes_no_service_away(xdplb, conf):
    """git takes a file away before it writes it anew: who looks in between must wait."""
    dataplane = xdplb.dataplane()
    (conf / "b.yaml").write_text(write_services("b"), encoding="utf-8")
    await_services(xdplb, "a", "b")
    before = {info.name: number for number, info in dataplane.read().service_info.items()}
    for name in "ab":
        (conf / f"{name}.yaml").unlink()
    for name in "ab":
        (conf / f"{name}.yaml").write_text(write_services(name, port=9090), encoding="utf-8")
    await_services(xdplb, "a", "b", port=9090)
    tables = dataplane.read()
    assert {info.name: number for number, info in tables.service_info.items()} == before
    assert tables.generation == 3


def test_a_directory_that_is_gone_keeps_the_last_good_state(xdplb, conf):
    before = xdplb.tables()
    shutil.move(conf, conf.with_name("elsewhere"))
    wait_until(
        lambda: xdplb.account()["last_attempt"]["result"] == "rejected", "the file is rejected"
    )
    assert xdplb.tables() == before
    shutil.move(conf.with_name("elsewhere"), conf)
    wait_until(lambda: xdplb.account()["last_attempt"]["result"] == "in_sync", "it is good again")
    assert xdplb.tables() == before


def test_a_directory_that_comes_is_followed(xdplb):
    xdplb.start(MAIN + write_services("m"))
    await_services(xdplb, "m")
    folder = xdplb.folder / "conf.d"
    folder.mkdir()
    (folder / "a.yaml").write_text(write_services("a"), encoding="utf-8")
    await_services(xdplb, "a", "m")
