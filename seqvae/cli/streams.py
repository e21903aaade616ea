"""Standard input, output and error as they are found: closed, or in an encoding that cannot hold every text."""

import codecs
import io
import os
import sys

ERRORS = "seqvae.escaped"  # the name of how characters are written that an encoding has not

MOST = 9  # pieces of these that are remembered

_lost: list[str] = []  # characters that were written escaped


def open_streams() -> None:
    """Make every stream one that can be written to or read from, whatever the text.

    A closed one becomes the empty device; characters that the encoding has not are written escaped, as `\\u65e5`.
    """
    _lost.clear()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  it stays open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def drop_streams() -> None:
    """Let what is still to be written go nowhere: nobody reads it, or there is no room."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  or Python tries once more at its end


def report_escapes() -> str:
    """Return one line on what was written escaped and how to write it as it is; empty if nothing was."""
    whole = [character for character in "".join(_lost) if not "\ud800" <= character <= "\udfff"]  # these are in none
    if not whole:
        return ""
    names = {stream.encoding for stream in (sys.stdout, sys.stderr) if "utf" not in (stream.encoding or "utf").lower()}
    return (
        f"characters that {' and '.join(sorted(names))} cannot write, as {whole[0]!a}, are shown escaped: set "
        "PYTHONIOENCODING=utf-8 to write them as they are"
    )


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError) and len(_lost) < MOST:
        _lost.append(error.object[error.start : error.end])
    return codecs.backslashreplace_errors(error)


codecs.register_error(ERRORS, _escaped)
