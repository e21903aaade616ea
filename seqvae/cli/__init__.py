"""The command line: a file for each verb, with its options and its work.

What needs torch is imported by the functions that work, so that `seqvae --help` answers without it.
"""

import errno
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import cyclopts

from seqvae.cli import (  # noqa: F401  their commands join the application
    compare,
    evaluate,
    explore,
    generate,
    recipes,
    score,
    steer,
    train,
    write,
)
from seqvae.cli.processes import SHARED, Process, leave_launcher
from seqvae.cli.shared import app, move_stream_last, read_recipe, spell_out_parts
from seqvae.cli.streams import drop_streams, open_streams, report_escapes
from seqvae.errors import ConfigError, SeqVAEError, UnknownWordsWarning, cut_out, shorten, truncate
from seqvae.training.machine import share_cores

LONGEST = 500  # characters of an error about arguments, which quotes them


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user error is one line on standard error and exit code 2."""
    open_streams()
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] and given[0] not in SHARED:
        if Process().rank:
            return  # the first process does it, alone
        leave_launcher()
    unknown: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UnknownWordsWarning)
            warnings.showwarning = partial(_collect, unknown, warnings.showwarning)
            code = _run(given)
        for line in dict.fromkeys([] if code else unknown):  # where the command fails, only its cause is reported
            print(f"warning: {line}", file=sys.stderr)
        if line := report_escapes():
            print(f"seqvae: {line}", file=sys.stderr)
        sys.stderr.flush()
    except BrokenPipeError:  # nobody reads the errors
        sys.stderr = sys.stdout
        code = 0
    if code:
        sys.exit(code)


def _collect(
    unknown: list[str],
    usual: Callable[..., None],
    message: Warning | str,
    category: type[Warning],
    *place: Any,
    **more: Any,
) -> None:
    """Keep warnings of unknown words, and show others as usual."""
    if issubclass(category, UnknownWordsWarning):
        unknown.append(str(message))
    else:
        usual(message, category, *place, **more)


def _run(arguments: list[str]) -> int:
    """Run the command, and return the code to exit with."""
    try:
        _parse_and_run(arguments)
        sys.stdout.flush()
    except SeqVAEError as error:
        print(f"seqvae: {cut_out(str(error))}", file=sys.stderr)
        return 2
    except cyclopts.CycloptsError as error:
        print(f"seqvae: {_describe(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `seqvae sample ... | head`
        drop_streams()
    except OSError as error:
        if error.errno is None:  # none of the system's
            raise
        drop_streams()
        print(f"seqvae: {_describe_fault(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _describe_fault(error: OSError) -> str:
    """Describe an error of the system, such as that of a full disk, in one line."""
    if error.errno == errno.ENOSPC and error.filename is None:
        return "no space left on the disk for the output"
    place = f" for {error.filename}" if error.filename is not None else ""
    return f"the system reports: {error.strerror}{place}: is the disk full, the place writable?"


def _describe(error: cyclopts.CycloptsError) -> str:
    """Describe what is wrong with the arguments, in one line."""
    if isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        return f"unexpected argument {shorten(error.unused_tokens[0])}: write text that has spaces between quotes"
    return truncate(error, LONGEST)


def _parse_and_run(arguments: list[str]) -> None:
    if nul := [argument for argument in arguments if "\0" in argument]:
        raise ConfigError(f"the argument {shorten(nul[0])} holds the character NUL: leave it out")
    share_cores()
    app.config = read_recipe(arguments)
    if arguments[:1] in ([], ["--help"], ["-h"]):
        app.help_format = "plaintext"  # a list of commands has no more, and reading Markdown takes a third of its time
    app(move_stream_last(spell_out_parts(arguments)), exit_on_error=False, print_error=False)
    if arguments[:1] == ["train"] and {"--help", "-h"} & set(arguments):
        from seqvae.training.build import format_parts

        print(format_parts())
