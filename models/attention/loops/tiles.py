"""Products of tiles with rows of tensors, and the columns between them."""

from __future__ import annotations

import numpy as np

from models.attention.loops.call import QUERIES, inner


@inner
def clear(columns):  # type: ignore[no-untyped-def]
    """columns[d, i] = 0."""
    for d in range(columns.shape[0]):
        for i in range(QUERIES):
            columns[d, i] = np.float32(0.0)


@inner
def load_columns(source, head, first, rows, factor, columns):  # type: ignore[no-untyped-def]
    """columns[d, i] = factor * source[first + i, head, d], zero for queries that do not exist."""
    for d in range(source.shape[2]):
        for i in range(rows):
            columns[d, i] = factor * source[first + i, head, d]
        for i in range(rows, QUERIES):
            columns[d, i] = 0.0


@inner
def store_columns(columns, head, first, rows, factor, out):  # type: ignore[no-untyped-def]
    """out[first + i, head, d] = factor * columns[d, i]."""
    for i in range(rows):
        for d in range(out.shape[2]):
            out[first + i, head, d] = factor * columns[d, i]


@inner
def multiply(source, head, first, rows, columns, tile):  # type: ignore[no-untyped-def]
    """tile[j, i] = sum over d of source[first + j, head, d] * columns[d, i]."""
    dim = source.shape[2]
    for j in range(rows):
        row = source[first + j, head]
        for i in range(QUERIES):
            tile[j, i] = 0.0
        even = dim - dim % 8
        for d in range(0, even, 8):
            r0, r1, r2, r3 = row[d], row[d + 1], row[d + 2], row[d + 3]
            r4, r5, r6, r7 = row[d + 4], row[d + 5], row[d + 6], row[d + 7]
            for i in range(QUERIES):
                tile[j, i] += (
                    r0 * columns[d, i]
                    + r1 * columns[d + 1, i]
                    + r2 * columns[d + 2, i]
                    + r3 * columns[d + 3, i]
                    + r4 * columns[d + 4, i]
                    + r5 * columns[d + 5, i]
                    + r6 * columns[d + 6, i]
                    + r7 * columns[d + 7, i]
                )
        for d in range(even, dim):
            r0 = row[d]
            for i in range(QUERIES):
                tile[j, i] += r0 * columns[d, i]


@inner
def accumulate_columns(source, head, first, rows, tile, columns):  # type: ignore[no-untyped-def]
    """columns[d, i] += sum over j of source[first + j, head, d] * tile[j, i]."""
    even = rows - rows % 8
    for d in range(source.shape[2]):
        for j in range(0, even, 8):
            t = first + j
            r0, r1 = source[t, head, d], source[t + 1, head, d]
            r2, r3 = source[t + 2, head, d], source[t + 3, head, d]
            r4, r5 = source[t + 4, head, d], source[t + 5, head, d]
            r6, r7 = source[t + 6, head, d], source[t + 7, head, d]
            for i in range(QUERIES):
                columns[d, i] += (
                    r0 * tile[j, i]
                    + r1 * tile[j + 1, i]
                    + r2 * tile[j + 2, i]
                    + r3 * tile[j + 3, i]
                    + r4 * tile[j + 4, i]
                    + r5 * tile[j + 5, i]
                    + r6 * tile[j + 6, i]
                    + r7 * tile[j + 7, i]
                )
        for j in range(even, rows):
            r0 = source[first + j, head, d]
            for i in range(QUERIES):
                columns[d, i] += r0 * tile[j, i]


@inner
def accumulate_rows(tile, columns, head, first, rows, out):  # type: ignore[no-untyped-def]
    """out[first + j, head, d] += sum over i of tile[j, i] * columns[d, i]."""
    dim = out.shape[2]
    even = dim - dim % 4
    for j in range(rows):
        for d in range(0, even, 4):
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for i in range(QUERIES):
                weight = tile[j, i]
                s0 += weight * columns[d, i]
                s1 += weight * columns[d + 1, i]
                s2 += weight * columns[d + 2, i]
                s3 += weight * columns[d + 3, i]
            out[first + j, head, d] += s0
            out[first + j, head, d + 1] += s1
            out[first + j, head, d + 2] += s2
            out[first + j, head, d + 3] += s3
        for d in range(even, dim):
            s0 = np.float32(0.0)
            for i in range(QUERIES):
                s0 += tile[j, i] * columns[d, i]
            out[first + j, head, d] += s0
