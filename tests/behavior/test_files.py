"""What is no file is never waited for; what is written is whole or not there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.files import check_local, check_readable, check_regular, write_whole
from behavior.flow.memory import prepare
from behavior.guess.files import guess_file
from behavior.shards.folder import open_shards
from behavior.shards.lock import exclusive
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import load_spec
from tests.behavior.logs import make_spec
from tests.models.shards import USERS, WORLD, write_shards

NO_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may read everything")


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    """A test that waits for a pipe fails, and does not hang."""

    def stop(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize(
    ("name", "what"),
    [("pipe", "it is a named pipe"), ("folder", "it is a folder"), ("/dev/null", "it is a device")],
)
def test_what_is_no_file(name: str, what: str, pipe: Path) -> None:
    (pipe.parent / "folder").mkdir()
    path = pipe.parent / name
    with pytest.raises(OSError, match=what):
        check_regular(path)
    with pytest.raises(UserError, match=what):
        check_readable(path, "PATH")
    with pytest.raises(UserError, match=what):
        guess_file(path)
    with pytest.raises(UserError, match=r"not a file|is a folder"):
        load_spec(path)
    if not path.is_dir():
        with pytest.raises(UserError, match=what):
            write_whole(path, b"data", "--png")


def test_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        check_regular(tmp_path / name)
        check_readable(tmp_path / name, "PATH")
    write_whole(tmp_path / "link", b"b", "--png")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "b"
    with pytest.raises(UserError, match="there is no file"):
        check_readable(tmp_path / "none", "PATH")


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://bucket/run/x.csv", "file:///tmp/run", "HDFS://a/b"])
def test_an_address_is_no_folder_of_this_machine(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a path it would be a folder `s3:` here, which nobody looks for."""
    monkeypatch.chdir(tmp_path)
    for path in (url, Path(url), tmp_path / Path(url)):
        with pytest.raises(UserError, match="is an address") as caught:
            check_local(path, "--out")
        assert caught.value.where == "--out"
    with pytest.raises(UserError, match="is an address"):
        write_whole(Path(url), b"data", "--png")
    with pytest.raises(UserError, match="is an address"), exclusive(Folder(str(Path(url)))):
        pass
    assert not list(tmp_path.iterdir())
    check_local(tmp_path / "s3" / "a:b" / "c", "--out")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fails(self: Path, data: bytes) -> None:
        self.write_text("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fails)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            write_whole(path, b"new", "--png")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["manifest.json", "items.parquet", "sequences/part-00000.parquet"])
def test_a_pipe_in_a_data_set_is_refused(name: str, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data", USERS, WORLD)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=r"it is a named pipe|bytes, not"):
        open_shards(folder)


@pytest.mark.parametrize("overwrite", [True, False])
def test_nothing_is_prepared_over_a_pipe(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,i,1\n")
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "manifest.json")
    with pytest.raises(UserError, match="it is a named pipe, not a file"):
        prepare(make_spec(), tmp_path / "out", tmp_path, overwrite=overwrite)


@pytest.mark.parametrize(
    ("name", "what"),
    [("pipe", "is not a file"), (".", "is a folder, not a file"), ("/dev/zero", "is not a file")],
)
def test_input_that_is_no_file_is_refused(name: str, what: str, pipe: Path) -> None:
    for events in ({"files": [name]}, {"files": [str(pipe.parent / name)]}):
        with pytest.raises(UserError, match=what):
            prepare(make_spec(events), pipe.parent / "out", pipe.parent)
    assert not (pipe.parent / "out").exists()


@NO_ROOT
def test_no_permission_is_told_as_such(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data", USERS, WORLD)
    shards = open_shards(folder)
    (folder / "items.parquet").chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        shards.items()
    (folder / "sequences").chmod(0)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            open_shards(folder)
    finally:
        (folder / "sequences").chmod(0o755)


def test_a_size_that_may_not_be_asked_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for the super-user."""
    folder = write_shards(tmp_path / "data", USERS, WORLD)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for method in ("size", "sha256"):
        with monkeypatch.context() as patch:
            shards = open_shards(folder)
            patch.setattr(type(shards.folder), method, denied)
            with pytest.raises(
                UserError, match=r"'items.parquet' cannot be read: Permission denied"
            ) as error:
                shards.items()
            assert error.value.fix == "check the permissions"


@pytest.mark.parametrize("line", ["item," + "x" * 100_000, ",".join(f"column{n}" for n in range(9_000))])
def test_a_message_never_carries_a_long_line_of_input(line: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"{line}\n1,2\n")
    with pytest.raises(UserError) as error:
        prepare(make_spec(), tmp_path / "out", tmp_path)
    assert "there is no column 'user'" in error.value.what
    assert "characters more)" in str(error.value)
    assert len(str(error.value)) < 2_000
