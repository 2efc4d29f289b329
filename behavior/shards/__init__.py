"""The data set on disk (docs/shards.md): its manifest, its files, where they live, and how it is read.

In: Arrow tables. Out: a folder, local or remote, that is a data set from the moment its manifest is replaced.
May import: nothing but the root's modules.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.shards.content import content_digest
    from behavior.shards.folder import ShardFolder, file_entry, open_shards, write_lines, write_table
    from behavior.shards.manifest import Counts, FeatureEntry, FileEntry, Manifest, load_manifest
    from behavior.shards.row_groups import RowGroup, RowGroupReader
    from behavior.shards.storage import Folder, FolderLike, as_folder

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
    "as_folder",
    "content_digest",
    "file_entry",
    "load_manifest",
    "open_shards",
    "write_lines",
    "write_table",
]

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
        "as_folder": "storage",
        "content_digest": "content",
        "file_entry": "folder",
        "load_manifest": "manifest",
        "open_shards": "folder",
        "write_lines": "folder",
        "write_table": "folder",
    },
)
