"""What a file takes to download, compressed as servers do it."""

import zlib

import zstandard


def zlib_bytes(content: bytes) -> int:
    """Bytes after zlib at level 9."""
    return len(zlib.compress(content, 9))


def zstd_bytes(content: bytes) -> int:
    """Bytes after zstd at level 19."""
    return len(zstandard.compress(content, 19))
