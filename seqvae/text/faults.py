"""What is wrong with a file that cannot be read, in one sentence."""

import bz2
import errno
import gzip
import lzma
from pathlib import Path
from typing import Any

from seqvae.errors import CorpusError

_OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


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
    if kind != "parquet" and head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise CorpusError(f"{shown} is UTF-16, not UTF-8; save it as UTF-8")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if kind != "parquet" and path.suffix not in (*_OPEN, ".zst") and controls > 0.1 * len(head):
        raise CorpusError(f"{shown} is binary, not text; give a text file in UTF-8, one sentence a line")


def blame(shown: str, kind: str, error: BaseException, path: Path | None = None) -> str:
    """One sentence for why `error` came of reading `shown`."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    for cause in chain:
        if isinstance(cause, UnicodeDecodeError):
            return f"{shown} is not UTF-8{_where(path)}; save it as UTF-8"
        if type(cause).__name__ in ("SchemaInferenceError", "EmptyDataError"):
            return f"{shown} is empty"
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return f"no space left on the disk for the cache of {shown}; set HF_HOME to a folder that has some"
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"the cache of {shown} cannot be written ({cause}); set HF_HOME to a folder that can"
    last = chain[-1] if kind != "a data set of the hub" else error
    return f"{shown} cannot be read as {kind}: {' '.join(str(last).split())[:300] or type(last).__name__}"


def _where(path: Path | None) -> str:
    """Line and byte of the first byte that is not UTF-8."""
    if path is None:
        return ""
    offset = 0
    with _OPEN.get(path.suffix, open)(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f" (line {number}, byte {offset + error.start})"
            offset += len(line)
    return ""
