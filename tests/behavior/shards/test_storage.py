"""The same must hold of a local folder, of a remote one, and of one of a real object store's kind."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from behavior.errors import UserError
from behavior.shards.errors import explained
from behavior.shards.storage import Folder, as_folder


class _Upload(AbstractBufferedFile):
    """A file of an object store: blocks go up one by one, and the last one makes the object appear."""

    def _initiate_upload(self) -> None:
        self.parts: list[bytes] = []

    def _upload_chunk(self, final: bool = False) -> bool:
        self.parts.append(self.buffer.getvalue())
        if final:
            self.fs.store[self.path] = b"".join(self.parts)
        return True

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.store[self.path][start:end]

    def discard(self) -> None:
        _Bucket.discarded += 1


class _Bucket(fsspec.AbstractFileSystem):
    """A store without folders and without rename, which remembers its listings."""

    protocol = "s3a"
    store: dict[str, bytes] = {}
    discarded = 0

    def ls(self, path: str, detail: bool = True, **_: object) -> list:
        path = self._strip_protocol(path).rstrip("/")
        found = {}
        for key, data in self.store.items():
            if key == path:
                found[key] = {"name": key, "size": len(data), "type": "file"}
            elif key.startswith(path + "/"):
                rest = key[len(path) + 1 :]
                name = f"{path}/{rest.partition('/')[0]}"
                kind = "directory" if "/" in rest else "file"
                found[name] = {"name": name, "size": 0 if "/" in rest else len(data), "type": kind}
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def _open(self, path: str, mode: str = "rb", block_size: int = 1000, **_: object) -> _Upload:  # type: ignore[override]
        return _Upload(self, path, mode, 1000)

    def cp_file(self, path1: str, path2: str, **_: object) -> None:
        if path1 not in self.store:
            raise FileNotFoundError(path1)
        self.store[path2] = self.store[path1]

    def _rm(self, path: str) -> None:
        if self.store.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)

    rm_file = _rm

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        for each in self.find(path):
            self._rm(each)

    def mkdir(self, *_: object, **__: object) -> None:
        raise AssertionError("an object store has no folders")

    makedirs = mkdir


@pytest.fixture(params=["local", "memory", "bucket"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Folder]:
    if request.param == "local":
        yield Folder(str(tmp_path / "out"))
    elif request.param == "memory":
        here = Folder(f"memory://{uuid.uuid4().hex}/out")
        yield here
        here.remove_tree()
    else:
        monkeypatch.setattr(_Bucket, "store", {})
        monkeypatch.setattr(_Bucket, "discarded", 0)
        fsspec.register_implementation("s3a", _Bucket, clobber=True)
        yield Folder("s3a://bucket/out")
        fsspec.register_implementation("s3a", "s3fs.S3FileSystem", clobber=True)


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.make()
    folder.write_bytes("a/b/c.bin", b"\x00\x01")
    folder.write_text("note.txt", "Grüße\n")
    assert folder.read_bytes("a/b/c.bin") == b"\x00\x01"
    assert folder.read_text("note.txt") == "Grüße\n"
    assert (folder.exists("note.txt"), folder.exists("a/b/c.bin"), folder.exists("b")) == (True, True, False)
    assert folder.size("a/b/c.bin") == 2
    assert folder.names() == ["a/b/c.bin", "note.txt"]
    with folder.open("note.txt") as file:
        file.seek(2)
        assert file.read(2) == "ü".encode()


def test_writing_replaces(folder: Folder) -> None:
    folder.write_text("x", "a longer first text")
    folder.write_text("x", "second")
    with folder.create("y") as file:
        file.write(b"1")
    with folder.create("y") as file:
        file.write(b"22")
    assert folder.read_text("x") == "second"
    assert folder.read_bytes("y") == b"22"


def test_nothing_is_there_of_a_missing_folder(folder: Folder) -> None:
    assert folder.names() == []
    assert folder.names("sequences/") == []
    assert not folder.exists("x")
    for read in (folder.size, folder.read_bytes, folder.input_file):
        with pytest.raises(FileNotFoundError):
            read("x")


def test_names_by_prefix(folder: Folder) -> None:
    for name in ("sequences/part-0", "sequences/part-1", "sequences.txt", "rejected/a", "z"):
        folder.write_text(name, name)
    assert folder.names("sequences/") == ["sequences/part-0", "sequences/part-1"]
    assert folder.names("sequences") == ["sequences.txt", "sequences/part-0", "sequences/part-1"]
    assert folder.names("rejected/a") == ["rejected/a"]
    assert folder.names("nowhere/") == []


def test_another_process_s_files_are_seen(folder: Folder) -> None:
    assert folder.names() == []
    assert not folder.exists("late")
    pickle.loads(pickle.dumps(folder)).write_text("late", "1")
    assert folder.exists("late")
    assert folder.names() == ["late"]


def test_remove(folder: Folder) -> None:
    for name in ("a/1", "a/2", "b"):
        folder.write_text(name, name)
    folder.remove("a/1")
    folder.remove("a/1")
    assert folder.names() == ["a/2", "b"]
    folder.remove_tree("a")
    folder.remove_tree("a")
    assert folder.names() == ["b"]
    folder.remove_tree("b")
    assert folder.names() == []
    folder.write_text("c/d/e", "")
    folder.remove_tree()
    folder.remove_tree()
    assert folder.names() == []


def test_rename_replaces(folder: Folder) -> None:
    folder.write_text("staging/new", "new")
    folder.write_text("final/x", "old")
    folder.rename("staging/new", "final/x")
    assert folder.names() == ["final/x"]
    assert folder.read_text("final/x") == "new"
    folder.rename("final/x", "elsewhere/x")
    assert folder.names() == ["elsewhere/x"]
    with pytest.raises(FileNotFoundError):
        folder.rename("nothing", "x")


@pytest.mark.parametrize("sizes", [[], [0], [5], [1, 2, 3], [999, 1, 4000, 7]])
def test_checksum_and_size_of_what_was_written(folder: Folder, sizes: list[int]) -> None:
    parts = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    with folder.create("deep/er/file") as file:
        for part in parts:
            assert file.write(part) == len(part)
            file.flush()
    data = b"".join(parts)
    assert folder.read_bytes("deep/er/file") == data
    assert (file.sha256, file.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert folder.sha256("deep/er/file") == file.sha256


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("size", [0, 10, 5000])
def test_an_error_leaves_what_was_there(folder: Folder, error: type[BaseException], size: int) -> None:
    folder.write_text("x", "before")
    for name in ("x", "deep/y"):
        with pytest.raises(error), folder.create(name) as file:  # noqa: PT012
            file.write(b"1" * size)
            raise error
    del file
    gc.collect()
    assert folder.names() == ["x"]
    assert folder.read_text("x") == "before"


def test_a_discarded_upload_is_given_up(folder: Folder) -> None:
    if not folder.url.startswith("s3a://"):
        pytest.skip("uploads are of object stores")
    with pytest.raises(RuntimeError), folder.create("x") as file:  # noqa: PT012
        file.write(b"1" * 5000)
        raise RuntimeError
    assert _Bucket.discarded == 1


def test_a_file_is_not_seen_before_it_is_whole(folder: Folder) -> None:
    with folder.create("part-0.parquet") as file:
        file.write(b"1" * 5000)
        assert not folder.exists("part-0.parquet")
        assert not [name for name in folder.names() if name.endswith(".parquet")]
    assert folder.names() == ["part-0.parquet"]


def test_parquet_and_arrow_through_it(folder: Folder) -> None:
    table = pa.table({"id": pa.array(range(5000)), "name": [str(n) for n in range(5000)]})
    with folder.create("t.parquet") as file:
        pq.write_table(table, file, row_group_size=1000)
    with folder.create("t.arrow") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with folder.input_file("t.parquet") as source:
        assert pq.read_table(source, columns=["name"]).equals(table.select(["name"]))
    with folder.input_file("t.arrow") as source:
        assert pa.ipc.open_file(source).read_all().equals(table)
    assert folder.sha256("t.arrow") == file.sha256


def test_it_travels(folder: Folder) -> None:
    folder.write_text("x", "1")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder
    assert copy.read_text("x") == "1"
    assert len(pickle.dumps(folder)) < 300


def test_children_and_words(folder: Folder) -> None:
    child = folder.child("a/b")
    child.write_text("c", "1")
    assert folder.names() == ["a/b/c"]
    assert str(child) == f"{folder}/a/b"
    assert folder.where("x") == f"{folder.url}/x"


@pytest.mark.parametrize("name", ["ключ/Straße 1.txt", "größe=%20&#?.txt", "日本/part-*[1].txt"])
def test_any_name(folder: Folder, name: str) -> None:
    folder.write_text(name, "1")
    with folder.create(name) as file:
        file.write(b"2")
    assert folder.names() == [name]
    assert folder.exists(name)
    assert folder.read_text(name) == "2"
    folder.remove(name)
    assert folder.names() == []


def test_the_longest_name(folder: Folder) -> None:
    name = "x" * 255
    folder.write_text(name, "1")
    assert folder.names() == [name]


def test_a_folder_that_is_a_file_has_no_files(folder: Folder) -> None:
    folder.write_text("x", "1")
    assert folder.child("x").names() == []


def test_removing_a_tree_with_a_star_in_its_name(folder: Folder) -> None:
    for name in ("a*/1", "ab/1"):
        folder.write_text(name, name)
    folder.remove_tree("a*")
    assert folder.names() == ["ab/1"]


def test_local_folders_have_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("x", "./x", f"file://{tmp_path}/x", f"local://{tmp_path}/x", f"{tmp_path}/x/"):
        assert Folder(url).path == tmp_path / "x"
        assert str(Folder(url)) == str(tmp_path / "x")
        assert Folder(url).is_local
    assert as_folder(tmp_path) == as_folder(str(tmp_path)) == as_folder(Folder(str(tmp_path)))


def test_remote_folders_have_none() -> None:
    folder = Folder("memory://x/")
    assert str(folder) == "memory://x"
    assert not folder.is_local
    with pytest.raises(ValueError, match="not a local folder"):
        folder.path  # noqa: B018


def test_errors_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UserError, match=r"pip install 'lrm-kit\[s3\]'"):
        Folder("s3://bucket/x").names()
    with pytest.raises(UserError, match=r"pip install 'lrm-kit\[gcp\]'"):
        Folder("gs://bucket/x").write_text("a", "b")


def test_what_a_store_forbids_is_said_as_of_a_local_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's has an error without a number for it, with the reason on a line of its own."""
    said = "Forbidden: https://storage.googleapis.com/b/o\nworkers@x has no storage.objects.create access"

    def forbid(*_: object, **__: object) -> None:
        raise OSError(said)

    folder = Folder("memory://forbidden")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", forbid)
    with pytest.raises(PermissionError) as error:
        folder.read_bytes("a")
    assert error.value.errno == errno.EACCES
    told = explained(error.value, folder)
    assert told is not None
    assert told.what == said.replace("\n", " ")
    assert told.fix == "check the permissions"


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(UserError, match="'nonsense://' cannot be used"):
        Folder("nonsense://x").exists("y")
    with pytest.raises(UserError, match="empty"):
        Folder("")


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = Folder(str(tmp_path))
    real = Path.open

    def open_full(path: Path, mode: str = "r", **options: object) -> object:
        real(path, mode, **options).close()  # type: ignore[call-overload]
        return Full()

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="No space left") as caught:
        folder.write_text("x", "1")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_the_memory_system_is_the_plain_one() -> None:
    assert isinstance(fsspec.filesystem("memory"), MemoryFileSystem)
