#!/usr/bin/env python3
"""agent-backup against restic on one tree, in alternating rounds (Python >= 3.9, stdlib only).

    benches/versus_restic.py DIR [--rounds 5] [--binary target/release/agent-backup] [--work WORKDIR]

Each round makes new repositories and restores into new directories: first backup, backup with
nothing changed, full restore, size of the repository. Encryption is on, repositories are local,
the tree is read once before the first round so that both find it in the page cache. Nothing is
deleted until the end: a file system that has just deleted a tree creates files slowly.
Prints one line per round and the medians of the ratios.
"""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time


def run(cmd, env):
    out = subprocess.DEVNULL
    before = time.monotonic()
    proc = subprocess.Popen(cmd, env=env, stdout=out, stderr=subprocess.PIPE)
    err = proc.stderr.read()
    _, status, usage = os.wait4(proc.pid, 0)
    wall = time.monotonic() - before
    if status:
        sys.exit("%s: status %d\n%s" % (" ".join(cmd), status, err.decode(errors="replace")))
    return wall, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def tree_bytes(path):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(path) for f in fs)


def ours(binary, tree, work):
    env = {"HOME": work, "PATH": os.environ["PATH"], "AGENT_BACKUP_PASSWORD": "benchmark"}
    repo = os.path.join(work, "repo")
    base = [binary, "-q", "-r", repo]
    run(base + ["init"], env)
    push = base + ["push", "--path", "tree=" + tree]
    keyed = {k: v for k, v in env.items() if k != "AGENT_BACKUP_PASSWORD"}
    out = {"first": run(push, keyed), "none": run(push, keyed)}
    out["restore"] = run(base + ["pull", "--to", os.path.join(work, "out")], keyed)
    out["bytes"] = tree_bytes(repo)
    # without the machine key the passphrase opens the repository, and scrypt is paid
    for d, _, fs in os.walk(work):
        for f in fs:
            if f == "machine.key":
                os.rename(os.path.join(d, f), os.path.join(d, f + ".away"))
    out["none, passphrase"] = run(push, env)
    return out


def restic(tree, work):
    env = {"HOME": work, "PATH": os.environ["PATH"], "RESTIC_PASSWORD": "benchmark"}
    repo = os.path.join(work, "repo")
    base = ["restic", "-q", "-r", repo]
    run(base + ["init"], env)
    out = {"first": run(base + ["backup", tree], env), "none": run(base + ["backup", tree], env)}
    out["none, passphrase"] = out["none"]
    out["restore"] = run(base + ["restore", "latest", "--target", os.path.join(work, "out")], env)
    out["bytes"] = tree_bytes(repo)
    return out


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("dir")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--binary", default="target/release/agent-backup")
    args.add_argument("--work")
    args = args.parse_args()
    tree, binary = os.path.abspath(args.dir), os.path.abspath(args.binary)
    for d, _, fs in os.walk(tree):
        for f in fs:
            path = os.path.join(d, f)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass
    top = tempfile.mkdtemp(prefix="versus-", dir=args.work)
    ratios = {}
    try:
        for n in range(args.rounds):
            results = {}
            for name in ("ours", "restic") if n % 2 == 0 else ("restic", "ours"):
                work = os.path.join(top, "%d-%s" % (n, name))
                os.makedirs(work)
                os.sync()
                results[name] = ours(binary, tree, work) if name == "ours" else restic(tree, work)
            line = []
            for what in ("first", "none", "none, passphrase", "restore"):
                a, b = results["ours"][what], results["restic"][what]
                ratios.setdefault(what, []).append(a[0] / b[0])
                line.append("%s %.2f/%.2f s = %.2f (cpu %.2f/%.2f s, peak %.0f/%.0f MiB)" % (what, a[0], b[0], a[0] / b[0], a[2], b[2], a[1], b[1]))
            a, b = results["ours"]["bytes"], results["restic"]["bytes"]
            ratios.setdefault("bytes", []).append(a / b)
            line.append("bytes %d/%d = %.3f" % (a, b, a / b))
            print("round %d: %s" % (n + 1, "; ".join(line)), flush=True)
        for what, values in ratios.items():
            print("%-18s median %.3f  min %.3f  max %.3f" % (what, statistics.median(values), min(values), max(values)))
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
