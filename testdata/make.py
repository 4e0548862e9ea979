#!/usr/bin/env python3
"""Makes a golden repository: a small directory repository of the format as it is now.

    testdata/make.py BINARY testdata/repo-vN

Once for each version of the format; what it made is committed and never made again. In the
directory: `repository`, `manifest-1.txt` and `manifest-2.txt` (what its two snapshots restore to, one entry
a line: name, tab, mode, time, kind, length, SHA-256), `secrets.txt` (what opens it; it protects nothing).
"""

import hashlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile

PASSPHRASE = "golden passphrase \u00e4\u00f6"
EPOCH = 1_700_000_000


def shown(name):
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in name)


def manifest(root):
    """What testkit's Tree says of the tree, in lines."""
    names = []
    for folder, folders, files in os.walk(root):
        names += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
    # a hard link's first name is the first by components
    names.sort(key=lambda name: name.split(b"/"))
    first, lines = {}, []
    for name in names:
        path = os.path.join(root, name)
        meta = os.lstat(path)
        time = f"{meta.st_mtime_ns // 10**9}.{meta.st_mtime_ns % 10**9:09}"
        head = f"{meta.st_mode & 0o7777:04o} {time} "
        if stat.S_ISLNK(meta.st_mode):
            line = f"link {time} {shown(os.readlink(path))}"
        elif stat.S_ISDIR(meta.st_mode):
            line = head + "dir"
        elif stat.S_ISFIFO(meta.st_mode):
            line = head + "fifo"
        else:
            with open(path, "rb") as file:
                line = head + f"file {meta.st_size} {hashlib.sha256(file.read()).hexdigest()}"
            same = first.setdefault(meta.st_ino, name)
            line += f" = {shown(same)}" if same != name else ""
        lines.append(f"{shown(name)}\t{line}\n")
    return "".join(lines)


def transcript(chance, size):
    lines = []
    while size > 0:
        lines.append(b'{"uuid":"%08x","text":"and then we went on"}\n' % chance.getrandbits(32))
        size -= len(lines[-1])
    return b"".join(lines)


def plant(root, chance):
    os.makedirs(root)
    at = lambda name: os.path.join(root, name)
    files = {
        b"empty": b"",
        b"small.json": b'{"a": 1}\n',
        b"transcripts/one.jsonl": transcript(chance, 60_000),
        b"transcripts/two.jsonl": transcript(chance, 3_000),
        b"random": chance.randbytes(20_000),
        b"zeros": bytes(1 << 20),
        b"odd/caf\xe9 \\ \n name": b"not UTF-8",
        "odd/\u65e5\u672c".encode(): b"UTF-8",
        b"odd/read-only": b"do not touch",
        b"odd/run": b"#!/bin/sh\n",
        b"odd/private": b"x",
    }
    # pieces in any order: hardly any content, and a map too large for its entry
    pieces = [transcript(chance, 40_000) for _ in range(4)]
    files[b"shuffled"] = b"".join(chance.choice(pieces) for _ in range(260))
    for name, content in files.items():
        os.makedirs(os.path.dirname(at(name)), exist_ok=True)
        with open(at(name), "wb") as file:
            file.write(content)
    with open(at(b"sparse"), "wb") as file:
        file.truncate(500_000)
        file.seek(250_000)
        file.write(b"in the middle")
    db = sqlite3.connect(at(b"state.sqlite").decode())
    db.execute("CREATE TABLE thread(id INTEGER PRIMARY KEY, title TEXT)")
    db.executemany("INSERT INTO thread VALUES(?, ?)", ((n, f"thread {n}") for n in range(2000)))
    db.commit()
    db.close()
    os.makedirs(at(b"folder/empty"))
    os.symlink(b"small.json", at(b"link"))
    os.symlink(b"/nowhere/\xff", at(b"odd/dangling"))
    os.link(at(b"small.json"), at(b"transcripts/same.json"))
    os.mkfifo(at(b"odd/fifo"))
    for name, mode in {b"odd/read-only": 0o400, b"odd/run": 0o755, b"odd/private": 0o600, b"folder": 0o1750}.items():
        os.chmod(at(name), mode)
    return pieces


def set_times(root):
    """Times that no file system rounds by accident, folders last."""
    for n, (folder, folders, files) in enumerate(os.walk(root, topdown=False)):
        names = [os.path.join(folder, name) for name in sorted(files)]
        names += [link for link in (os.path.join(folder, f) for f in folders) if os.path.islink(link)]
        for k, name in enumerate(names + [folder]):
            time = (EPOCH + 1000 * n + k) * 10**9 + 123_456_789 + k
            os.utime(name, ns=(time, time), follow_symlinks=False)


def main(binary, out):
    if os.path.exists(out):
        sys.exit(f"{out} is there already and is never made again")
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as room:
        home, tree = os.path.join(room, "home"), os.path.join(room, "data").encode()
        os.mkdir(home)
        env = {"HOME": home, "AGENT_BACKUP_PASSWORD": PASSPHRASE}
        repository = os.path.join(out, "repository")
        os.makedirs(out)

        def run(*args):
            command = [binary, "-r", repository, *args]
            ran = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
            return ran.stdout

        said = run("init")
        code = next(line.strip() for line in said.splitlines() if line.startswith("    "))
        with open(os.path.join(out, "secrets.txt"), "w") as file:
            file.write(f"passphrase: {PASSPHRASE}\nrecovery code: {code}\n")
        chance = random.Random(1)
        pieces = plant(tree, chance)
        set_times(tree)
        texts = [manifest(tree)]
        run("push", "--path", f"data={tree.decode()}", "--host", "golden")

        at = lambda name: os.path.join(tree, name)
        with open(at(b"shuffled"), "r+b") as file:  # a patch over its map
            file.seek(3_000_000)
            file.write(pieces[2])
        with open(at(b"transcripts/one.jsonl"), "ab") as file:
            file.write(transcript(chance, 2_000))
        db = sqlite3.connect(at(b"state.sqlite").decode())
        db.execute("UPDATE thread SET title='renamed' WHERE id=1000")
        db.commit()
        db.close()
        os.unlink(at(b"odd/run"))
        os.rmdir(at(b"folder/empty"))
        with open(at(b"folder/new"), "wb") as file:
            file.write(b"new")
        set_times(tree)
        texts.append(manifest(tree))
        run("push", "--path", f"data={tree.decode()}", "--host", "golden", "--tag", "second")
        for n, text in enumerate(texts, 1):
            with open(os.path.join(out, f"manifest-{n}.txt"), "w") as file:
                file.write(text)
        shutil.rmtree(os.path.join(repository, ".tmp"), ignore_errors=True)


if len(sys.argv) != 3:
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2])
