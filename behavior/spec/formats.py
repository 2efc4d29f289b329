"""How files are written."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Literal

from pydantic import model_validator

from behavior.config import Config
from behavior.spec.conditions import Condition
from behavior.spec.values import OneOrMany


class FileFormat(Config):
    """The format of a set of files."""

    files: Annotated[list[str], OneOrMany]
    """One path, glob or URL, or a list of them; paths are relative to the spec file (or to `--input`). A glob
    expands to its files sorted by name, without hidden ones: a wildcard matches no name that begins with a
    dot or an underscore, nor .crc files. Equal timestamps keep the order of the files."""
    format: Literal["auto", "csv", "jsonl", "parquet", "sequences", "json_map"] = "auto"
    """csv: delimited text with any separator. jsonl: JSON lines, one object a line, columns being its keys; a
    dot leads into an object within, as in `attributes.Price Range`. parquet. sequences: one user a line,
    followed by that user's items in chronological order. json_map (tables only): one JSON object from id to a
    list of attributes. auto goes by the extension of the first file: .jsonl, .ndjson, .json, .parquet, .pq,
    else csv."""
    separator: str | None = None
    """Field separator, of one or more characters, such as `::`. Default: a tab for .tsv, a space for
    sequences, else a comma."""
    header: bool = True
    """Whether each file begins with a header line (csv only); the order of columns may differ between
    files."""
    names: list[str] | None = None
    """Column names, from left to right, of files without a header line (csv only)."""
    quote: str | None = '"'
    """Quote character around csv fields that contain the separator; doubled, it is escaped. null: no quoting.
    With a separator of several characters nothing is quoted."""
    multiline: bool = False
    """Whether quoted csv fields may contain line breaks. Such a file is not divided into byte ranges: one
    worker reads all of it. A row has at most 16 MiB. Otherwise a row is a line."""
    encoding: str = "utf-8"
    """Text encoding, as Python names it; one in which a line feed is one byte (not UTF-16)."""
    compression: Literal["auto", "none", "gzip", "zstd"] = "auto"
    """Compression codec; auto goes by each file's extension (.gz, .zst). Others, such as bz2, xz and zip, are
    not read: unpack such files."""
    trim: bool = False
    """Whether the white space around text is taken off, in all columns."""
    where: Annotated[list[Condition], OneOrMany] = []
    """Read only the rows for which all of these conditions are true. The others count as filtered, and never
    as rejected, whatever is wrong with them (`max_rejects` stays a guard); of tables they are ignored."""

    @model_validator(mode="after")
    def _check(self) -> FileFormat:
        if not self.files:
            raise ValueError("files is empty")
        try:
            if "\n".encode(self.encoding) != b"\n":
                raise ValueError(f"encoding '{self.encoding}' does not write a line feed as one byte")
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(f"there is no text encoding '{self.encoding}'") from None
        if not self.header and not self.names and self.kind == "csv":
            raise ValueError("without a header line the columns need 'names'")
        if self.header and self.names:
            raise ValueError("'names' is for files without a header line; set header: false")
        if self.names and len(set(self.names)) != len(self.names):
            raise ValueError("names: a column stands there twice")
        if self.separator is not None and (not self.separator or set("\r\n") & set(self.separator)):
            raise ValueError("a separator must have at least one character, and no line feed")
        if self.quote is not None and (len(self.quote) != 1 or not self.quote.isascii()):
            raise ValueError("quote must be one ASCII character, or null")
        if self.quote is not None and self.quote in ("\r", "\n", self.field_separator):
            raise ValueError("quote and separator must differ, and neither be a line feed")
        if self.multiline:
            self._check_multiline()
        if self.kind in ("sequences", "json_map") and (self.where or self.trim):
            raise ValueError(f"'where' and 'trim' are for files with columns, not for {self.kind}")
        return self

    def _check_multiline(self) -> None:
        if self.kind != "csv":
            raise ValueError("multiline is for csv only")
        if self.quote is None:
            raise ValueError("multiline needs a quote character: only quoted fields may hold line feeds")
        if len(self.field_separator) != 1 or not self.field_separator.isascii():
            raise ValueError("multiline needs a separator of one ASCII character: others allow no quotes")

    @property
    def kind(self) -> str:
        """The format, guessed from the first file's name where it is `auto`."""
        if self.format != "auto":
            return self.format
        name = re.sub(r"\.(gz|zst|zstd)$", "", self.files[0].lower())
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return "jsonl"
        return "parquet" if name.endswith((".parquet", ".pq")) else "csv"

    @property
    def field_separator(self) -> str:
        """The separator, default filled in."""
        if self.separator is not None:
            return self.separator
        if self.kind == "sequences":
            return " "
        return "\t" if re.search(r"\.tsv(\.|$)", self.files[0].lower()) else ","
