"""A file system image as a tar archive, made while it is read: what Docker imports, without a copy on the disk.

Owners, permissions with setuid, hard links, device nodes and file capabilities are kept. Times are those of the image.
"""

import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from bhatti.engines.docker.ext4 import ROOT_INODE, Ext4, Inode, NotReadable, kind_of

KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
"""Sockets are left out: nobody listens at one in an image, and tar has no kind for them."""

MAX_DEPTH = 128
"""Directories below directories; a damaged image could have a loop."""

LEFT_OUT = b"lost+found"
"""At the top of every ext4 file system, and no part of what was put into it."""


def walk(image: Ext4) -> Iterator[tuple[bytes, Inode]]:
    """Yield path (`usr/bin/env`) and inode of everything below the root, each directory before what is in it."""
    yield from _walk(image, b"", image.inode(ROOT_INODE), 0)


def _walk(image: Ext4, folder: bytes, directory: Inode, depth: int) -> Iterator[tuple[bytes, Inode]]:
    if depth > MAX_DEPTH:
        raise NotReadable(f"directories are nested more than {MAX_DEPTH} deep")
    for name, number in image.entries(directory):
        if depth == 0 and name == LEFT_OUT:
            continue
        inode = image.inode(number)
        path = folder + name
        yield path, inode
        if kind_of(inode) == stat.S_IFDIR:
            yield from _walk(image, path + b"/", inode, depth + 1)


def tar_pieces(path: Path) -> Iterator[bytes]:
    """Yield the archive of the image at `path`, piece by piece. Blocks while it reads. Raises `NotReadable`."""
    first_names: dict[int, str] = {}
    with Ext4(path) as image:
        for raw_name, inode in walk(image):
            if kind_of(inode) not in KINDS:
                continue
            name = raw_name.decode("utf-8", "surrogateescape")
            header = _header(image, name, inode)
            if inode.links > 1 and header.isreg():
                if inode.number in first_names:
                    header.type, header.size, header.linkname = tarfile.LNKTYPE, 0, first_names[inode.number]
                    header.pax_headers = {}
                else:
                    first_names[inode.number] = name
            yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            if header.isreg():
                yield from image.content(inode)
                yield bytes(-header.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(image: Ext4, name: str, inode: Inode) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type = KINDS[kind_of(inode)]
    header.mode = stat.S_IMODE(inode.mode)
    header.uid, header.gid = inode.uid, inode.gid
    header.mtime = inode.mtime
    if header.isreg():
        header.size = inode.size
    elif header.issym():
        header.linkname = image.link_target(inode).decode("utf-8", "surrogateescape")
    elif header.ischr() or header.isblk():
        header.devmajor, header.devminor = inode.device
    header.pax_headers = {
        # The name that GNU tar, libarchive and Docker agree on.
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape")
        for key, value in image.xattrs(inode).items()
    }
    return header
