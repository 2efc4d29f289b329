"""The data set on disk (docs/shards.md): its manifest, its files, where they live, and how it is read.

In: Arrow tables. Out: a folder, local or remote, that is a data set from the moment its manifest is replaced.
May import: nothing but the root's modules.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.shards.commit import claim, commit, sweep
    from behavior.shards.content import content_digest
    from behavior.shards.folder import ShardFolder, open_shards
    from behavior.shards.lock import exclusive
    from behavior.shards.manifest import Counts, FeatureEntry, FileEntry, Manifest, load_manifest
    from behavior.shards.names import logical, versioned
    from behavior.shards.row_groups import RowGroup, RowGroupReader
    from behavior.shards.storage import Folder, FolderLike, as_folder
    from behavior.shards.write import ShardWriter, file_entry, write_lines, write_table
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Counts": "manifest",
            "FeatureEntry": "manifest",
            "FileEntry": "manifest",
            "Folder": "storage",
            "FolderLike": "storage",
            "Manifest": "manifest",
            "RowGroup": "row_groups",
            "RowGroupReader": "row_groups",
            "ShardFolder": "folder",
            "ShardWriter": "write",
            "as_folder": "storage",
            "claim": "commit",
            "commit": "commit",
            "content_digest": "content",
            "exclusive": "lock",
            "file_entry": "write",
            "load_manifest": "manifest",
            "logical": "names",
            "open_shards": "folder",
            "sweep": "commit",
            "versioned": "names",
            "write_lines": "write",
            "write_table": "write",
        },
    )

__all__ = [
    "Counts",
    "FeatureEntry",
    "FileEntry",
    "Folder",
    "FolderLike",
    "Manifest",
    "RowGroup",
    "RowGroupReader",
    "ShardFolder",
    "ShardWriter",
    "as_folder",
    "claim",
    "commit",
    "content_digest",
    "exclusive",
    "file_entry",
    "load_manifest",
    "logical",
    "open_shards",
    "sweep",
    "versioned",
    "write_lines",
    "write_table",
]
