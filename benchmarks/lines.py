"""What a large corpus costs: memory and time of `seqvae train` on files of more and more lines.

    python -m benchmarks.lines [--lines 1000000 5000000 20000000] [--minutes 1]

The lines are synthetic (Zipf's law, 10 words), written to a temporary folder with an empty cache. The first line of
output of a training that has begun its steps divides reading from training. Private memory is what belongs to the
process alone (`RssAnon`, Linux): pages of mapped files come and go as the system likes.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.start import write_corpus


def read_private(process: int) -> float:
    """Return the private memory of a process, MB; 0 when it is gone."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    return int(found[1]) / 1000 if found else 0.0


def train(path: Path, minutes: float) -> dict[str, float]:
    """Train on a file; return seconds of reading, and the private memory, MB, at most, of reading and of training."""
    command = [sys.executable, "-m", "seqvae", "train", path, "--output", path.with_suffix(".model")]
    command += ["--validate-every", 100_000, "--max-minutes", minutes, "--precision", "fp32"]
    found = {"reading": 0.0, "training": 0.0, "seconds": 0.0}
    begin = time.perf_counter()
    cache = {"HF_DATASETS_CACHE": str(path.parent / "cache")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*map(str, command)], env=os.environ | cache, **streams) as process:  # type: ignore[call-overload]
        assert process.stdout is not None

        def watch() -> None:
            while process.poll() is None:
                phase = "training" if found["seconds"] else "reading"
                found[phase] = max(found[phase], read_private(process.pid))
                time.sleep(0.2)

        watcher = threading.Thread(target=watch)
        watcher.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "tokens/s" in line and not found["seconds"]:
                found["seconds"] = time.perf_counter() - begin
        watcher.join()
    if process.returncode:
        sys.exit("".join(lines[-20:]))
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lines", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--minutes", type=float, default=1.0, help="of training")
    given = parser.parse_args()
    print("| lines | file, MB | seconds until the first steps are logged | private MB, reading | training |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for lines in given.lines:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "large.txt"
            write_corpus(path, lines)
            size = path.stat().st_size / 1e6
            found = train(path, given.minutes)
        values = f"{found['seconds']:,.0f} | {found['reading']:,.0f} | {found['training']:,.0f}"
        print(f"| {lines:,} | {size:,.0f} | {values} |", flush=True)


if __name__ == "__main__":
    main()
