"""What holds of every folder must hold of S3, as a server on this machine plays it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from behavior.shards.storage import Folder
from tests.behavior.shards.test_storage import (  # noqa: F401
    test_a_file_is_not_seen_before_it_is_whole,
    test_a_folder_that_is_a_file_has_no_files,
    test_an_error_leaves_what_was_there,
    test_another_process_s_files_are_seen,
    test_any_name,
    test_checksum_and_size_of_what_was_written,
    test_children_and_words,
    test_it_travels,
    test_names_by_prefix,
    test_nothing_is_there_of_a_missing_folder,
    test_parquet_and_arrow_through_it,
    test_remove,
    test_removing_a_tree_with_a_star_in_its_name,
    test_rename_replaces,
    test_what_is_written_is_read,
    test_writing_replaces,
)

s3fs = pytest.importorskip("s3fs", reason="needs s3fs and moto[server]")
moto = pytest.importorskip("moto.server", reason="needs s3fs and moto[server]")

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The url of a bucket of a server on the loopback interface."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "of-the-test",
        "AWS_SECRET_ACCESS_KEY": "of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        s3fs.S3FileSystem.clear_instance_cache()
        name = f"bucket-{uuid.uuid4().hex}"
        s3fs.S3FileSystem().mkdir(name)
        yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def folder(bucket: str) -> Folder:
    return Folder(f"{bucket}/out-{next(_NUMBERS)}")


def uploads(folder: Folder) -> list[dict]:
    """Uploads that were begun and neither completed nor given up."""
    name = folder.url.removeprefix("s3://").partition("/")[0]
    answer = s3fs.S3FileSystem().call_s3("list_multipart_uploads", Bucket=name)
    return list(answer.get("Uploads", []))


@pytest.mark.parametrize("megabytes", [1, 120])
def test_no_part_of_a_failed_upload_stays(folder: Folder, megabytes: int) -> None:
    with pytest.raises(RuntimeError), folder.create("x") as file:  # noqa: PT012
        for _ in range(megabytes):
            file.write(b"1" * (1 << 20))
        assert bool(uploads(folder)) == (megabytes > 50)
        raise RuntimeError
    assert uploads(folder) == []
    assert folder.names() == []


def test_a_large_upload_in_parts(folder: Folder) -> None:
    with folder.create("x") as file:
        for number in range(120):
            file.write(bytes([number]) * (1 << 20))
    assert folder.size("x") == file.bytes == 120 << 20
    assert folder.sha256("x") == file.sha256
    assert uploads(folder) == []


def test_a_whole_bucket_is_emptied_and_not_removed(bucket: str) -> None:
    s3fs.S3FileSystem().mkdir("bucket-of-its-own")
    folder = Folder("s3://bucket-of-its-own")
    folder.write_text("a/b", "1")
    folder.remove_tree()
    assert folder.names() == []
    folder.write_text("a/b", "2")
    assert folder.names() == ["a/b"]


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    folder = Folder(f"s3://nowhere-{uuid.uuid4().hex}/out")
    assert folder.names() == []
    assert not folder.exists("x")
    with pytest.raises(FileNotFoundError):
        folder.read_text("x")
    with pytest.raises(OSError, match=r"(?i)bucket"):
        folder.write_text("x", "1")
    with pytest.raises(OSError, match=r"(?i)bucket"), folder.create("x") as file:
        file.write(b"1")


def test_no_credentials_is_an_error_for_the_user(bucket: str, tmp_path: Path) -> None:
    code = (
        "from behavior.errors import UserError\n"
        "from behavior.shards.storage import Folder\n"
        f"folder = Folder('{bucket}/x')\n"
        "for act in (lambda: folder.write_text('a', 'b'), lambda: folder.read_text('a')):\n"
        "    try:\n"
        "        act()\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    hidden = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    env |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.count("the storage cannot be used: Unable to locate credentials") == 2
