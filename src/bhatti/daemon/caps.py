"""What a user may have at most, and what is said to one who asks for more."""

from collections.abc import Iterable

from bhatti.errors import LimitExceeded
from bhatti.store.sandboxes import Record
from bhatti.store.users import UserRecord

WORDS = {
    "max_sandboxes": ("sandboxes", "sandbox-limit"),
    "max_cpus": ("CPUs in all", "cpu-limit"),
    "max_memory_mb": ("MiB of memory in all", "memory-limit"),
    "max_volume_storage_mb": ("MiB of volumes in all", "volume-limit"),
    "max_images": ("images", "image-limit"),
    "max_snapshots": ("snapshots", "snapshot-limit"),
    "max_published": ("published ports", "publish-limit"),
}
"""Of each cap: what it counts, and the code of its error."""


def check(user: UserRecord, cap: str, taken: int, asked: int = 1) -> None:
    """Raise `LimitExceeded` if `asked` more than `taken` is more than `user` may have by the cap of that name."""
    most: int | None = getattr(user.caps, cap)
    if most is None or taken + asked <= most:
        return
    what, code = WORDS[cap]
    left = max(0, most - taken)
    raise LimitExceeded(
        f"user {user.name!r} may have {most} {what}: {taken} taken, {asked} more asked for",
        hint=f"{f'ask for {left} at most' if left else 'remove something first'}, or have the administrator raise it: "
        f"bhatti user update {user.name} --{cap.replace('_', '-')} {taken + asked}",
        code=code,
    )


def check_sandbox(user: UserRecord, record: Record, owned: Iterable[Record]) -> None:
    """Raise `LimitExceeded` if the user may not have `record` beside those that they own. Running or not, all count:
    what sleeps can be woken by anybody's request, which should not fail."""
    before = list(owned)
    check(user, "max_sandboxes", len(before))
    check(user, "max_cpus", sum(other.spec.cpus for other in before), record.spec.cpus)
    check(user, "max_memory_mb", sum(other.spec.memory_mib for other in before), record.spec.memory_mib)
