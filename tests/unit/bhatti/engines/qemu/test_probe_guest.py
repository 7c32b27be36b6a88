import shutil
import subprocess
from pathlib import Path

import pytest

from bhatti.engines.qemu import probe_guest

SOURCE = Path(probe_guest.__file__).with_name("probe_guest.S")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to assemble the tiny guest")
def test_the_code_is_what_the_source_assembles_to(tmp_path: Path) -> None:
    def run(*command: str) -> None:
        subprocess.run(command, cwd=tmp_path, check=True)

    run("gcc", "-c", "-m64", str(SOURCE), "-o", "probe.o")
    run("ld", "-m", "elf_x86_64", "-Ttext=0x100000", "-e", "start", "probe.o", "-o", "probe.elf")
    run("objcopy", "-O", "binary", "-j", ".text", "probe.elf", "probe.bin")
    assert (tmp_path / "probe.bin").read_bytes() == probe_guest.CODE


def test_the_elf_file_has_the_code_where_its_header_says() -> None:
    elf = probe_guest.elf()
    assert elf.startswith(b"\x7fELF")
    load_offset = int.from_bytes(elf[64 + 8 : 64 + 16], "little")
    assert elf[load_offset:] == probe_guest.CODE
