#!/usr/bin/env python3
"""`verify --read-data` against the command `zstd -d`, as whole processes.

    benches/verify_zstd.py DIR [--binary PATH] [--work PATH] [--rounds N]

Pushes DIR into a repository, and packs it as tar in pieces of 90 MB, each compressed by `zstd -3`. In alternating
rounds: a verify of all data; `zstd -d` of all pieces, as many at a time as there are cores, into files and into
nothing; and one `zstd -d`. Needs twice the size of DIR below WORK, in the cache of the system. Prints Markdown.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("dir", type=Path)
    args.add_argument("--binary", default="target/release/agent-backup")
    args.add_argument("--work", type=Path)
    args.add_argument("--rounds", type=int, default=5)
    args = args.parse_args()
    binary = str(Path(args.binary).resolve())
    work = Path(tempfile.mkdtemp(prefix="verify-zstd-", dir=args.work))
    try:
        measure(args.dir.resolve(), binary, work, args.rounds)
    finally:
        shutil.rmtree(work)


def measure(source, binary, work, rounds):
    home = work / "home"
    home.mkdir()
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "AGENT_BACKUP_REPO": str(work / "repo")}

    def run(*command):
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    run(binary, "init", "--no-passphrase")
    run(binary, "push", "--path", f"files={source}")
    pieces = work / "pieces"
    pieces.mkdir()
    pack = 'tar cf - -C "$1" . | split -b 90M - "$2/p."; zstd -q -3 --rm "$2"/p.*'
    run("sh", "-c", pack, "sh", str(source), str(pieces))
    cores = os.cpu_count()
    each = f'ls "$1"/*.zst | xargs -P{cores} -n1'
    to_nothing = each + " sh -c 'exec zstd -q -dc \"$0\" > /dev/null'"
    ways = {
        "`verify --read-data`": [binary, "verify", "--read-data"],
        f"`zstd -d`, {cores} at a time": ["sh", "-c", each + " zstd -q -d -f", "sh", str(pieces)],
        f"`zstd -dc > /dev/null`, {cores} at a time": ["sh", "-c", to_nothing, "sh", str(pieces)],
        "one `zstd -dc > /dev/null`": ["sh", "-c", 'exec zstd -q -dc "$1"/*.zst', "sh", str(pieces)],
    }
    seconds = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first warms up
        for name, command in ways.items():
            began = time.monotonic()
            run(*command)
            seconds[name].append(time.monotonic() - began)
            for plain in pieces.glob("p.??"):
                plain.unlink()
    ours = statistics.median(seconds["`verify --read-data`"][1:])
    print("| | s, least | median | most | speed of verify to it |\n|---|---|---|---|---|")
    for name, all_seconds in seconds.items():
        taken = sorted(all_seconds[1:])
        middle = statistics.median(taken)
        print(f"| {name} | {taken[0]:.2f} | {middle:.2f} | {taken[-1]:.2f} | {middle / ours:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
