"""The tiny guest of `accelerator`: enters long mode, takes an exception, works for a moment and says that it did.

Its source is probe_guest.S beside this file; a test assembles it and compares.
"""

import struct

CODE = bytes.fromhex(
    "fcbf0000200031c0b9000c0000f3abc7050000200003102000c7050010200003202000c7050020200083000000c70508202000830020"
    "00b8000020000f22d80f20e083c8200f22e0b9800000c00f320d000100000f300f20c00d010000800f22c00f0115c0001000ea6f0010"
    "00080031c08ed88ed0bc00003000bf30002800c707ab00100066c747020800c74704008e10000f011c25c6001000ccb9002d3101ffc9"
    "75fcb02ae6f4f4ebfd48cf0f1f000000000000000000ffff0000009aaf000f00b00010003f000000280000000000"
)

LOAD_ADDRESS = 0x100000
EXIT_PORT = 0xF4
EXIT_STATUS = 2 * 0x2A + 1
"""What QEMU ends with when the guest has come to its end: hw/misc/debugexit.c."""

_PVH_NOTE = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", LOAD_ADDRESS)
"""XEN_ELFNOTE_PHYS32_ENTRY: where a PVH kernel is entered."""


def elf(code: bytes = CODE) -> bytes:
    """Return the guest as the ELF file that QEMU's `-kernel` takes; `code` is entered in 32-bit protected mode."""
    header_size, segment_size = 64, 56
    note_at = header_size + 2 * segment_size
    code_at = note_at + len(_PVH_NOTE)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, LOAD_ADDRESS, header_size, 0, 0, header_size, segment_size, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, code_at, LOAD_ADDRESS, LOAD_ADDRESS, len(code), len(code), 1)
    note = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(_PVH_NOTE), len(_PVH_NOTE), 4)
    return identification + header + load + note + _PVH_NOTE + code
