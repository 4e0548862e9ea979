#!/usr/bin/env python3
"""A hundred daily snapshots, then forget and gc, against restic (Python >= 3.9, stdlib only).

    benches/retention.py DIR --change COMMAND [--days 100] [--binary target/release/agent-backup]
                         [--work WORKDIR] [--no-restic]

DIR is a tree of agent state; it is copied, never changed. COMMAND is run by a shell once a day and
changes the copy: `{dir}` in it is the copy, `{day}` counts from 1. After each change both programs
back up. Then all but the newest of 7 days and of 4 weeks are forgotten, and `gc` and `restic prune`
run. Printed: size of the repository against that of a fresh one that holds only the snapshots that
were kept, data bytes that gc read against those it freed, wall time and peak memory of both.
Every kept snapshot is restored and compared with a fresh one at the end.
"""
import argparse, hashlib, json, os, shutil, sqlite3, subprocess, sys, tempfile, time


def run(cmd, env, good=(0,)):
    before = time.monotonic()
    proc = subprocess.Popen(cmd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = proc.communicate()
    wall = time.monotonic() - before
    if proc.returncode not in good:
        sys.exit("%s: status %d\n%s%s" % (" ".join(cmd), proc.returncode, out.decode(errors="replace"), err.decode(errors="replace")))
    return out, wall


def timed(cmd, env, work):
    """Wall and peak memory, by /usr/bin/time, of a run; what it printed."""
    note = os.path.join(work, "time")
    out, wall = run(["/usr/bin/time", "-o", note, "-f", "%M"] + cmd, env)
    return out, wall, int(open(note).read().split()[-1]) / 1024


def tree_bytes(path):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(path) for f in fs)


def kept(days):
    """Days of 1..days that a policy of 7 daily and 4 weekly keeps; a week ends on a multiple of 7."""
    daily = set(range(days, max(days - 7, 0), -1))
    weeks = sorted({(day - 1) // 7 for day in range(1, days + 1)}, reverse=True)[:4]
    return sorted(daily | {min((week + 1) * 7, days) for week in weeks})


def digest(top):
    """Every file by name and content; of a database the rows, as pages may lie otherwise."""
    out = []
    for d, dirs, files in os.walk(top):
        dirs.sort()
        for f in sorted(f for f in files if not f.endswith(("-wal", "-shm", "-journal"))):
            path = os.path.join(d, f)
            data = os.readlink(path).encode() if os.path.islink(path) else open(path, "rb").read()
            if data.startswith(b"SQLite format 3\0"):
                data = rows(path)
            out.append((os.path.relpath(path, top), hash(data)))
    return out


def rows(path):
    """A hash over all rows of a sound database."""
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
        sys.exit("%s is damaged" % path)
    db.text_factory, seen = bytes, hashlib.blake2b()
    for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
        try:
            for row in db.execute('SELECT * FROM "%s"' % name.decode()):
                seen.update(repr(row).encode())
        except sqlite3.OperationalError as error:  # a virtual table whose module is not in this SQLite
            seen.update(str(error).encode())
    db.close()
    return seen.digest()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("dir")
    args.add_argument("--change", required=True)
    args.add_argument("--days", type=int, default=100)
    args.add_argument("--binary", default="target/release/agent-backup")
    args.add_argument("--work")
    args.add_argument("--no-restic", action="store_true")
    args = args.parse_args()
    top = tempfile.mkdtemp(prefix="retention-", dir=args.work)
    binary, tree = os.path.abspath(args.binary), os.path.join(top, "tree")
    shutil.copytree(args.dir, tree, symlinks=True)
    env = {"HOME": top, "PATH": os.environ["PATH"], "RESTIC_PASSWORD": "benchmark"}
    repo, theirs = os.path.join(top, "repo"), os.path.join(top, "restic")
    base, restic = [binary, "-r", repo], ["restic", "-r", theirs]
    try:
        run(base + ["init", "--no-passphrase"], env)
        if not args.no_restic:
            run(restic + ["init"], env)
        ids, restic_ids = {}, {}
        for day in range(1, args.days + 1):
            subprocess.run(args.change.format(dir=tree, day=day), shell=True, check=True, stdout=subprocess.DEVNULL)
            out, _ = run(base + ["--json", "push", "--always", "--path", "tree=" + tree], env)
            ids[day] = json.loads(out)["snapshot"]["id"]
            if not args.no_restic:
                out, _ = run(restic + ["--json", "backup", tree], env)
                restic_ids[day] = json.loads(out.splitlines()[-1])["snapshot_id"]
        keep = kept(args.days)
        gone = [day for day in ids if day not in keep]
        before, restic_before = tree_bytes(repo), tree_bytes(theirs) if not args.no_restic else 0
        run(base + ["forget", "--yes"] + [ids[day] for day in gone], env)
        out, wall, peak = timed(base + ["--json", "gc", "--more-than-half"], env, top)
        report = json.loads(out)
        after = tree_bytes(repo)
        print("ours: %.1f MiB -> %.1f MiB, gc %.2f s, peak %.0f MiB" % (before / 2**20, after / 2**20, wall, peak))
        print("gc said: %s" % json.dumps(report))
        if not args.no_restic:
            run(restic + ["forget"] + [restic_ids[day] for day in gone], env)
            out, restic_wall, restic_peak = timed(restic + ["prune"], env, top)
            print("restic: %.1f MiB -> %.1f MiB, prune %.2f s, peak %.0f MiB" % (restic_before / 2**20, tree_bytes(theirs) / 2**20, restic_wall, restic_peak))
            print("gc / prune, wall: %.2f (bar 1)" % (wall / restic_wall))
        fresh, out_dir = os.path.join(top, "fresh"), os.path.join(top, "out")
        run([binary, "-r", fresh, "init", "--no-passphrase"], env)
        for day in keep:
            run(base + ["pull", ids[day], "--yes", "--to", out_dir, "--delete"], env)
            run([binary, "-r", fresh, "push", "--always", "--path", "tree=" + out_dir], env)
        print("fresh repository of the %d kept: %.1f MiB; ours / fresh: %.3f (bar 1.35)" % (len(keep), tree_bytes(fresh) / 2**20, after / tree_bytes(fresh)))
        if digest(os.path.join(out_dir, "tree")) != digest(tree):
            sys.exit("the newest snapshot is not what the tree is")
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
