#!/usr/bin/env python3
"""`grep` over many snapshots against grep -r over every restored tree (Python >= 3.9, stdlib, grep).

    benches/history_grep.py DIR --change COMMAND [--snapshots 50] [--binary target/release/agent-backup]
                            [--work WORKDIR] [--pattern FLAGS:PATTERN]...

DIR is a tree of agent state; it is copied, never changed. COMMAND is run by a shell before every
push but the first and changes the copy: `{dir}` in it is the copy, `{n}` counts from 1. Then every
snapshot is restored, one at a time, and `grep -ra` searches it for each pattern; so does `agent-backup
grep`, once over all. Both must find the same lines of the same files in the same snapshots. Of a
database, which is searched page by page, both must find it in the same snapshots. Printed: lines,
wall times, bytes of blocks read against distinct bytes in use, peak memory.
"""
import argparse, base64, collections, hashlib, json, os, shutil, subprocess, sys, tempfile, time

PATTERNS = ["F:function error", "i:CONFIG STATE", "w:session", ":error[a-z]* (the|of) ", ":^\\{.*\"usage\".*[0-9]\\}$"]


def run(cmd, env, good=(0,)):
    proc = subprocess.run(cmd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if proc.returncode not in good:
        sys.exit("%s: status %d\n%s" % (" ".join(cmd), proc.returncode, proc.stderr.decode(errors="replace")))
    return proc.stdout


def is_database(path):
    with open(path, "rb") as f:
        return f.read(16) == b"SQLite format 3\0"


def digest(line):
    """What is kept of a line: there are many, and some are megabytes long."""
    return hashlib.blake2b(line, digest_size=16).digest()


def naive(top, flags, pattern, env):
    """Lines of files, how often each; and the databases, in which a match counts."""
    cmd = ["grep", "-raZ", "-F" if "F" in flags else "-E"] + ["-" + flag for flag in flags if flag != "F"]
    out = subprocess.run(cmd + ["-e", pattern, "."], cwd=top, env={**env, "LC_ALL": "C"}, stdout=subprocess.PIPE).stdout
    lines, databases = collections.Counter(), set()
    known = {}
    for one in out.split(b"\n")[:-1]:
        path, line = one.split(b"\0", 1)
        path = path[2:]
        if path not in known:
            known[path] = is_database(os.path.join(os.fsencode(top), path))
        if known[path]:
            databases.add(path)
        else:
            lines[path, digest(line)] += 1
    return lines, databases


def unescaped(record, key):
    raw = record.get(key + "_base64")
    return base64.b64decode(raw) if raw is not None else record[key].encode()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("dir")
    args.add_argument("--change", required=True)
    args.add_argument("--snapshots", type=int, default=50)
    args.add_argument("--binary", default="target/release/agent-backup")
    args.add_argument("--work")
    args.add_argument("--pattern", action="append")
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix="grep-", dir=args.work)
    live, out = os.path.join(work, "live"), os.path.join(work, "out")
    shutil.copytree(args.dir, live, symlinks=True)
    binary = os.path.abspath(args.binary)
    env = {"PATH": os.environ["PATH"], "HOME": os.path.join(work, "home"), "AGENT_BACKUP_REPO": os.path.join(work, "repo")}
    os.mkdir(env["HOME"])
    run([binary, "init", "--no-passphrase"], env)
    ids = []
    for n in range(args.snapshots):
        if n:
            subprocess.run(args.change.format(dir=live, n=n), shell=True, check=True, stdout=subprocess.DEVNULL)
        made = json.loads(run([binary, "push", "--always", "--json", "--path", "t=" + live], env, (0, 3)))
        ids.append(made["snapshot"]["id"])
    patterns = [p.split(":", 1) for p in args.pattern or PATTERNS]
    expected = [(collections.Counter(), set()) for _ in patterns]
    walls = [0.0] * len(patterns)
    for id in ids:
        run([binary, "pull", id, "--to", out], env)
        for at, (flags, pattern) in enumerate(patterns):
            before = time.monotonic()
            lines, databases = naive(os.path.join(out, "t"), flags, pattern, env)
            walls[at] += time.monotonic() - before
            for (path, line), count in lines.items():
                expected[at][0][id, path, line] += count
            expected[at][1].update((id, path) for path in databases)
        shutil.rmtree(out)
    bad = False
    for (flags, pattern), (lines, databases), wall in zip(patterns, expected, walls):
        note = os.path.join(work, "time")
        cmd = [binary, "grep", "--json", "--max-columns", "0"] + ["-" + f for f in flags] + ["-e", pattern]
        before = time.monotonic()
        got = json.loads(run(["/usr/bin/time", "-o", note, "-f", "%M"] + cmd, env, (0, 1)))
        ours, peak = time.monotonic() - before, int(open(note).read().split()[-1]) / 1024
        found, in_databases, results = collections.Counter(), set(), 0
        for file in got["files"]:
            path = unescaped(file, "path").split(b"/", 1)[1]
            for line in file["lines"]:
                results += 1
                for id in line["snapshots"]:
                    if "line" in line:
                        found[id, path, digest(unescaped(line, "text"))] += 1
                    else:
                        in_databases.add((id, path))
        same = found == lines and in_databases == databases
        bad |= not same
        searched = got["searched"]
        print("-%s %r: %s; %d lines (%d in all trees), %d databases in snapshots; %.1f s, grep -r %.1f s; read %.1f MB of blocks once,"
              " searched %.1f MB of %.1f MB of contents; peak %.0f MiB" % (
                  flags or "E", pattern, "the same" if same else "NOT THE SAME", results, sum(lines.values()), len(databases),
                  ours, wall, searched["bytes_read"] / 1e6, searched["bytes_searched"] / 1e6, searched["content_bytes"] / 1e6, peak), flush=True)
        if not same:
            for what, some in (("missed", lines - found), ("too much", found - lines),
                               ("missed", databases - in_databases), ("too much", in_databases - databases)):
                for one in list(some)[:5]:
                    print("   %s: %r" % (what, tuple(part[:200] for part in one)))
    shutil.rmtree(work)
    sys.exit(bad)


if __name__ == "__main__":
    main()
