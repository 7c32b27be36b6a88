"""Root file systems that are not Debian's, made from packages: one like Alpine's, one with a single program in it."""

import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.unit.bhatti.images.oci.making import (
    MadeImage,
    archive,
    directory,
    file,
    make_image,
    symlink,
    zstd,
)

MUSL = Path("/usr/lib/x86_64-linux-musl")
MUSL_HEADERS = Path("/usr/include/x86_64-linux-musl")
TCC = Path("/usr/lib/x86_64-linux-gnu/tcc")
BUSYBOX = Path("/bin/busybox")
LOADER = "/lib/ld-musl-x86_64.so.1"

APPLETS = ("sh", "ls", "cat", "id", "whoami", "pwd", "env", "hostname", "touch", "mkdir", "stat", "sleep", "true", "ps")

HELLO = r"""
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *work(void *greeting) {
    struct passwd *user = getpwuid(getuid());
    const char *variable = getenv("FROM_IMAGE");
    printf("%s %s %s\n", (char *)greeting, user ? user->pw_name : "nobody", variable ? variable : "unset");
    return 0;
}

int main(int count, char **words) {
    pthread_t thread;
    return count != 2 || pthread_create(&thread, 0, work, words[1]) || pthread_join(thread, 0);
}
"""
"""Uses what would break with another system's C library: the loader, threads, the user database."""

ALONE = r"""
#include <stdio.h>

int main(void) {
    puts("nothing else is here");
    return 7;
}
"""


def compile_musl(source: str, directory: Path, *, static: bool) -> bytes:
    """Compile a C program for musl; skip the test if the host lacks what it takes."""
    for path, package in ((MUSL / "crt1.o", "musl-dev"), (TCC / "libtcc1.a", "tcc"), (BUSYBOX, "busybox-static")):
        if not path.exists():
            pytest.skip(f"{path} is missing: apt-get install {package}")
    (directory / "program.c").write_text(source)
    library = [MUSL / "libc.a", TCC / "libtcc1.a"] if static else [MUSL / "libc.so"]
    subprocess.run(
        ["tcc", "-nostdinc", "-nostdlib", *(["-static"] if static else []), f"-I{MUSL_HEADERS}", f"-I{TCC / 'include'}",
         "-o", directory / "program", MUSL / "crt1.o", MUSL / "crti.o", directory / "program.c", *library,
         MUSL / "crtn.o"],
        check=True, env={"PATH": "/usr/bin:/bin", "LD_SO": LOADER},
    )  # fmt: skip
    return (directory / "program").read_bytes()


def musl_image(work: Path) -> MadeImage:
    """Return an image like Alpine's: musl, busybox, no bash, no user of ours; the program is in a layer of its own."""
    base: list[tuple[tarfile.TarInfo, bytes]] = [
        directory("bin"),
        directory("etc"),
        directory("lib"),
        directory("tmp", mode=0o1777),
        directory("root", mode=0o700),
        file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "/bin/busybox") for name in APPLETS),
        file(LOADER[1:], (MUSL / "libc.so").read_bytes(), mode=0o755),
        file("etc/os-release", b'ID=like-alpine\nNAME="Like Alpine"\n'),
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false"),
        file("etc/group", b"root:x:0:\nnobody:x:65534:\n"),
        file("etc/shadow", b"root:*::0:::::\n", mode=0o640, gid=42),
        symlink("sbin", "bin"),
        file("etc/removed", b"by the next layer"),
    ]
    program = [
        file("etc/.wh.removed"),
        directory("opt"),
        file("opt/hello", compile_musl(HELLO, work, static=False), mode=0o755),
        file("sbin/through-a-link", b"#!/bin/sh\necho linked\n", mode=0o755),
    ]
    return make_image(
        [archive(base), archive(program)],
        execution={"Env": ["PATH=/opt:/bin", "FROM_IMAGE=yes", "GREETING=of the image"], "Cmd": ["/bin/sh"]},
    )


def distroless_image(work: Path) -> MadeImage:
    """Return an image of one static program and a user table: no shell, no library, no directory that is not needed."""
    program = compile_musl(ALONE, work, static=True)
    layer = [
        file("app", program, mode=0o755),
        file(
            "etc/passwd", b"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n"
        ),
    ]
    return make_image([archive(layer)], pack=zstd, execution={"Entrypoint": ["/app"], "User": "nonroot"})
