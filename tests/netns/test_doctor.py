"""doctor on a machine where one thing at a time is wrong: found, and mended by its command."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from reconciler.dataplane.libbpf import XDP_FLAGS_SKB_MODE, Libbpf
from reconciler.lab import Lab, Topology, wait_until
from reconciler.lab.ask import fetch
from reconciler.lab.process import python_environment

pytestmark = pytest.mark.root

NAT = "interface: [eth0, eth1]\nport: 8080\nbackends: [10.0.0.11, 10.0.0.12, 10.0.0.13]\n"
DIRECT = """
interface: [eth0, eth1]
vip: 192.0.2.1
port: 8080
forwarding: {}
backends: [10.0.0.11, 10.0.0.12, 10.0.0.13]
"""
IPIP = DIRECT.format("ipip")

FORWARDING, NO_REDIRECT = "XLB501", "XLB503"
PRIVILEGES, LASTING_PINS = "XLB510", "XLB516"
INTERFACE, CARRIER, OTHER_PROGRAM, CHECKSUMS, REVERSE_PATH = (
    "XLB520",
    "XLB521",
    "XLB522",
    "XLB527",
    "XLB528",
)
ROUTE, NEIGHBOUR, EGRESS, ROUTER, MTU, SOURCE, OWN_BACKEND, ANSWER, OUT, WAY_BACK = (
    f"XLB53{n}" for n in range(10)
)
VIP, SOCKET = "XLB540", "XLB541"
FILE, CONTROLLER, RELOAD, IN_SYNC, FLOWS = (f"XLB55{n}" for n in range(5))


class Patient:
    """A balancer, and the doctor on it."""

    def __init__(self, lab, xdplb):
        self.lab = lab
        self.xdplb = xdplb

    def write(self, text):
        self.xdplb.config.write_text(text, encoding="utf-8")

    def run(self, *words, under=()):
        """The doctor, which is ended when it hangs."""
        guard = ("timeout", "--kill-after=1", "20")
        config = ("-c", self.xdplb.config)
        return self.xdplb.run("doctor", *config, *words, under=(*guard, *under))

    def examine(self, ends=None, under=()):
        """Everything found; `ends` is what the command must end with."""
        done = self.run("--json", under=under)
        assert done.returncode in (0, 69, 77, 78), done.stderr
        assert ends is None or done.returncode == ends, done.stdout
        return json.loads(done.stdout)["findings"]

    def find(self, code, subject=None, **expected):
        """The one finding of this code, about this subject, that is not well."""
        findings = self.examine(**expected)
        found = [f for f in findings if f["code"] == code and f["severity"] != "ok"]
        (one,) = [f for f in found if subject in (None, f["subject"])]
        return one

    def is_well(self, code):
        """Whether this was looked at, and all is well with it."""
        severities = [f["severity"] for f in self.examine() if f["code"] == code]
        return bool(severities) and set(severities) == {"ok"}

    def shell(self, *commands):
        """Run commands on the balancer, as they would be copied into a shell."""
        path = f"export PATH={Path(sys.executable).parent}:$PATH\n"
        for command in commands:
            self.lab.balancer.run(["sh", "-c", path + command], environment=python_environment())


@pytest.fixture(scope="module")
def lab():
    with Lab(Topology(arms=2, backends=3)) as made:
        made.serve()
        for host in (made.client, made.switch):  # a namespace is found by who is in it
            host.popen(["sleep", "infinity"])
        yield made


@pytest.fixture
def patient(lab, xdplb):
    one = Patient(lab, xdplb)
    one.write(NAT)
    return one


def test_all_is_well(patient):
    """What only a controller and packets can prove is missing, nothing else."""
    faults = {f["code"]: f["severity"] for f in patient.examine(ends=0) if f["severity"] != "ok"}
    assert faults == {CONTROLLER: "note", WAY_BACK: "note"}


# --- one thing at a time ---

BLACKHOLE = "ip route add blackhole 10.0.0.12"
BREAKAGES = {
    "forwarding": (
        NAT,
        ("sysctl -w net.ipv4.conf.eth0.forwarding=0",),
        (FORWARDING, "eth0", "error"),
        (),
    ),
    "interface down": (
        NAT,
        ("ip link set dev eth0 down",),
        (CARRIER, "eth0", "error"),
        (),
    ),
    "no route": (
        NAT,
        ("ip route del 10.0.0.0/24 dev eth1",),
        (ROUTE, "default", "error"),
        ("ip route replace 10.0.0.0/24 dev eth1 proto kernel scope link src 10.0.0.1",),
    ),
    "a route that refuses": (
        NAT,
        (BLACKHOLE,),
        (ROUTE, "default", "error"),
        ("ip route del 10.0.0.12",),
    ),
    "narrow device": (
        IPIP,
        (),
        (MTU, "default", "warning"),
        ("ip link set dev eth1 mtu 1500",),
    ),
    "narrow route": (
        IPIP,
        (
            "ip link set dev eth1 mtu 1600",
            "ip route add 10.0.0.11 dev eth1 mtu 1400",
        ),
        (MTU, "default", "warning"),
        ("ip route del 10.0.0.11", "ip link set dev eth1 mtu 1500"),
    ),
    "rp_filter": (
        NAT,
        (
            "sysctl -w net.ipv4.conf.eth0.rp_filter=1",
            "ip route add default via 10.0.0.11",
        ),
        (REVERSE_PATH, "eth0", "warning"),
        ("ip route del default", "sysctl -w net.ipv4.conf.eth0.rp_filter=0"),
    ),
    "nobody has the VIP": (
        NAT + "vip: 192.0.2.77\n",
        (),
        (VIP, "default", "warning"),
        ("ip address del 192.0.2.77/32 dev eth0",),
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_found_and_mended(patient, name):
    text, breaking, (code, subject, severity), cleaning = BREAKAGES[name]
    patient.write(text)
    patient.shell(*breaking)
    try:
        found = patient.find(code, subject, ends=69 if severity == "error" else 0)
        assert (found["severity"], found["host"]) == (severity, None)
        patient.shell(found["command"])
        wait_until(lambda: patient.is_well(code), f"{found['command']} mends {name}")
    finally:
        patient.shell(*cleaning)


@pytest.mark.parametrize(
    ("switch", "state", "code"), [("gro", "off", NO_REDIRECT), ("tx", "on", CHECKSUMS)]
)
def test_the_other_end_of_a_veth(patient, switch, state, code):
    patient.lab.client.run(["ethtool", "-K", "eth0", switch, state])
    found = patient.find(code, "eth0", ends=0)
    assert found["severity"] == "warning"
    patient.shell(found["command"])
    assert patient.is_well(code)


def test_frames_that_only_xdp_can_send_need_more_than_a_warning(patient):
    patient.write(DIRECT.format("l2dsr"))
    end = patient.lab.switch.run
    end(["ethtool", "-K", "to-lb", "gro", "off"])
    try:
        assert patient.find(NO_REDIRECT, "eth1", ends=69)["severity"] == "error"
    finally:
        end(["ethtool", "-K", "to-lb", "gro", "on"])


# --- another program ---


def attach_for_somebody_else(lab, elf_path):
    """Hold a program on the balancer's eth0 by a link that nobody has pinned."""
    libbpf = Libbpf()
    program = libbpf.get(str(elf_path))
    with lab.balancer.entered():
        ifindex = int(lab.balancer.run(["cat", "/sys/class/net/eth0/ifindex"]).stdout)
        link = libbpf.create_link(program, ifindex, XDP_FLAGS_SKB_MODE)
    os.close(program)
    return link


def test_another_instance(patient):
    patient.xdplb.apply(NAT.replace("[eth0, eth1]", "eth0") + "name: other\n")
    patient.write(NAT)
    found = patient.find(OTHER_PROGRAM, ends=69)
    assert (found["subject"], found["command"]) == ("eth0", "xdplb detach -n other")
    patient.shell(found["command"])
    assert patient.is_well(OTHER_PROGRAM)


@pytest.mark.parametrize("where", ["xdp", "xdpgeneric", "link"])
def test_a_program_of_somebody_else(patient, require, where):
    require(shutil.which("bpftool"), "bpftool is missing")
    patient.xdplb.apply(NAT.replace("[eth0, eth1]", "eth1") + "name: other\n")
    folder = patient.xdplb.root / "other"
    (program,) = [path for path in folder.iterdir() if path.name.startswith("program_")]
    link = None
    if where == "link":
        link = attach_for_somebody_else(patient.lab, program)
    else:
        patient.shell(f"ip link set dev eth0 {where} pinned /sys/fs/bpf/xdplb/other/{program.name}")
    try:
        patient.write(NAT.replace("[eth0, eth1]", "eth0"))
        found = patient.find(OTHER_PROGRAM, ends=69)
        assert "xdplb (id" in found["message"]
        patient.shell(found["command"])
        assert patient.is_well(OTHER_PROGRAM)
    finally:
        if link is None:
            patient.shell(f"ip link set dev eth0 {where} off")
        else:
            os.close(link)


def test_our_own_program(patient):
    patient.xdplb.apply(NAT)
    assert patient.is_well(OTHER_PROGRAM)


# --- the file ---


def test_a_wrong_interface(patient):
    patient.write(NAT.replace("eth1", "eht1"))
    found = patient.find(INTERFACE, ends=69)
    assert (found["subject"], found["hint"]) == ("eht1", "did you mean eth1?")


def test_an_interface_that_is_not_listed(patient):
    patient.write(NAT.replace("[eth0, eth1]", "eth0"))
    found = patient.find(EGRESS, ends=69)
    assert found["hint"] == "write interface: [eth0, eth1]"
    patient.write(NAT.replace("interface: [eth0, eth1]", found["hint"].removeprefix("write ")))
    assert patient.is_well(EGRESS)


def test_a_file_that_is_not_valid(patient):
    patient.write(NAT + "wieght: 1\n")
    found = patient.find(FILE, ends=78)
    assert found["command"] == f"xdplb validate {patient.xdplb.config}"


def test_a_file_with_warnings(patient):
    patient.write(NAT + "ring_size: 251\n")
    assert patient.find(FILE, ends=0)["severity"] == "note"


def test_a_file_that_is_missing(patient):
    done = patient.xdplb.run("doctor", patient.xdplb.folder / "none.yaml")
    assert done.returncode == 66
    assert done.stderr.startswith("xdplb: there is no file")


def test_no_file_at_all(patient):
    """The machine is looked at, and the instance that there is."""
    patient.xdplb.apply(NAT + "name: lonely\n")
    command = ["sh", "-c", f"cd {patient.xdplb.folder}; mv lb.yaml other.yaml; unset XDPLB_CONFIG;"]
    command[-1] += f" exec {sys.executable} -m reconciler.cli.main doctor --json"
    done = patient.lab.balancer.run(command, check=False, environment=python_environment())
    document = json.loads(done.stdout)
    subjects = {finding["subject"] for finding in document["findings"]}
    assert (done.returncode, document["config"], subjects) == (0, None, {"machine", "lonely"})


# --- backends ---


def test_a_backend_that_is_off(patient):
    backend = patient.lab.backends[1]
    backend.run(["ip", "link", "set", "dev", "eth0", "down"])
    patient.shell("ip neigh flush dev eth1")
    try:
        found = patient.find(NEIGHBOUR, ends=0)
        assert "10.0.0.12 on eth1" in found["message"]
        assert (found["severity"], found["command"]) == ("warning", "ping -c 1 -I eth1 10.0.0.12")
    finally:
        backend.run(["ip", "link", "set", "dev", "eth0", "up"])
        backend.run(["ip", "route", "replace", "default", "via", "10.0.0.1"])
    wait_until(lambda: patient.is_well(NEIGHBOUR), "the backend is back")


def test_backends_that_are_off_are_no_service(patient):
    patient.write(NAT.replace("[10.0.0.11, 10.0.0.12, 10.0.0.13]", "[10.0.0.77, 10.0.0.78]"))
    found = patient.find(OUT, ends=69)
    assert "none of 2 backends" in found["message"]


def test_nobody_listens_there(patient):
    patient.write(NAT.replace("8080", "8081"))
    findings = {f["code"]: f for f in patient.examine(ends=69)}
    assert findings[ANSWER]["severity"] == "warning"
    assert "refused a connection to port 8081" in findings[ANSWER]["message"]
    assert findings[ANSWER]["host"] == "10.0.0.11"
    assert findings[OUT]["severity"] == "error"
    # They may listen on the VIP alone.
    patient.write(DIRECT.format("l2dsr").replace("8080", "8081"))
    findings = {f["code"]: f for f in patient.examine(ends=0)}
    assert findings[ANSWER]["severity"] == "note"


def test_a_backend_that_says_nothing(patient):
    backend = patient.lab.backends[0]
    backend.run(["ip", "route", "add", "blackhole", "10.0.0.1"])
    try:
        assert "10.0.0.11 did not answer" in patient.find(ANSWER, ends=0)["message"]
    finally:
        backend.run(["ip", "route", "del", "blackhole", "10.0.0.1"])


def test_udp_is_not_asked(patient):
    patient.write(NAT + "protocol: udp\n")
    assert "were not asked" in patient.find(ANSWER, ends=0)["message"]
    assert patient.is_well(NEIGHBOUR)


def test_a_backend_of_this_machine(patient):
    patient.write(IPIP.replace("10.0.0.13", "10.0.0.1"))
    assert patient.find(OWN_BACKEND, ends=69)["severity"] == "error"
    patient.write(NAT.replace("10.0.0.13", "10.0.0.1"))
    assert patient.find(OWN_BACKEND, ends=0)["severity"] == "warning"


def test_l2dsr_behind_a_router(patient):
    patient.write(DIRECT.format("l2dsr").replace("10.0.0.13", "10.9.0.13"))
    patient.shell("ip route add 10.9.0.0/24 via 10.0.0.11")
    try:
        assert "router 10.0.0.11 is before 10.9.0.13" in patient.find(ROUTER, ends=69)["message"]
    finally:
        patient.shell("ip route del 10.9.0.0/24")


def test_a_program_that_listens_on_the_vip(patient):
    with patient.lab.balancer.socket() as listening:
        listening.bind(("0.0.0.0", 8080))
        listening.listen()
        assert "port 8080 as well" in patient.find(SOCKET, ends=0)["message"]


def test_replies_that_come_back_are_proof(patient):
    patient.xdplb.apply(NAT)
    assert patient.find(WAY_BACK)["severity"] == "note"
    asked = {fetch(patient.lab.client, "192.0.2.1").backend for _ in range(60)}
    assert len(asked) == 3
    assert patient.is_well(WAY_BACK)


def test_two_hundred_backends_that_are_off_hold_nothing_up(patient):
    backends = ", ".join(f"10.0.0.{number}" for number in range(50, 250))
    patient.write(NAT.replace("10.0.0.11, 10.0.0.12, 10.0.0.13", backends))
    found = patient.find(NEIGHBOUR, ends=69)
    assert "10.0.0.100, 10.0.0.101, 10.0.0.102 and 197 more" in found["message"]


# --- the instance ---


def test_an_instance_and_its_controller(patient):
    assert "has not been applied" in patient.find(CONTROLLER, ends=0)["message"]
    patient.xdplb.apply(NAT)
    found = patient.find(CONTROLLER, ends=0)
    assert found["command"] == f"xdplb-reconcile -c {patient.xdplb.config}"
    assert patient.is_well(FLOWS)
    controller = patient.xdplb.start(config=patient.xdplb.config)
    assert patient.is_well(CONTROLLER)
    assert patient.is_well(RELOAD)
    patient.write("nonsense")
    wait_until(
        lambda: patient.xdplb.account()["last_attempt"]["result"] == "rejected", "it is rejected"
    )
    found = patient.find(RELOAD, ends=78)
    assert "was REJECTED" in found["message"]
    patient.write(NAT)
    wait_until(
        lambda: patient.xdplb.account()["last_attempt"]["result"] != "rejected", "it is taken"
    )
    assert patient.is_well(RELOAD)
    controller.stop()


@pytest.mark.parametrize("is_running", [False, True])
def test_drift(patient, is_running):
    text = NAT + "reconcile: {resync: 1h}\n"
    patient.xdplb.apply(text)
    if is_running:
        patient.xdplb.start(config=patient.xdplb.config)
    (folder,) = patient.xdplb.root.iterdir()
    (link,) = [path for path in folder.iterdir() if path.name.endswith("_eth1")]
    link.unlink()
    found = patient.find(IN_SYNC, ends=0)
    patient.shell(found["command"])
    wait_until(lambda: patient.is_well(IN_SYNC), f"{found['command']} mends it")


def test_maps_that_do_not_fit(patient):
    patient.xdplb.apply(NAT)
    patient.write(NAT + "limits: {flows: 5000}\n")
    found = patient.find(IN_SYNC, ends=69)
    assert "the pinned map" in found["message"]
    assert "xdplb detach" in found["hint"]


# --- privileges, and mounts ---

NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.mark.parametrize("under", [NO_CAPABILITIES, NOBODY], ids=["no-capabilities", "nobody"])
def test_without_privileges(patient, require, under):
    require(shutil.which("setpriv"), "setpriv is missing (util-linux)")
    patient.xdplb.apply(NAT)
    if under is NOBODY:
        patient.lab.directory.chmod(0o755)
        patient.xdplb.folder.chmod(0o755)
        done = patient.xdplb.run("validate", patient.xdplb.config, under=under)
        if done.returncode:
            pytest.skip("nobody may not read this checkout")
    found = patient.find(PRIVILEGES, ends=77, under=under)
    assert found["command"].startswith("sudo xdplb doctor")
    findings = patient.examine(under=under)
    unseen = {f["code"] for f in findings if f["message"].startswith("not looked at")}
    assert unseen >= {"XLB513", OTHER_PROGRAM, CONTROLLER}
    assert {f["code"] for f in findings if f["severity"] == "ok"} >= {ROUTE, NEIGHBOUR, ANSWER}
    # An error of another kind weighs more.
    patient.write(NAT.replace("eth1", "eht1"))
    patient.examine(ends=69, under=under)


def test_mounts_that_do_not_last(patient):
    alone = ("unshare", "--mount", "sh", "-c", 'umount /sys/fs/bpf && exec "$@"', "sh")
    assert patient.find(LASTING_PINS, ends=0, under=alone)["severity"] == "warning"


# --- how it is said ---


def test_in_words(patient):
    patient.shell("sysctl -w net.ipv4.conf.eth0.forwarding=0")
    try:
        said = patient.run()
        (line,) = [line for line in said.stdout.splitlines() if line.startswith("error")]
        assert line.endswith("  $ sysctl -w net.ipv4.conf.eth0.forwarding=1")
        assert " ok " not in said.stdout.rsplit("\n", 2)[0]
        assert said.stdout.splitlines()[-1].startswith("doctor: 1 error, 0 warnings, ")
        assert patient.run("-q").stdout.splitlines() == [line]
        assert "\nok  " in patient.run("-v").stdout
        assert "\x1b" not in said.stdout
    finally:
        patient.shell("sysctl -w net.ipv4.conf.eth0.forwarding=1")


def test_the_document(patient):
    document = json.loads(patient.run("--json").stdout)
    assert list(document) == [
        "format_version",
        "kind",
        "kernel",
        "config",
        "findings",
        "summary",
    ]
    assert (document["format_version"], document["kind"]) == ("1.0", "xdplb.doctor")
    assert document["kernel"] == os.uname().release
    assert list(document["config"]) == ["path", "sha256"]
    assert all(
        list(finding) == ["code", "severity", "subject", "message", "command", "host", "hint"]
        for finding in document["findings"]
    )
    assert list(document["summary"]) == ["error", "warning", "note", "ok"]
    assert sum(document["summary"].values()) == len(document["findings"])


def test_it_changes_nothing(patient):
    patient.xdplb.apply(NAT)
    before, programs = patient.xdplb.tables(), patient.xdplb.find_programs()
    pins = sorted(patient.xdplb.root.rglob("*"))
    patient.examine()
    assert (patient.xdplb.tables(), patient.xdplb.find_programs()) == (before, programs)
    assert sorted(patient.xdplb.root.rglob("*")) == pins


# --- a BPF file system that takes nothing ---

PINS = "XLB515"


@pytest.mark.parametrize("option", ["ro", "ro,bind"])  # the file system, or this mount of it
def test_pins_that_can_not_be_removed(patient, option):
    """Nothing is begun that could not be ended; the doctor's command mends it."""
    xdplb = patient.xdplb
    xdplb.apply(NAT)
    before = xdplb.find_programs()
    patient.shell(f"mount -o remount,{option} /sys/fs/bpf")
    try:
        for words in ("detach", f"apply --yes {xdplb.config}", f"run -c {xdplb.config}"):
            done = xdplb.run(*words.split())
            assert (done.returncode, "mounted read-only" in done.stderr) == (69, True), done.stderr
        assert xdplb.find_programs() == before
        assert set(before) == {"eth0", "eth1"}
        found = patient.find(PINS, ends=69)
        assert found["severity"] == "error"
        assert found["command"] in xdplb.run("detach").stderr
    finally:
        patient.shell("mount -o remount,rw /sys/fs/bpf", "mount -o remount,rw,bind /sys/fs/bpf")
    assert patient.is_well(PINS)
    assert xdplb.run("detach").returncode == 0
    assert xdplb.find_programs() == {}


def test_pins_that_can_not_be_made(patient):
    patient.shell("mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf")
    patient.shell("mount -o remount,ro /sys/fs/bpf")
    try:
        done = patient.xdplb.run("apply", "--yes", patient.xdplb.config)
        assert done.returncode == 69
        assert "cannot make" in done.stderr
    finally:
        patient.shell("mount -o remount,rw /sys/fs/bpf")


@pytest.mark.parametrize("place", ["/proc/nowhere", "{config}"])
def test_a_place_where_no_folder_can_be(patient, place):
    place = place.format(config=patient.xdplb.config)
    done = patient.xdplb.run("apply", "--yes", patient.xdplb.config, "--pin-dir", place)
    assert done.returncode == 69
    assert done.stderr.startswith(f"xdplb: cannot make {place}/default: ")
