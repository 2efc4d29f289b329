"""Downloads from a server in this process that breaks off, forgets ranges, changes files, or says no."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest

from behavior import datasets
from behavior.config import read_yaml
from behavior.datasets import fetch as fetch_module
from behavior.datasets import web
from behavior.datasets.disk import make_folder, open_to_write, write
from behavior.datasets.download import download
from behavior.datasets.fetch import fetch
from behavior.datasets.sources import Check, Source, SourceFile, layout_of, source_of, spec_of
from behavior.datasets.unpack import unpack
from behavior.errors import UserError

CONTENT = bytes(range(256)) * 12_000  # three blocks of a megabyte
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class FileServer:
    """Serves `files`; what it does badly is set by the test.

    Attributes:
        files: content by path.
        etag: the version it claims; None for none.
        ranges: whether it can send a part.
        heeds: whether it looks at If-Range.
        cuts: for each of the next requests, after how many bytes it hangs up.
        statuses: for each of the next requests, what it answers instead.
        asked: range and condition of each request.
    """

    files: dict[str, bytes]
    etag: str | None = '"one"'
    ranges: bool = True
    heeds: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def handler_of(state: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.headers["Range"], self.headers["If-Range"]))
            if state.statuses:
                self.answer(state.statuses.pop(0), {"Retry-After": "7"})
            elif self.path not in state.files:
                self.answer(404)
            else:
                self.send_file(state.files[self.path])

        def do_HEAD(self) -> None:
            state.asked.append(("HEAD", None))
            self.send_response(200 if self.path in state.files else 404)
            self.send_header("Content-Length", str(len(state.files.get(self.path, b""))))
            self.end_headers()

        def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            limit = state.cuts.pop(0) if state.cuts else len(body)
            self.wfile.write(body[:limit])

        def send_file(self, content: bytes) -> None:
            headers = {"ETag": state.etag} if state.etag else {}
            match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            condition = self.headers["If-Range"] if state.heeds else None
            if match is None or not state.ranges or (condition is not None and condition != state.etag):
                self.answer(200, headers, content)
                return
            start = int(match.group(1))
            if start >= len(content):
                self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, headers, content[start:])

        def log_message(self, *_: object) -> None:
            pass

    return Handler


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer({"/data.bin": CONTENT})
    with QuietServer(("127.0.0.1", 0), handler_of(state)) as http:
        state.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def waits() -> list[float]:
    """Seconds that a download would have waited."""
    return []


def get(server: FileServer, folder: Path, waits: list[float], check: Check | None = None) -> str:
    url = f"{server.address}/data.bin"
    return download(url, folder / "data.bin", check or Check(), sleep=waits.append)


def test_a_file_arrives_whole_checked_and_under_its_name_last(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    seen: list[tuple[str, int, int | None]] = []

    def progress(name: str, done: int, total: int | None) -> None:
        assert not target.exists()
        seen.append((name, done, total))

    check = Check(bytes=len(CONTENT), md5=MD5)
    assert download(f"{server.address}/data.bin", target, check, progress=progress) == "md5"
    assert target.read_bytes() == CONTENT
    assert seen[0] == ("data.bin", 0, len(CONTENT))
    assert seen[-1] == ("data.bin", len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize(
    ("check", "how"),
    [
        (Check(), "none"),
        (Check(bytes=len(CONTENT)), "size"),
        (Check(md5=MD5), "md5"),
        (Check(md5=MD5, sha256=SHA256), "sha256"),
    ],
)
def test_the_strongest_check_is_told(
    server: FileServer, tmp_path: Path, waits: list[float], check: Check, how: str
) -> None:
    assert get(server, tmp_path, waits, check) == how


def test_a_broken_transfer_goes_on_where_it_stopped(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    server.cuts = [1_500_000, 100]
    get(server, tmp_path, waits)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.asked == [(None, None), ("bytes=1500000-", '"one"'), ("bytes=1500100-", '"one"')]
    # Each attempt brought something: the pauses do not grow.
    assert waits == [1.0, 1.0]


def test_a_later_call_takes_up_an_interrupted_one(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    def interrupt(name: str, done: int, total: int | None) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.address}/data.bin", tmp_path / "data.bin", Check(), progress=interrupt)
    have = (tmp_path / "data.bin.part").stat().st_size
    assert have > 1_000_000
    get(server, tmp_path, waits)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.asked[1] == (f"bytes={have}-", '"one"')
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_meanwhile_is_not_patched_together(
    server: FileServer, tmp_path: Path, waits: list[float], heeds: bool
) -> None:
    server.heeds = heeds
    server.cuts, server.ranges = [1_000] * 5, False  # five beginnings, no progress
    with pytest.raises(
        UserError, match="the download failed: the connection broke off after 1,000 of 3,072,000"
    ):
        get(server, tmp_path, waits)
    server.ranges, server.etag, server.cuts = True, '"two"', []
    server.files["/data.bin"] = CONTENT[::-1]
    get(server, tmp_path, waits)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT[::-1]
    assert server.asked[5] == ("bytes=1000-", '"one"')


def test_a_server_without_ranges_is_asked_for_the_whole_again(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    server.ranges, server.cuts = False, [2_000_000]
    get(server, tmp_path, waits)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_without_a_mark_of_the_version_only_a_checksum_allows_going_on(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    server.etag, server.cuts = None, [1_000]
    get(server, tmp_path, waits)
    assert server.asked == [(None, None), (None, None)]
    (tmp_path / "data.bin").unlink()
    server.asked, server.cuts = [], [1_000]
    get(server, tmp_path, waits, Check(sha256=SHA256))
    assert server.asked == [(None, None), ("bytes=1000-", None)]


def test_a_whole_partial_file_is_only_checked(server: FileServer, tmp_path: Path, waits: list[float]) -> None:
    part = tmp_path / "data.bin.part"
    url = f"{server.address}/data.bin"
    part.write_bytes(CONTENT)
    (tmp_path / "data.bin.part.json").write_text(f'{{"url": "{url}", "validator": "\\"one\\""}}')
    assert get(server, tmp_path, waits, Check(md5=MD5)) == "md5"
    assert len(server.asked) == 1


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    with pytest.raises(UserError, match="wrong checksum: md5") as caught:
        get(server, tmp_path, waits, Check(md5="0" * 32))
    assert caught.value.where == f"{server.address}/data.bin"
    assert list(tmp_path.iterdir()) == []


def test_another_size_is_an_error_before_anything_is_downloaded(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    with pytest.raises(UserError, match=r"3,072,000 bytes, the published one has 5"):
        get(server, tmp_path, waits, Check(bytes=5))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_not_asked_for_twice(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    server.files = {}
    with pytest.raises(UserError, match="answers 404") as caught:
        get(server, tmp_path, waits)
    assert "home page" in str(caught.value.fix)
    assert (len(server.asked), waits) == (1, [])


def test_a_busy_server_is_given_the_time_it_asks_for(
    server: FileServer, tmp_path: Path, waits: list[float]
) -> None:
    server.statuses = [503, 429]
    get(server, tmp_path, waits)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert waits == [7.0, 7.0]


def test_no_connection_is_an_error_after_growing_pauses(tmp_path: Path, waits: list[float]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        port = http.server_address[1]
    # Nobody listens there any more.
    with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1") as caught:
        download(f"http://127.0.0.1:{port}/x", tmp_path / "x", Check(), sleep=waits.append)
    assert "network" in str(caught.value.fix)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_a_disk_too_small_is_found_before_the_download(
    server: FileServer, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"'data.bin' needs 3,072,000 bytes, and 1,000 are free"):
        get(server, tmp_path, waits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_disk_that_fills_up_is_an_error_that_says_so() -> None:
    path = Path("/dev/full")
    with pytest.raises(UserError, match="the disk is full") as caught:
        write(open_to_write(path, "wb", buffering=0), b"x", path)
    assert "goes on where it stopped" in str(caught.value.fix)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made") as caught:
        make_folder(tmp_path / "file" / "folder")
    assert caught.value.where == "--out"


def test_redirects_do_not_leave_encryption() -> None:
    follow = web._Redirects().redirect_request
    secure = urllib.request.Request("https://a.example/x")
    with pytest.raises(UserError, match="not safe"):
        follow(secure, None, 302, "Found", {}, "http://b.example/x")
    assert follow(secure, None, 302, "Found", {}, "https://b.example/x") is not None
    plain = urllib.request.Request("http://a.example/x")
    with pytest.raises(UserError, match="not safe"):
        follow(plain, None, 302, "Found", {}, "ftp://b.example/x")


def zip_of(path: Path, **members: bytes) -> Path:
    return zip_of_pairs(path, [(name.replace("__", "/"), content) for name, content in members.items()])


def zip_of_pairs(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_only_the_members_asked_for_are_unpacked(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", set__ratings=b"1", set__movies=b"22", set__README=b"333")
    made = unpack(archive, "zip", ["set/ratings", "*/mov*"], tmp_path)
    assert [(path.name, path.read_bytes()) for path in made] == [("ratings", b"1"), ("movies", b"22")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "movies", "ratings"]


def test_no_member_leaves_the_folder(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    names = ["../../out.txt", "/etc/abs.txt", "..\\..\\win.txt", "x/../y.txt"]
    archive = zip_of_pairs(inner / "a.zip", [(name, b"x") for name in names])
    made = unpack(archive, "zip", ["*"], inner)
    assert [path.name for path in made] == ["out.txt", "abs.txt", "win.txt", "y.txt"]
    assert {path.parent for path in made} == {inner}
    assert {path.name for path in tmp_path.rglob("*.txt")} == {path.name for path in inner.glob("*.txt")}


def test_links_in_a_tar_archive_are_no_files(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for name, content in (("set/data/log_1.csv", b"log"), ("set/LICENSE", b"text")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("set/data/log_2.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    made = unpack(archive, "tar", ["*/data/log_*.csv"], tmp_path)
    assert [(path.name, path.read_bytes()) for path in made] == [("log_1.csv", b"log")]
    with pytest.raises(UserError, match=r"no file '\*/users.csv'"):
        unpack(archive, "tar", ["*/users.csv"], tmp_path)


def test_damaged_archives_and_names_in_the_way_are_errors(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"PK nothing")
    for kind in ("zip", "tar"):
        with pytest.raises(UserError, match="the archive is damaged"):
            unpack(damaged, kind, ["*"], tmp_path)
    whole = zip_of(tmp_path / "whole.zip", a=b"x" * 100_000).read_bytes()
    for name, content in (("cut.tar.gz", b"\x1f\x8b\x08\x00"), ("cut.zip", whole[:-30])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="the archive is damaged"):
            unpack(tmp_path / name, "zip" if name.endswith("zip") else "tar", ["*"], tmp_path)
    twice = zip_of(tmp_path / "twice.zip", a__x=b"1", b__x=b"2")
    with pytest.raises(UserError, match="two files called 'x'"):
        unpack(twice, "zip", ["*"], tmp_path)
    (tmp_path / "mine").write_text("something else")
    with pytest.raises(UserError, match="is there already"):
        unpack(zip_of(tmp_path / "b.zip", mine=b"x"), "zip", ["mine"], tmp_path)
    assert (tmp_path / "mine").read_text() == "something else"


@pytest.fixture
def source(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A zip file with two members on the server, as the source of every ready spec."""
    archive = zip_of(tmp_path / "ml.zip", ml__ratings=b"1::2::3", ml__movies=b"2::x").read_bytes()
    server.files["/ml.zip"] = archive
    found = Source(
        files=[
            SourceFile(url=f"{server.address}/ml.zip", unpack="zip", members=["ml/ratings"]),
            SourceFile(url=f"{server.address}/{{variant}}.bin"),
        ],
        variants=["data", "more"],
        checks={"ml.zip": Check(md5=hashlib.md5(archive).hexdigest())},
    )
    monkeypatch.setattr(fetch_module, "source_of", lambda name: found)
    return found


def test_fetching_downloads_checks_and_unpacks(server: FileServer, source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first, second = fetch("ml-1m", folder, variant="data")
    assert (first.path, first.verified, first.was_there) == (folder / "ml.zip", "md5", False)
    assert first.members == [folder / "ratings"]
    assert (folder / "ratings").read_bytes() == b"1::2::3"
    assert (second.path.read_bytes(), second.verified, second.members) == (CONTENT, "none", [])
    assert sorted(path.name for path in folder.iterdir()) == ["data.bin", "ml.zip", "ratings"]


def test_fetching_again_downloads_nothing(server: FileServer, source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    fetch("ml-1m", folder, variant="data")
    (folder / "ratings").unlink()
    server.asked.clear()
    again = fetch("ml-1m", folder, variant="data")
    assert [(file.was_there, file.verified) for file in again] == [(True, "md5"), (True, "size")]
    # Nothing is published about the second file: the server is asked for its size.
    assert server.asked == [("HEAD", None)]
    assert (folder / "ratings").exists()
    (folder / "ml.zip").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is there already and is not the published file: wrong checksum"):
        fetch("ml-1m", folder, variant="data")


def test_another_variant_of_the_same_name_is_not_taken_for_this_one(
    server: FileServer, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Source(files=[SourceFile(url=f"{server.address}/{{variant}}/log.bin")], variants=["s", "m", "?"])
    monkeypatch.setattr(fetch_module, "source_of", lambda name: sizes)
    server.files |= {"/s/log.bin": b"small", "/m/log.bin": b"medium"}
    fetch("ml-1m", tmp_path, variant="s")
    with pytest.raises(UserError, match="the file has 5 bytes, the published one 6"):
        fetch("ml-1m", tmp_path, variant="m")
    # A server that tells nothing cannot contradict.
    assert [file.verified for file in fetch("ml-1m", tmp_path, variant="?")] == ["none"]


def test_variants_must_be_right(source: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has variants") as caught:
        fetch("ml-1m", tmp_path)
    assert "data, more" in str(caught.value.fix)
    with pytest.raises(UserError, match="no variant 'dat'") as caught:
        fetch("ml-1m", tmp_path, variant="dat")
    assert "did you mean 'data'" in str(caught.value.fix)


def test_what_a_program_may_not_fetch_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="by hand: register at Tianchi") as caught:
        fetch("tmall", tmp_path / "out")
    assert caught.value.where == spec_of("tmall").homepage
    assert "user_log_format1.csv, user_info_format1.csv" in str(caught.value.fix)
    assert not (tmp_path / "out").exists()


def test_every_ready_spec_has_a_source_and_every_source_a_spec() -> None:
    assert sorted(read_yaml(datasets.SOURCES)) == datasets.names()
    for name in datasets.names():
        source, spec = source_of(name), spec_of(name)
        assert spec.name == name
        assert spec.description
        assert spec.license
        assert spec.homepage.startswith("https://")
        assert all(file.url.startswith("https://") for file in source.files)


@pytest.mark.parametrize("name", [name for name in datasets.names() if source_of(name).files])
def test_what_is_fetched_is_what_the_spec_reads(name: str) -> None:
    source, layout = source_of(name), layout_of(spec_of(name))
    for variant in source.variants or [None]:
        files = source.files_of(variant)
        names = [PurePosixPath(path).name for file in files for path in file.members or [file.name]]
        # A pattern of members is one of the layout, too: compare what both could stand for.
        names = [one.replace("*", "x") for one in names]
        for pattern in layout:
            assert any(fnmatchcase(one, pattern) for one in names), pattern
        for one in names:
            assert any(fnmatchcase(one, pattern) for pattern in layout), one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": []}, "either 'files' or 'by_hand'"),
        ({"variants": ["a"]}, "in an address"),
        ({"checks": {"b.zip": {"bytes": 1}}}, "no file is called 'b.zip'"),
        ({"files": [{"url": "https://x.example/a.zip", "unpack": "zip"}]}, "'members' goes with"),
    ],
)
def test_wrong_sources_are_refused(changes: dict[str, object], message: str) -> None:
    right = {"files": [{"url": "https://x.example/a.zip"}]}
    Source.model_validate(right)
    with pytest.raises(ValueError, match=message):
        Source.model_validate({**right, **changes})
