"""What is wrong with a file that cannot be read, in one sentence."""

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any

from seqvae.errors import CorpusError

_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_WIDE = {"UTF-32": ("utf-32-le", "utf-32-be"), "UTF-16": ("utf-16-le", "utf-16-be")}
_MARKS = {"UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-16": (b"\xff\xfe", b"\xfe\xff")}  # the longer ones first


def _open_zst(path: Path, mode: str) -> Any:
    import pyarrow

    return pyarrow.input_stream(str(path), compression="zstd")


_OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zst}


def open_bytes(path: Path) -> Any:
    """The bytes of a file, decompressed by its ending."""
    return _OPEN.get(path.suffix, open)(path, "rb")


def open_text(path: Path) -> io.TextIOWrapper:
    """The text of a file in UTF-8, with or without a mark of that, and with the ends of lines as they are."""
    return io.TextIOWrapper(io.BufferedReader(open_bytes(path)), encoding="utf-8-sig", newline="")


def inspect(shown: str, path: Path, kind: str) -> None:
    """Raise a `CorpusError` for a file that is empty, cannot be opened, or is plainly no text."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise CorpusError(f"{shown} cannot be read: {error.strerror}") from None
    if not head:
        raise CorpusError(f"{shown} is empty")
    if path.suffix in (".npz", ".npy"):
        raise CorpusError(f"{shown} holds arrays, not text; give a text file in UTF-8, one sentence a line")
    if kind == "parquet":
        return
    if path.suffix in _OPEN:
        head = b""
        with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError), open_bytes(path) as file:
            head = file.read(1 << 16)
    if wide := _find_wide(head):
        raise CorpusError(f"{shown} is {wide}, not UTF-8; save it as UTF-8")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > 0.1 * len(head):
        raise CorpusError(f"{shown} is binary, not text; give a text file in UTF-8, one sentence a line")


def _find_wide(head: bytes) -> str:
    """The encoding of two or four bytes a character that a text is in, with its mark or without one; else nothing."""
    for name, marks in _MARKS.items():
        if head.startswith(marks):
            return name
    if b"\0" not in head:
        return ""
    for name, encodings in _WIDE.items():
        for encoding in encodings:
            with contextlib.suppress(UnicodeDecodeError):
                text = head[: len(head) // 4 * 4].decode(encoding)
                if {"\n", "\r", " "} & set(text) and all(
                    character.isprintable() or character in "\t\n\v\f\r" for character in text
                ):
                    return f"{name} without a mark of it"
    return ""


def blame(shown: str, kind: str, error: BaseException, path: Path | None = None) -> str:
    """One sentence for why `error` came of reading `shown`."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    for cause in chain:
        if isinstance(cause, UnicodeDecodeError):
            where, guess = _where(path)
            return f"{shown} is not UTF-8{where}; save it as UTF-8{guess}"
        if type(cause).__name__ in ("SchemaInferenceError", "EmptyDataError"):
            return f"{shown} is empty"
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return f"no space left on the disk for the cache of {shown}; set HF_HOME to a folder that has some"
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"the cache of {shown} cannot be written ({cause}); set HF_HOME to a folder that can"
    last = chain[-1] if kind != "a data set of the hub" else error
    return f"{shown} cannot be read as {kind}: {' '.join(str(last).split())[:300] or type(last).__name__}"


def _where(path: Path | None) -> tuple[str, str]:
    """Line and byte of the first byte that is not UTF-8, and what the text may be instead."""
    if path is None:
        return "", ""
    offset = 0
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f" (line {number}, byte {offset + error.start})", _guess_western(line, error.start)
            offset += len(line)
    return "", ""


def _guess_western(line: bytes, place: int) -> str:
    """A guess at one byte a letter of western Europe: one that stands alone between ASCII, and is a letter or mark."""
    letter, around = line[place : place + 1].decode("cp1252", "replace"), line[max(0, place - 1) : place + 2]
    alone = sum(byte > 127 for byte in around) == 1 and letter != "\ufffd"
    return (
        f" (it looks like {'Latin-1' if letter.isalpha() else 'Windows-1252'}, with {letter!r} there)" if alone else ""
    )
