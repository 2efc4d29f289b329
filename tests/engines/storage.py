"""Google Cloud Storage on this machine: fake-gcs-server."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.parse import quote

from tests.engines.installed import STORAGE
from tests.engines.processes import Processes, answers, free_ports, wait_for


class StorageEmulator:
    """Keeps its objects in memory, until `end`.

    Args:
        folder: for its log.

    Attributes:
        url: where it listens.
        variables: that lead Google's own client and gcsfs there.
    """

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder)
        [self.port] = free_ports(1)
        self.url = f"http://localhost:{self.port}"
        # gcsfs asks for the kind of bucket through an interface that the emulator lacks, before everything.
        self.variables = {"STORAGE_EMULATOR_HOST": self.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        host = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)]
        named = ["-public-host", f"localhost:{self.port}", "-external-url", self.url]
        self.processes.start(
            "storage", [str(STORAGE), *host, *named, "-backend", "memory", "-log-level", "warn"]
        )

    def wait(self) -> None:
        """Until it answers."""
        wait_for(lambda: answers(self.port), "the emulator of Google Cloud Storage")

    def make_bucket(self, name: str) -> None:
        """A new bucket."""
        self._ask("/storage/v1/b?project=test-project", {"name": name})

    def read(self, url: str) -> bytes:
        """The contents of `gs://bucket/name`."""
        bucket, _, name = url.removeprefix("gs://").partition("/")
        return self._ask(f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media")

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Names of all objects that begin with a prefix."""
        found = json.loads(self._ask(f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}"))
        assert "nextPageToken" not in found
        return sorted(entry["name"] for entry in found.get("items", []))

    def _ask(self, path: str, sent: object = None) -> bytes:
        data = None if sent is None else json.dumps(sent).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def end(self) -> None:
        """End it; what it holds is gone."""
        self.processes.end()
