"""
How a lab begins, ends and is left up: interrupted, killed, kept, entered; by root and by an ordinary user.

Every test uses the `lab` fixture, which proves afterwards that nothing of it is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ginnel.lab import keep
from ginnel.lab.namespaces import start_time
from lab.conftest import GINNEL, LAB_TIMEOUT_S, ROOT, LabRunner
from namespaces import wait_until

SMALL = """\
[network]
name = "small"
pool = ["10.10.0.0/24"]
[node.paris]
endpoint = "203.0.113.10"
lans = ["10.20.0.0/24"]
[node.lyon]
lans = ["10.40.0.0/24"]
"""


def read_until(process: subprocess.Popen[str], words: str) -> None:
    """Wait until a lab says on stderr that it has come so far."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended before it said {words!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", ["namespaces,", "have shaken hands"])
def test_a_signal_ends_it_cleanly(lab: LabRunner, number: signal.Signals, words: str) -> None:
    process = lab.start(lab.write(SMALL), "--throughput", "30")
    read_until(process, words)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not lab.left(), 5, "everything has ended")


def test_killed_outright_it_still_leaves_nothing(lab: LabRunner) -> None:
    process = lab.start(lab.write(SMALL), "--throughput", "30", "--loss", "1%")
    read_until(process, "have shaken hands")
    assert len(lab.left()) > 8  # namespaces, daemons, relays
    process.kill()
    process.wait()
    wait_until(lambda: not lab.left(), 5, "the kernel has ended everything")
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


@pytest.fixture
def kept(lab: LabRunner) -> Iterator[Path]:
    """A network file whose lab is up."""
    path = lab.write(SMALL)
    ran = lab(path, "--keep", "--throughput", "0", "--delay", "1ms")
    assert ran.code == 0, ran.stderr
    assert f"ginnel lab {path} --down" in ran.stderr
    yield path
    lab(path, "--down")


def test_kept_with_gre_it_says_how_to_look_at_a_tunnel(lab: LabRunner) -> None:
    path = lab.write(
        SMALL.replace("[node.paris]", 'kind = "gre"\n[node.paris]').replace(
            "[node.lyon]", '[node.lyon]\nendpoint = "198.51.100.20"'
        )
    )
    ran = lab(path, "--keep", "--throughput", "0")
    assert ran.code == 0, ran.stderr
    assert f"ginnel lab {path} --enter paris ginnel show gre-lyon " in ran.stderr
    shown = lab(path, "--enter", "paris", "ginnel", "show", "gre-lyon")
    assert shown.code == 0, shown.stderr
    assert "198.51.100.20" in shown.stdout
    assert lab(path, "--enter", "paris", "ginnel", "down", "/run/lab/node.toml").code == 0
    assert "gre-lyon" not in lab(path, "--enter", "paris", "ip", "link").stdout
    assert lab(path, "--down").code == 0


def test_wg_quick_on_every_node_is_refused_where_a_link_is_gre(lab: LabRunner) -> None:
    ran = lab(ROOT / "examples" / "gre-sites", "--all-wg-quick")
    assert ran.code == 2
    assert "not all links are WireGuard" in ran.stderr


def test_kept_it_can_be_entered_and_ended(lab: LabRunner, kept: Path) -> None:
    assert lab(kept, "--enter", "lan-lyon", "--", "ping", "-c", "1", "-W", "5", "10.20.0.2").code == 0
    shown = lab(kept, "--enter", "lyon", "ginnel", "show", "wg0", "dump")
    assert shown.code == 0
    assert "10.20.0.0/24" in shown.stdout
    assert lab(kept, "--enter", "lyon", "--", "sh", "-c", "exit 7").code == 7
    missing = lab(kept, "--enter", "rome", "true")
    assert missing.code == 2
    assert "no 'rome' in this lab; it has internet, paris, " in missing.stderr
    again = lab(kept, "--keep")
    assert again.code == 2
    assert "is already up" in again.stderr
    down = lab(kept, "--down")
    assert down.code == 0
    wait_until(lambda: not lab.left(), 5, "everything has ended")
    assert lab(kept, "--down").code == 2
    assert lab(kept, "--enter", "lyon").code == 2


def test_the_node_s_file_and_keys_are_its_own(lab: LabRunner, kept: Path) -> None:
    mode = lab(kept, "--enter", "lyon", "--", "stat", "-c", "%a %U", "/run/lab/wg0.conf", "/run/lab")
    assert mode.stdout.splitlines() == ["600 root", "700 root"]
    assert lab(kept, "--enter", "paris", "--", "ls", "/run/wireguard", "/run/ginnel").code == 0
    assert not Path("/run/lab").exists()
    arguments = Path(f"/proc/{keep.recall(kept)[0].find('lyon').pid}/cmdline").read_bytes()
    key = lab(kept, "--enter", "lyon", "--", "sed", "-n", "s/^PrivateKey = //p", "/run/lab/wg0.conf").stdout.strip()
    assert len(key) == 44
    assert key.encode() not in arguments
    for process in lab.left():
        assert key.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
    assert key not in kept.read_text() + kept.with_name("network.lock.toml").read_text()


def test_a_process_id_used_again_is_not_taken_for_ours(lab: LabRunner, kept: Path) -> None:
    (record,) = keep.recall(kept)
    path = keep.directory() / f"{record.lab_id}.json"
    document = json.loads(path.read_text())
    own = start_time(os.getpid())
    assert own is not None
    document["held"].append({"name": "stranger", "pid": os.getpid(), "started": own - 1})
    path.write_text(json.dumps(document))
    assert lab(kept, "--down").code == 0  # and this test still runs
    assert not path.exists()


def test_a_lock_file_is_written_beside_the_file_and_keeps_its_addresses(lab: LabRunner) -> None:
    path = lab.write(SMALL)
    assert lab(path, "--throughput", "0").code == 0
    lock = path.with_name("network.lock.toml")
    assert 'address = ["10.10.0.2"]' in lock.read_text()
    path.write_text(SMALL.replace("[node.paris]", '[node.athens]\nendpoint = "203.0.113.11"\n[node.paris]'))
    ran = lab(path, "--json", "--throughput", "0")
    assert ran.code == 0, ran.stderr
    assert [node["address"] for node in ran.report()["nodes"]] == [["10.10.0.3/24"], ["10.10.0.1/24"], ["10.10.0.2/24"]]


# ---------------------------------------------------------------- what is not as the file says


def test_a_link_that_cannot_be_is_named_and_the_exit_code_says_so(lab: LabRunner) -> None:
    ran = lab(lab.write(SMALL + "[lab.node.lyon]\nblocked_udp_ports = [51820]\n"))
    assert ran.code == 1
    assert "paris — lyon is configured, but not alive: paris has never shaken hands with lyon" in ran.stdout
    assert "2 of 2 ways fail with the links above" in ran.stdout
    assert "yes: as planned, 4 prefixes" in ran.stdout


def test_a_node_that_does_not_come_up_is_named(lab: LabRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WG_QUICK_USERSPACE_IMPLEMENTATION", "/bin/false")
    ran = lab(lab.write(SMALL.replace("[node.lyon]", '[node.lyon]\nruns = "wg-quick"')), "--keep")
    assert ran.code == 1
    assert "lyon did not come up: wg-quick up /run/lab/wg0.conf:" in ran.stdout
    wait_until(lambda: not lab.left(), 5, "a lab that did not come up is not kept")


def test_a_path_that_is_narrower_than_it_says(lab: LabRunner) -> None:
    """The file says 1500 to lyon, but a tunnel's worth of 1,420 bytes is forced through an MTU that only fits less."""
    ran = lab(lab.write(SMALL.replace("[node.lyon]", "[node.lyon]\nunderlay_mtu = 1400")), "--json", "--throughput", "0")
    assert ran.code == 0
    (mtu,) = ran.report()["mtu"]
    assert mtu["mtu"] == 1320
    assert "1320 bytes pass whole, 1321 are refused" in mtu["proven"]["evidence"]


def test_links_with_every_fault_still_carry(lab: LabRunner) -> None:
    faults = ["--loss", "2%", "--delay", "5ms", "--jitter", "2ms", "--reorder", "2%", "--duplicate", "2%", "--seed", "3"]
    ran = lab(lab.write(SMALL), "--json", "--throughput", "0", *faults)
    assert ran.code == 0, ran.stderr + ran.stdout
    (link,) = ran.report()["links"]
    assert link["rtt_ms"] >= 4 * (5 - 2)  # two relays each way


# ---------------------------------------------------------------- being called wrongly


def test_mistakes_in_the_file_are_all_said_and_nothing_is_started(lab: LabRunner) -> None:
    ran = lab(lab.write('[network]\nnam = "x"\n[node.a]\nendpont = "1.2.3.4"\n'))
    assert ran.code == 1
    assert ran.stdout == ""
    assert "network.toml:2:1: [network] knows no 'nam'" in ran.stderr
    assert "hint: did you mean 'endpoint'?" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/nonexistent.toml"], "/nonexistent.toml: No such file or directory"),
        (["x", "--keep", "--down"], "exclude one another"),
        (["x", "command"], "COMMAND goes with --enter"),
        (["x", "--loss", "200%"], 'expected a share such as "1%"'),
        (["x", "--delay", "1h"], 'expected a time such as "20ms"'),
        (["x", "--throughput", "-1"], "--throughput"),
    ],
)
def test_wrong_calls(lab: LabRunner, arguments: list[str], says: str) -> None:
    ran = lab(*arguments)
    assert ran.code == 2
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_missing_programs_are_named_with_their_packages_all_at_once(lab: LabRunner, tmp_path: Path) -> None:
    """In a mount namespace without nft and iperf3."""
    path = lab.write(SMALL)
    hide = 'for program in nft iperf3; do mount --bind /dev/null "$(command -v $program)"; done; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", GINNEL, "lab", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "the lab needs nft (Debian: nftables)\nthe lab needs iperf3 (Debian: iperf3)" in done.stderr
    assert "apt-get install iperf3 nftables" in done.stderr


def test_no_tun_device(lab: LabRunner) -> None:
    path = lab.write(SMALL)
    hide = 'mount -t tmpfs tmpfs /dev/net; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", GINNEL, "lab", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "the lab needs to open /dev/net/tun: No such file or directory" in done.stderr
    assert "hint: modprobe tun" in done.stderr


# ---------------------------------------------------------------- an ordinary user

#: Makes a view of this machine in which user 65534 may read the interpreter and open /dev/net/tun, and becomes that user.
AS_USER = """
set -e
scratch=$1; home=$2; shift 2
mount -t tmpfs tmpfs "$scratch"
open() { mkdir "$scratch/$2" "$scratch/$2.work"; chmod 755 "$scratch/$2"
         mount -t overlay overlay -o "lowerdir=$1,upperdir=$scratch/$2,workdir=$scratch/$2.work" "$1"; chmod 755 "$1"; }
[ ! -d /root ] || open /root root
mknod "$scratch/tun" c 10 200
chmod 666 "$scratch/tun"
mount --bind "$scratch/tun" /dev/net/tun
export HOME=$home
unset XDG_RUNTIME_DIR
cd "$home"
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


@pytest.fixture
def as_user(lab: LabRunner) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """`as_user("--keep")`: `ginnel lab` as user 65534 on a copy of SMALL."""
    home = Path("/var/tmp") / f"ginnel-lab-{lab.marker}"
    scratch = home / "scratch"
    scratch.mkdir(parents=True)
    (home / "network.toml").write_text(SMALL)
    for path in (home, home / "network.toml"):
        os.chown(path, 65534, 65534)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", AS_USER, "sh", scratch, home, GINNEL, "lab", home / "network.toml", *arguments],
            capture_output=True,
            text=True,
            timeout=LAB_TIMEOUT_S,
            check=False,
            env=lab.environment(),
        )

    yield run
    shutil.rmtree(home)


def test_without_root(as_user: Callable[..., subprocess.CompletedProcess[str]], lab: LabRunner) -> None:
    done = as_user("--json", "--throughput", "1", "--loss", "1%")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    assert (ROOT / "src").exists()


def test_without_root_over_gre(as_user: Callable[..., subprocess.CompletedProcess[str]], lab: LabRunner) -> None:
    """Raw sockets are root's, and a user is root of the namespaces that the lab makes."""
    path = Path("/var/tmp") / f"ginnel-lab-{lab.marker}" / "network.toml"
    path.write_text(
        SMALL.replace("[node.paris]", 'kind = "gre"\n[node.paris]').replace(
            "[node.lyon]", '[node.lyon]\nendpoint = "198.51.100.20"'
        )
    )
    done = as_user("--json", "--throughput", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["ok"], report["links"][0]["kind"]) == (True, "gre")


def test_without_root_kept_and_ended(as_user: Callable[..., subprocess.CompletedProcess[str]], lab: LabRunner) -> None:
    assert as_user("--keep", "--throughput", "0").returncode == 0
    entered = as_user("--enter", "lan-lyon", "--", "ping", "-c", "1", "-W", "5", "10.20.0.2")
    assert entered.returncode == 0, entered.stderr
    assert as_user("--down").returncode == 0
    wait_until(lambda: not lab.left(), 5, "everything has ended")


def test_without_root_where_the_device_is_closed_to_users(lab: LabRunner) -> None:
    closed = AS_USER.replace("chmod 666", "chmod 600")
    home = Path("/var/tmp") / f"ginnel-lab-{lab.marker}"
    (home / "scratch").mkdir(parents=True)
    (home / "network.toml").write_text(SMALL)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", closed, "sh", home / "scratch", home, GINNEL, "lab", home / "network.toml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shutil.rmtree(home)
    assert done.returncode == 2
    assert "the lab needs to open /dev/net/tun: Permission denied" in done.stderr
    assert "chmod 666 /dev/net/tun" in done.stderr


def test_importing_the_command_is_cheap() -> None:
    """`ginnel --help` lists the lab without importing it."""
    code = (
        "import sys, ginnel.cli.lab; "
        "print(sorted(m for m in sys.modules if m.startswith(('ginnel.lab', 'ginnel.network', 'pydantic', 'rich'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
