import os
import sys
import time
from pathlib import Path

import pytest

from lohar.facts import boot_id, cpu_ms, machine_facts, read_table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="facts come from /proc")


def test_a_table_holds_what_is_a_number(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text("MemTotal:  100 kB\noom_kill 3\nodd\nname text\n")
    assert read_table(str(table)) == {"MemTotal:": 100, "oom_kill": 3}
    assert read_table(str(tmp_path / "missing")) == {}


def test_the_machine_is_described_by_what_its_kernel_says() -> None:
    facts = machine_facts()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.memory_total == pages
    assert 0 < facts.memory_available <= facts.memory_total
    assert 0 <= facts.disk_free < facts.disk_total
    assert len(facts.load) == 3
    assert facts.uptime_ms <= time.monotonic_ns() // 1_000_000


def test_processor_time_goes_on() -> None:
    before = cpu_ms()
    began = time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert cpu_ms() - before >= 50


def test_the_boot_id_is_the_kernels() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
