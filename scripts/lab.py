"""The KVM lab: both VM engines on KVM, tested on a machine without KVM, inside one of our own sandboxes.

An emulated AMD processor has SVM, so a guest on it that loads `kvm-amd` has a /dev/kvm that works, only slowly. The lab
is a sandbox with QEMU, this repository and its images inside, in which the conformance suite, and what is about
recovery, run with KVM. What became of each test is read back into `build/lab/`. A Firecracker that BHATTI_FIRECRACKER
names goes in too, with the jailer that is beside it, and its engine is tested, in jails; without one that is skipped.

    make lab                                             conformance and recovery (an hour or two)
    make lab LAB_ARGS=tests/conformance/test_config.py   a part of it: six minutes
    make lab LAB_ARGS="-k firecracker"                   one engine
    make lab LAB_ARGS=--measure                          and the engines' times beside each other

Debian 12's emulator is not perfect at this (see `CPUS`). A machine that has died or hangs is started again, and goes on
with the tests that have no result yet (`scripts.lab_results`).
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.demo import ROOT, Demo
from scripts.lab_results import VARIABLE, Result, results

from bhatti import paths
from bhatti.engines.firecracker.jail import jailers_beside

NAME = "lab"
PACKAGES = (
    "busybox-static", "e2fsprogs", "iproute2", "iputils-ping", "kmod", "musl-dev", "nftables", "procps", "python3",
    "qemu-system-x86", "tcc", "zstd",
)  # fmt: skip
"""What the engine and its tests need."""

WITHOUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

MODULES = """
chroot "$1" sh -euc "
    useradd -m -u 1000 -s /bin/bash lohar
    cd /tmp
    apt-get download linux-image-$RELEASE
    dpkg -x linux-image-*.deb kernel
    mv kernel/lib/modules /lib/modules
    rm -r kernel linux-image-*.deb
    depmod $RELEASE
"
"""
"""Takes the modules of the kernel that our guests boot from its package, which is not installed: there is no boot."""

CPUS, MEMORY_MB, DISK_MB = 1, 6144, 16384
"""One processor. With two, QEMU before 8.1 may translate code in the moment in which the other one changes it, and go
on with what it read then (its commit deba78709ae8, "accel/tcg: Always lock pages before translation"): kernels
were seen in a breakpoint for ever that had long been taken out of the scheduler, and guests ended in a triple fault."""

DEVICES = "modprobe -a kvm-amd tun; chmod 666 /dev/kvm"

PREPARE = """
set -eu
mkdir -p /opt/bhatti /opt/site /var/lib/bhatti/images
tar -xf /lab/source.tar -C /opt/bhatti
tar -xf /lab/site.tar -C /opt/site
tar -xf /lab/images.tar -C /var/lib/bhatti/images
rm /lab/*.tar
printf '%s\n' /opt/site /opt/bhatti/src > "$(python3 -c 'import site; print(site.getsitepackages()[0])')/bhatti.pth"
grep -m1 'model name' /proc/cpuinfo
ls -l /dev/kvm
"""

PROBE = """
from bhatti.engines.qemu.accelerator import probe
verdict = probe("qemu-system-x86_64", deadline_s=60)
print(f"lab: {verdict.accelerator}: {verdict.reason}")
raise SystemExit(verdict.accelerator != "kvm")
"""

FIRECRACKER, JAILER = "/lab/firecracker", "/lab/jailer"
TESTS = [
    "tests/conformance",
    "tests/lab/test_firecracker_devices.py",
    "tests/recovery/test_killed_firecracker.py",
    "tests/recovery/test_killed_daemon_virtual.py",
]
"""Whatever needs a virtual machine, and KVM makes a difference to."""

ENGINES = ("qemu", "firecracker")
"""As they stand first among the parameters of their tests."""

RESULTS = "/lab/results.jsonl"
CODE = "/lab/code"

TO_THE_END = f'rm -f {CODE}; "$@"; echo $? >{CODE}'
"""Runs a command whose exit code is found in a file if it came to an end."""

NO_TESTS_LEFT = 5
"""What pytest says when it has selected none: all had a result already."""

BAD = ("failed", "died")

PATIENCE_S = 180
"""For how long the lab's machine may be silent: with QEMU's machines in it, it was for half a minute, and went on."""

STARTS = 8
"""How often the lab's machine is started before it is given up."""

ENVIRONMENT = (
    "HOME=/root",
    f"BHATTI_FIRECRACKER={FIRECRACKER}",
    f"{VARIABLE}={RESULTS}",
    "BHATTI_TEST_PATIENCE=3",
)


def main() -> int:
    """Run the lab; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", default=TESTS, help="what pytest runs inside")
    parser.add_argument("-k", default="not docker", help="pytest's -k; the lab has no Docker")
    parser.add_argument("--measure", action="store_true", help="compare the engines' times too (bench.kvm)")
    chosen = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bhatti-lab-"))
    demo = Demo(home)
    try:
        demo.bhatti("image", "build", show=True)
        with demo.daemon(keep=False):
            release = json.loads((Path(paths.images_dir()) / "guest.json").read_text())["kernel_release"]
            image = image_name(release)
            if not any(known["name"] == image for known in json.loads(demo.bhatti("image", "ls", "--json"))):
                make_image(demo, home, image, release)
            demo.bhatti(
                "create", NAME, "--image", image, "--cpus", str(CPUS), "--memory", str(MEMORY_MB),
                "--disk", str(DISK_MB), show=True,
            )  # fmt: skip
            return run(demo, chosen.tests, chosen.k, measure=chosen.measure)
    finally:
        shutil.rmtree(home)


def image_name(release: str) -> str:
    """Return the name of an image with our packages and the modules of the kernel `release`."""
    return f"kvm-lab-{hashlib.sha256(repr((PACKAGES, MODULES, release)).encode()).hexdigest()[:8]}"


def make_image(demo: Demo, home: Path, name: str, release: str) -> None:
    """Make the image that the lab boots from, and give it to the daemon."""
    print("lab: installing the image's packages (some minutes)", flush=True)
    layer = home / "layer.tar"
    subprocess.run(
        [
            "mmdebstrap", "--mode=root", "--variant=minbase", "--skip=output/dev", "--quiet",
            f"--include={','.join(PACKAGES)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in WITHOUT),
            f"--customize-hook={MODULES}", "bookworm", layer,
        ],
        env=demo.env | {"RELEASE": release},
        check=True,
    )  # fmt: skip
    archive = home / "lab.tar"
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, "layer.tar")
        for part, content in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(part)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    layer.unlink()
    demo.bhatti("image", "import", f"docker-archive:{archive}", "--name", name, show=True)
    archive.unlink()


def run(demo: Demo, tests: Sequence[str], selection: str, *, measure: bool) -> int:
    """Put everything into the lab, run the tests, bring the results out."""
    put(
        demo,
        "/lab/source.tar",
        [(ROOT / part, part) for part in ("src", "tests", "bench", "scripts", "pyproject.toml")],
    )
    (site,) = (ROOT / ".venv/lib").glob("python3.*/site-packages")
    put(demo, "/lab/site.tar", [(site, ".")])
    images = Path(paths.images_dir())
    put(demo, "/lab/images.tar", [(images / part, part) for part in image_files(images)])
    put_firecracker(demo, os.environ.get("BHATTI_FIRECRACKER", ""))
    begin(demo)
    demo.bhatti("exec", "-u", "root", NAME, "--", "sh", "-c", PREPARE, show=True)
    environment = [word for item in ENVIRONMENT for word in ("--env", item)]
    inside = ("-u", "root", *environment, "--cwd", "/opt/bhatti", NAME, "--")
    demo.bhatti("exec", *inside, "python3", "-c", PROBE, show=True)
    code = test(
        demo,
        (
            "exec", "--detach", "--json", *inside, "sh", "-c", TO_THE_END, "sh", "python3", "-u", "-m", "pytest",
            "-p", "no:cacheprovider", "-p", "scripts.lab_results", "-v", "--timeout=900", "-k", selection, *tests,
        ),
    )  # fmt: skip
    lines = demo.bhatti("exec", "-u", "root", NAME, "--", "cat", RESULTS)
    target = ROOT / "build" / "lab" / "results.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lines)
    demo.bhatti("exec", NAME, "--", "cat", "/proc/version", show=True)
    good = tell(results(lines.decode().splitlines()).values())
    print(f"lab: every test's result and time is in {target}")
    if measure:
        demo.bhatti("exec", *inside, "python3", "-m", "bench", "kvm", show=True)
    return code if code or good else 1


def put_firecracker(demo: Demo, binary: str) -> None:
    """Put Firecracker and its jailer into the lab, as far as they are there, and say so where they are not."""
    if not binary:
        print("lab: BHATTI_FIRECRACKER names no Firecracker: tests of its engine are skipped", flush=True)
        return
    programs = [(Path(binary), FIRECRACKER)]
    jailer = next((path for path in jailers_beside(binary) if path.exists()), None)
    if jailer is None:
        print(f"lab: there is no jailer beside {binary}: its machines are in no jail", flush=True)
    else:
        programs.append((jailer, JAILER))
    for source, target in programs:
        with source.open("rb") as content:
            subprocess.run(demo.command("file", "write", NAME, target), env=demo.env, stdin=content, check=True)
        demo.bhatti("exec", "-u", "root", NAME, "--", "chmod", "+x", target)


def begin(demo: Demo) -> None:
    """Make ready a machine that has booted."""
    demo.bhatti("exec", "-u", "root", NAME, "--", "sh", "-c", DEVICES)


def test(demo: Demo, command: Sequence[str]) -> int:
    """Run the tests to their end, over the deaths of the lab's machine; return the last pytest's exit code."""
    for _ in range(STARTS):
        begun = json.loads(demo.bhatti(*command))
        if follow(demo, begun["pid"], begun["output_file"]):
            code = int(demo.bhatti("exec", NAME, "--", "cat", CODE))
            return 0 if code == NO_TESTS_LEFT else code
        print("lab: its machine has died; started again for the tests that have no result yet", flush=True)
        demo.bhatti("inspect", NAME, show=True)
        # One that hangs may come to life yet; one that is dead cannot be stopped.
        subprocess.run(demo.command("stop", "--no-memory", NAME), env=demo.env, check=False)
        demo.bhatti("start", NAME, show=True)
        begin(demo)
    raise SystemExit(f"lab: its machine died {STARTS} times")


def follow(demo: Demo, pid: int, output: str) -> bool:
    """Show what a process in the lab says until it has ended; return whether the machine has lived on."""
    shown = 0
    while answers(demo):
        words = ("tail", f"--pid={pid}", f"--bytes=+{shown + 1}", "--follow", output)
        command = demo.command("exec", "--no-stdin", "-u", "root", NAME, "--", *words)
        with subprocess.Popen(command, env=demo.env, stdout=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            while said := os.read(tail.stdout.fileno(), 1 << 16):
                sys.stdout.buffer.write(said)
                sys.stdout.flush()
                shown += len(said)
        if tail.returncode == 0:
            return True
    return False


def answers(demo: Demo) -> bool:
    """Wait until the lab's machine answers; return whether it has within `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while subprocess.run(demo.command("exec", NAME, "--", "true"), env=demo.env, check=False).returncode != 0:
        if time.monotonic() > end:
            return False
        time.sleep(1)  # of a machine that is dead we are told at once
    return True


def tell(found: Iterable[Result]) -> bool:
    """Print what became of the tests, by file and engine, and what they measured; return whether none failed."""
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    figures: list[tuple[str, str, object]] = []
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for result in found:
        file, _, name = result.test.partition("::")
        parameter = name.partition("[")[2].rstrip("]").split("-")[0]
        engine = parameter if parameter in ENGINES else ""
        outcomes.setdefault((Path(file).stem, engine), Counter())[result.outcome] += 1
        seconds[Path(file).stem, engine] += result.seconds
        figures += [(what, engine, value) for what, value in result.figures.items()]
        if result.outcome in BAD:
            print(f"lab: {result.test} {result.outcome}: {result.words}\n")
    for (file, engine), counts in sorted(outcomes.items()):
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        print(f"{file:28}{engine:14}{seconds[file, engine]:8.0f} s  {words}")
    for what, engine, value in figures:
        print(f"{what:38}{engine:14}{value!s:>10}")
    return not any(counts[outcome] for counts in outcomes.values() for outcome in BAD)


def image_files(images: Path) -> list[str]:
    """Return the parts of the images directory that the base image needs, and no other."""
    record = json.loads((images / "names" / "base.json").read_text())
    guest = json.loads((images / "guest.json").read_text())
    keys = {record["root_key"], *(value for value in guest.values() if isinstance(value, str))}
    artefacts = [str(path.relative_to(images)) for path in images.glob("artefacts/*/*") if path.name in keys]
    return ["guest.json", "names/base.json", *artefacts]


def put(demo: Demo, path: str, parts: Sequence[tuple[Path, str]]) -> None:
    """Pack files and upload them; holes stay holes, times keep their nanoseconds.

    Images are checked by their times, and so are compiled modules, which take the lab a minute to compile.
    """
    with tempfile.NamedTemporaryFile(dir=demo.home, suffix=".tar") as archive:
        command = ["tar", "--format=posix", "--sparse", "-cf", archive.name]
        for source, name in parts:
            directory = source if name == "." else Path(str(source).removesuffix(name))
            command += ["-C", str(directory), name]
        subprocess.run(command, check=True)
        with Path(archive.name).open("rb") as content:
            subprocess.run(demo.command("file", "write", NAME, path), env=demo.env, stdin=content, check=True)


if __name__ == "__main__":
    sys.exit(main())
