"""The KVM lab: both VM engines on KVM, tested on a machine without KVM, inside one of our own sandboxes.

An emulated AMD processor has SVM, so a guest on it that loads `kvm-amd` has a /dev/kvm that works, only slowly. The lab
is a sandbox with QEMU, this repository and its images inside, in which the conformance suite runs with KVM. What pytest
reports is read back into `build/lab/`. A Firecracker that BHATTI_FIRECRACKER names goes in too, and its engine is
tested; without one that is skipped.

    make lab                                             the conformance suite (over an hour on two cores)
    make lab LAB_ARGS=tests/conformance/test_config.py   a part of it: six minutes
    make lab LAB_ARGS="-k firecracker"                   one engine

Debian 12's emulator is not perfect at this: the lab's own kernel was once seen to panic in an interrupt after eight
minutes. Run the rest again by itself then.
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
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from scripts.demo import ROOT, Demo

from bhatti import paths

NAME = "lab"
IMAGE = "kvm-lab"
PACKAGES = (
    "e2fsprogs", "iproute2", "iputils-ping", "kmod", "nftables", "procps", "python3", "qemu-system-x86",
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

CPUS, MEMORY_MB, DISK_MB = 2, 6144, 16384

PREPARE = """
set -eu
modprobe -a kvm-amd tun
mkdir -p /opt/bhatti /opt/site /var/lib/bhatti/images
tar -xf /lab/source.tar -C /opt/bhatti
tar -xf /lab/site.tar -C /opt/site
tar -xf /lab/images.tar -C /var/lib/bhatti/images
rm /lab/*.tar
grep -m1 'model name' /proc/cpuinfo
ls -l /dev/kvm
"""

PROBE = """
from bhatti.engines.qemu.accelerator import probe
verdict = probe("qemu-system-x86_64", deadline_s=60)
print(f"lab: {verdict.accelerator}: {verdict.reason}")
raise SystemExit(verdict.accelerator != "kvm")
"""

FIRECRACKER = "/lab/firecracker"

ENVIRONMENT = (
    "PYTHONPATH=/opt/bhatti/src:/opt/site",
    "PYTHONDONTWRITEBYTECODE=1",
    "HOME=/root",
    f"BHATTI_FIRECRACKER={FIRECRACKER}",
    "BHATTI_TEST_PATIENCE=10",
)


def main() -> int:
    """Run the lab; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", default=["tests/conformance"], help="what pytest runs inside")
    parser.add_argument("-k", default="not docker", help="pytest's -k; the lab has no Docker")
    chosen = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bhatti-lab-"))
    demo = Demo(home)
    try:
        demo.bhatti("image", "build", show=True)
        with demo.daemon(keep=False):
            if not any(image["name"] == IMAGE for image in json.loads(demo.bhatti("image", "ls", "--json"))):
                make_image(demo, home)
            return run(demo, chosen.tests, chosen.k)
    finally:
        shutil.rmtree(home)


def make_image(demo: Demo, home: Path) -> None:
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
        env=demo.env | {"RELEASE": json.loads((Path(paths.images_dir()) / "guest.json").read_text())["kernel_release"]},
        check=True,
    )  # fmt: skip
    archive = home / "lab.tar"
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [f"{IMAGE}:latest"], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        tar.add(layer, "layer.tar")
        for name, content in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    layer.unlink()
    demo.bhatti("image", "import", f"docker-archive:{archive}", "--name", IMAGE, show=True)
    archive.unlink()


def run(demo: Demo, tests: Sequence[str], selection: str) -> int:
    """Start the lab, put everything into it, run the tests, bring the report out."""
    demo.bhatti(
        "create", NAME, "--image", IMAGE, "--cpus", str(CPUS), "--memory", str(MEMORY_MB), "--disk", str(DISK_MB),
        show=True,
    )  # fmt: skip
    put(
        demo,
        "/lab/source.tar",
        [(ROOT / part, part) for part in ("src", "tests", "bench", "scripts", "pyproject.toml")],
    )
    (site,) = (ROOT / ".venv/lib").glob("python3.*/site-packages")
    put(demo, "/lab/site.tar", [(site, ".")])
    images = Path(paths.images_dir())
    put(demo, "/lab/images.tar", [(images / part, part) for part in image_files(images)])
    binary = os.environ.get("BHATTI_FIRECRACKER")
    if binary:
        with Path(binary).open("rb") as content:
            subprocess.run(demo.command("file", "write", NAME, FIRECRACKER), env=demo.env, stdin=content, check=True)
        demo.bhatti("exec", "-u", "root", NAME, "--", "chmod", "+x", FIRECRACKER)
    else:
        print("lab: BHATTI_FIRECRACKER names no Firecracker: tests of its engine are skipped", flush=True)
    demo.bhatti("exec", "-u", "root", NAME, "--", "sh", "-c", PREPARE, show=True)
    inside = (
        "exec", "-u", "root", *(word for item in ENVIRONMENT for word in ("--env", item)), "--cwd", "/opt/bhatti", NAME,
        "--", "python3",
    )  # fmt: skip
    demo.bhatti(*inside, "-c", PROBE, show=True)
    command = demo.command(
        *inside, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=900", "--junitxml=/lab/report.xml",
        "-k", selection, *tests,
    )  # fmt: skip
    code = subprocess.run(command, env=demo.env, stdin=subprocess.DEVNULL, check=False).returncode
    report = demo.bhatti("file", "read", NAME, "/lab/report.xml")
    target = ROOT / "build" / "lab"
    target.mkdir(parents=True, exist_ok=True)
    (target / "report.xml").write_bytes(report)
    demo.bhatti("exec", NAME, "--", "cat", "/proc/version", show=True)
    suite = ElementTree.fromstring(report).find("testsuite")
    if suite is not None:
        print(f"lab: {dict(suite.attrib)}; the report is {target / 'report.xml'}")
    return code


def image_files(images: Path) -> list[str]:
    """Return the parts of the images directory that the base image needs, and no other."""
    record = json.loads((images / "names" / "base.json").read_text())
    guest = json.loads((images / "guest.json").read_text())
    keys = {record["root_key"], *(value for value in guest.values() if isinstance(value, str))}
    artefacts = [str(path.relative_to(images)) for path in images.glob("artefacts/*/*") if path.name in keys]
    return ["guest.json", "names/base.json", *artefacts]


def put(demo: Demo, path: str, parts: Sequence[tuple[Path, str]]) -> None:
    """Pack files and upload them; holes stay holes, times keep their nanoseconds (images are checked by them)."""
    with tempfile.NamedTemporaryFile(dir=demo.home, suffix=".tar") as archive:
        command = ["tar", "--format=posix", "--sparse", "--exclude=__pycache__", "-cf", archive.name]
        for source, name in parts:
            directory = source if name == "." else Path(str(source).removesuffix(name))
            command += ["-C", str(directory), name]
        subprocess.run(command, check=True)
        with Path(archive.name).open("rb") as content:
            subprocess.run(demo.command("file", "write", NAME, path), env=demo.env, stdin=content, check=True)


if __name__ == "__main__":
    sys.exit(main())
