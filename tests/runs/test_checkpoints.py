"""Checkpoints are whole, verified and harmless."""

import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch

from gradkit.errors import CheckpointError
from gradkit.runs.checkpoints import Checkpoints, load


def state(value: float) -> dict[str, object]:
    return {"model": {"w": torch.tensor(value)}, "step": int(value)}


def test_the_latest_checkpoint_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (5, 10):
        checkpoints.save_step(step, state(step))
    found, damaged = checkpoints.latest()
    assert found["step"] == 10
    assert found["model"]["w"] == 10
    assert damaged == []


def test_only_the_newest_are_kept_with_their_checksums(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        checkpoints.save_step(step, state(step))
    checkpoints.save_best(state(9))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "best.pt",
        "best.sha256",
        "step-000000003.pt",
        "step-000000003.sha256",
        "step-000000004.pt",
        "step-000000004.sha256",
    ]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no checksum"])
def test_a_damaged_checkpoint_is_found_and_the_previous_one_used(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_step(1, state(1))
    checkpoints.save_step(2, state(2))
    newest = tmp_path / "step-000000002.pt"
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(content[:-7])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        newest.with_suffix(".sha256").unlink()
    found, damaged = checkpoints.latest()
    assert found["step"] == 1
    assert len(damaged) == 1
    assert "step-000000002" in damaged[0]


def test_no_checkpoint_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No usable checkpoint"):
        Checkpoints(tmp_path / "missing").latest()


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (canary,))

    buffer = io.BytesIO()
    torch.save({"model": Payload()}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Payload()), b"PK\x03\x04 nothing", b""):
        path = tmp_path / "step-000000001.pt"
        path.write_bytes(content)
        path.with_suffix(".sha256").write_text(hashlib.sha256(content).hexdigest())
        with pytest.raises(CheckpointError, match="no checkpoint of plain tensors"):
            load(path)
    assert not canary.exists()


def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_step(1, state(1))

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradkit.runs.checkpoints.write_atomically", refuse)
    checkpoints.save_step(2, state(2))
    checkpoints.save_step(3, state(3))
    assert checkpoints.latest()[0]["step"] == 1
    assert capfd.readouterr().err.count("checkpoints") == 1


def test_an_old_checkpoint_that_cannot_be_removed_is_said_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    (tmp_path / "step-000000001.pt").mkdir()
    for step in (2, 3):
        checkpoints.save_step(step, state(step))
    assert "cannot write checkpoints" in capsys.readouterr().err
    assert checkpoints.latest()[0]["step"] == 3
