import hashlib
import io

import pytest

from bhatti.errors import CorruptData
from bhatti.images.oci.digest import Verifier, check_bytes, check_file, digest_of, hex_part, is_digest

SHA256 = "sha256:" + hashlib.sha256(b"content").hexdigest()
SHA512 = "sha512:" + hashlib.sha512(b"content").hexdigest()


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_content_passes_by_both_registered_algorithms(digest: str) -> None:
    assert is_digest(digest)
    check_bytes(b"content", digest, "a blob", "test")
    assert digest_of(b"content", like=digest) == digest


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:" + "0" * 32, SHA256 + "\n", "../" + SHA256,
     "sha256:" + "0" * 128, "sha512:" + "0" * 64],
)  # fmt: skip
def test_what_could_be_a_path_or_an_unknown_algorithm_is_no_digest(text: str) -> None:
    assert not is_digest(text)


def test_other_content_is_refused_with_both_digests_in_the_message() -> None:
    with pytest.raises(CorruptData, match="a blob of test is not what it is said to be") as caught:
        check_bytes(b"other", SHA256, "a blob", "test")
    assert caught.value.code == "digest-mismatch"
    assert SHA256 in caught.value.message
    assert digest_of(b"other") in caught.value.message


def test_a_file_is_checked_from_its_beginning_and_left_there() -> None:
    file = io.BytesIO(b"content")
    file.seek(3)
    check_file(file, SHA256, "a blob", "test")
    assert file.tell() == 0
    file.write(b"C")
    with pytest.raises(CorruptData):
        check_file(file, SHA256, "a blob", "test")


def test_a_verifier_counts_and_matches_only_at_the_end() -> None:
    verifier = Verifier(SHA256)
    verifier.update(b"con")
    assert not verifier.matches()
    verifier.update(b"tent")
    assert (verifier.matches(), verifier.size_bytes) == (True, 7)


def test_the_hexadecimal_part_is_what_blobs_are_called() -> None:
    assert hex_part(SHA256) == SHA256[7:]
