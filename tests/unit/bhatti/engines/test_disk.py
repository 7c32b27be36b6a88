import errno
from pathlib import Path

import pytest

from bhatti.engines.disk import disk_errors_explained
from bhatti.errors import OutOfSpace


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_out_of_space(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutOfSpace, match="is full"), disk_errors_explained(tmp_path):
        raise OSError(number, "no space")


def test_other_disk_errors_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_errors_explained(tmp_path):
        raise PermissionError(errno.EACCES, "no")
