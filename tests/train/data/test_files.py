"""Files that are not there or not files, fingerprints, and memory."""

import os

import pytest

from gradkit.errors import DataError
from gradkit.train.data import files
from gradkit.train.data.files import checked_file, fingerprint, one_line, quoted, require_memory, translated


def refused(path, key="path"):
    with pytest.raises(DataError) as caught:
        checked_file(str(path), key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_gets_the_nearest_name_in_its_folder(tmp_path):
    (tmp_path / "wages.csv").write_text("a")
    message = refused(tmp_path / "wage.csv", "targets")
    assert message.startswith("data.targets=")
    assert message.endswith("no such file. Did you mean 'wages.csv'?")
    assert refused(tmp_path / "zzz").endswith("no such file.")
    assert "does not exist" in refused(tmp_path / "nowhere" / "wages.csv")
    assert "no such file" in refused(tmp_path / "wages.csv" / "x")


def test_what_is_not_a_regular_file_with_content_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert "is a folder, expected a file" in refused(tmp_path)
    assert "is empty (0 bytes)" in refused(tmp_path / "empty")
    assert "is a pipe, socket or device" in refused(tmp_path / "pipe")
    assert "is a pipe, socket or device" in refused("/dev/null")
    assert "no such file" in refused(tmp_path / "dangling")


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "~no_such_user_here/x", ""])
def test_paths_that_cannot_be_paths_are_refused(path):
    refused(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_text("a")
    path.chmod(0)
    assert "no permission" in refused(path)


def test_the_fingerprint_is_the_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    # sha256sum of "abc", FIPS 180-2 appendix B.1.
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint([path]) == (expected, None)
    assert fingerprint([path, path])[0] not in (expected, None)


def test_a_large_file_is_sampled_and_the_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SAMPLED_BLOCK_BYTES", 16)
    path = tmp_path / "x"
    data = bytearray(os.urandom(100_000))
    path.write_bytes(data)
    identity, note = fingerprint([path], full_bytes=1000)
    assert identity.startswith("sha256-sampled:")
    assert "not every byte" in note
    for place in (0, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert fingerprint([path], full_bytes=1000)[0] != identity
    path.write_bytes(data[:-1] + data[-2:])
    assert fingerprint([path], full_bytes=1000)[0] != identity


def test_reader_errors_become_one_line_and_others_pass():
    with pytest.raises(DataError, match=r"^here: cannot be read as CSV: a b\.$"), translated("here", "CSV"):
        raise ValueError("a\n  b.")
    with pytest.raises(DataError, match="does not fit in memory"), translated("here", "CSV"):
        raise MemoryError
    with pytest.raises(DataError, match=r"^mine$"), translated("here", "CSV"):
        raise DataError("mine")
    with pytest.raises(AssertionError), translated("here", "CSV"):
        raise AssertionError
    with pytest.raises(DataError), translated("here", "CSV", AssertionError):
        raise AssertionError


def test_messages_stay_short():
    assert len(one_line(ValueError("x" * 1000))) == 200
    assert one_line(ValueError()) == "ValueError"
    assert quoted(list("abcdefgh"), 3) == "'a', 'b', 'c' and 5 more"
    assert len(quoted(["x" * 1000])) == 60


def test_memory_is_compared_with_what_the_machine_has(monkeypatch):
    monkeypatch.setattr(files, "total_memory", lambda: 2**30)
    require_memory(2**30, "here")
    with pytest.raises(DataError, match=r"^here: needs 1\.5 GiB of memory, this machine has 1\.0 GiB\.$"):
        require_memory(3 * 2**29, "here")
    monkeypatch.setattr(files, "total_memory", lambda: None)
    require_memory(2**60, "here")


def test_this_machine_knows_its_memory():
    total = files.total_memory()
    assert total is None or 2**27 < total < 2**50
