"""Standard input, output and error as they are found: closed, or in an encoding that cannot hold every text."""

import codecs
import io
import os
import sys

ERRORS = "seqvae.escaped"  # the error handler that escapes characters that an encoding lacks

MOST = 9  # escaped pieces that are remembered, at most

_escaped: list[str] = []


def open_streams() -> None:
    """Make every stream one that can be written to or read from, whatever the text.

    A closed one becomes the null device; characters that the encoding lacks are written escaped, as `\\u65e5`.
    """
    _escaped.clear()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  it stays open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def drop_streams() -> None:
    """Discard what is still to be written: nobody reads it, or the disk is full."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  or Python tries once more at its end


def report_escapes() -> str:
    """Return one line on what was written escaped and how to write it as it is; empty if nothing was."""
    whole = [character for character in "".join(_escaped) if not "\ud800" <= character <= "\udfff"]  # no surrogates
    if not whole:
        return ""
    names = {stream.encoding for stream in (sys.stdout, sys.stderr) if "utf" not in (stream.encoding or "utf").lower()}
    return (
        f"characters that {' and '.join(sorted(names))} cannot write, as {whole[0]!a}, are shown escaped: set "
        "PYTHONIOENCODING=utf-8 to write them as they are"
    )


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError) and len(_escaped) < MOST:
        _escaped.append(error.object[error.start : error.end])
    return codecs.backslashreplace_errors(error)


codecs.register_error(ERRORS, _escape)
