#!/usr/bin/env python3
"""A real daemon in bad weather (Python >= 3.9, stdlib only; Linux, as root to see all of it).

    tests/daemon_soak.py [--seconds 3600] [--seed 1] [--binary target/release/agent-backup]
                         [--server target/release/examples/b2-server]

Starts the test server of `testkit` and a daemon that pushes every 30 seconds, forgets, collects, verifies and
rehearses every few minutes, while 50 MB of transcripts and of a database that is written all the time change under
it. Over and over something breaks for a while: the network is cut, the cap is reached, the key is refused, the server
is busy, the disk with our state, cache and temporary files is full (needs root, to mount a small one), the process is
stopped as a sleep stops it. Nobody helps it. At the end everything is whole again: the daemon must push by itself,
end at SIGTERM with code 0, and what it pushed last must restore equal. Memory, descriptors (needs root), threads, temporary
files and zombies are counted all the time; the first minutes do not count. At the end each figure stands beside its
bar. Exit code 0: no bar is missed. SIGUSR1 ends it early, with its figures.
"""
import collections, hashlib, json, os, re, signal, sqlite3, statistics, subprocess, sys, threading, time

from soak_ground import Ground, digest, run

MIB = 1 << 20
RSS_DRIFT_MAX = 5 * MIB
FDS_MORE_MAX = 8
DISK_BYTES = 512 * MIB
# what docs/daemon.md says of pauses, the second one of each as far as a storm lasts so long, and a push
RECOVERY_MAX = {"cut": 150, "busy": 150, "cap": 400, "badkey": 240, "full": 240, "stop": 90}
ROWS, ROW_BYTES = 10_000, 2_000
DATABASE = ("state.db", "state.db-wal", "state.db-shm")


class Writer(threading.Thread):
    """Somebody who works with a database and never pauses."""

    def __init__(self, path, random):
        super().__init__(daemon=True)
        self.file, self.random, self.over, self.written = path, random, threading.Event(), 0
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE state (id INTEGER PRIMARY KEY, at REAL, value BLOB)")
            rows = ((n, 0.0, random.randbytes(ROW_BYTES)) for n in range(ROWS))
            db.executemany("INSERT INTO state VALUES (?, ?, ?)", rows)
        db.close()

    def run(self):
        db = sqlite3.connect(self.file, timeout=60)
        while not self.over.wait(0.05):
            with db:
                for _ in range(self.random.randint(1, 3)):
                    row = (time.time(), self.random.randbytes(ROW_BYTES), self.random.randrange(ROWS))
                    db.execute("UPDATE state SET at = ?, value = ? WHERE id = ?", row)
            self.written += 1
        db.close()


def rows(path):
    out = hashlib.sha256()
    db = sqlite3.connect(path)
    for row in db.execute("SELECT id, at, value FROM state ORDER BY id"):
        out.update(repr(row).encode())
    db.close()
    return out.hexdigest()


class Sample:
    """The process at a moment."""

    def __init__(self, pid):
        self.at = time.monotonic()
        status = dict(line.split(":", 1) for line in open("/proc/%d/status" % pid).read().splitlines())
        self.rss, self.own = (int(status[name].split()[0]) << 10 for name in ("VmRSS", "RssAnon"))
        self.threads = int(status["Threads"])
        try:
            fds = os.listdir("/proc/%d/fd" % pid)
        except PermissionError:
            fds = []
        self.fds, self.kinds = len(fds), collections.Counter()
        for fd in fds:
            try:
                self.kinds[re.sub(r"[0-9]+", "", os.readlink("/proc/%d/fd/%s" % (pid, fd)))] += 1
            except FileNotFoundError:
                pass  # closed meanwhile
        self.zombies = set()
        for entry in os.listdir("/proc"):
            try:
                fields = open("/proc/%s/stat" % entry).read().rsplit(")", 1)[1].split() if entry.isdigit() else ["", ""]
            except OSError:
                continue
            if fields[1] == str(pid) and fields[0] == "Z":
                self.zombies.add(entry)


class Soak(Ground):
    name = "daemon-soak-"

    def __init__(self, args):
        super().__init__(args)
        self.samples, self.recoveries, self.bars, self.mounted = [], [], [], False
        for name in ("home", "disk", "tree"):
            os.mkdir(self.path(name))

    def prepare(self):
        mount = ["mount", "-t", "tmpfs", "-o", "size=%d" % DISK_BYTES, "tmpfs", self.path("disk")]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0
        if not self.mounted:
            print("no small disk can be mounted here: the full disk is left out")
        os.mkdir(self.path("disk", "tmp"))
        self.env.update(
            HOME=self.path("home"),
            TMPDIR=self.path("disk", "tmp"),
            XDG_STATE_HOME=self.path("disk", "state"),
            XDG_CACHE_HOME=self.path("disk", "cache"),
            AGENT_BACKUP_RETRY="3",
        )
        config = self.path("home", ".config", "agent-backup")
        os.makedirs(config)
        with open(os.path.join(config, "config.toml"), "w") as file:
            file.write(
                '[push.paths]\ntree = "%s"\n'
                '[daemon]\npush = "*/30 * * * * *"\nforget = "10 * * * * *"\ngc = "20 */2 * * * *"\n'
                'verify = "40 */3 * * * *"\nrehearsal = "50 */5 * * * *"\njitter = "0"\npush_on_change = true\nquiet = "5s"\n'
                "[daemon.keep]\nlast = 20\n"
                '[daemon.hooks]\nbefore = "sleep 0.1 & true"\nafter = "(sleep 1 &); true"\nfailed = "sleep 60"\ntime_limit = "3s"\n'
                '[daemon.health]\nprometheus = "%s"\n' % (self.path("tree"), self.path("disk", "metrics.prom"))
            )
        os.chmod(os.path.join(config, "config.toml"), 0o600)
        for n in range(90):
            self.write(n, "w", 6_000)
        for _ in range(3_000):
            self.change()
        self.writer = Writer(self.path("tree", "state.db"), self.random)
        self.writer.start()
        code, document = self.call(self.env, "init", "--no-passphrase")
        if code:
            sys.exit("init: %s" % document)

    def write(self, n, mode, lines):
        with open(self.path("tree", "f%d.jsonl" % n), mode) as file:
            for _ in range(self.random.randint(1, lines)):
                file.write('{"at":%f,"id":"%032x"}\n' % (time.time(), self.random.getrandbits(128)))

    def change(self):
        # the tree stays of the size that it has after many of these: memory that grows with it is no leak
        for _ in range(self.random.randint(0, 3)):
            n = self.random.randrange(90)
            is_large = os.path.getsize(self.path("tree", "f%d.jsonl" % n)) > 600_000
            self.write(n, *(("w", 6_000) if is_large else ("a", 1_000)))

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            if self.daemon.poll() is not None:
                sys.exit("the daemon ended by itself with code %s; see %s" % (self.daemon.returncode, self.path("daemon.err")))
            if not self.samples or time.monotonic() - self.samples[-1].at >= 5:
                self.samples.append(Sample(self.daemon.pid))
            if self.random.random() < 0.2:
                self.change()

    def storm(self, kind):
        lasts = self.random.randint(15, 60)
        if kind == "stop":
            self.daemon.send_signal(signal.SIGSTOP)
            time.sleep(lasts)
            self.daemon.send_signal(signal.SIGCONT)
        elif kind == "full":
            filler = self.path("disk", "filler")
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 65536)
                except OSError:
                    pass
            self.wait(lasts)
            os.remove(filler)
        else:
            self.say(kind)
            self.wait(lasts)
            self.say("heal")
        return lasts

    def status(self):
        _, document = self.call(self.env, "status", "--offline")
        return {job["job"]: job for job in document.get("jobs", [])}

    def recover(self):
        """How long it takes until a push works again."""
        before, began = self.status().get("push", {}).get("done"), time.monotonic()
        while True:
            now = self.status().get("push", {})
            took = time.monotonic() - began
            if now.get("done") != before and "failing" not in now:
                return took
            if took > 1800:
                self.wrong.append("no push in half an hour: %s" % json.dumps(now))
                return took
            self.wait(2)

    def go(self):
        self.serve()
        self.prepare()
        self.err = open(self.path("daemon.err"), "wb")
        self.daemon = subprocess.Popen([self.args.binary, "daemon"], env=self.env, stderr=self.err, stdout=subprocess.DEVNULL)
        self.began = time.monotonic()
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self.args, "seconds", 0))
        self.wait(min(60, self.args.seconds / 5))
        kinds = ["stop", "cut", "badkey", "busy"] + (["full"] if self.mounted else []) + ["cap"]
        n = 0
        while time.monotonic() - self.began < self.args.seconds:
            kind = kinds[n % len(kinds)] if n < 2 * len(kinds) else self.random.choice(kinds)
            n += 1
            lasts = self.storm(kind)
            took = self.recover()
            self.recoveries.append((kind, took))
            since = time.monotonic() - self.began
            rss = self.samples[-1].rss / MIB
            print("%5d s  %-6s for %2d s, a push again after %3.0f s, RSS %.1f MiB" % (since, kind, lasts, took, rss), flush=True)
            self.wait(60)
        return self.judge()

    def bar(self, what, seen, most=None, text="%d"):
        """A figure beside the most that it may be."""
        good = most is None or seen <= most
        if not good:
            self.wrong.append(what)
        beside = "" if most is None else "at most " + text % most
        self.bars.append("%-46s %8s  %-14s %s" % (what, text % seen, beside, "" if good else "MISSED"))

    def judge(self):
        self.measure()
        self.writer.over.set()
        self.writer.join()
        tree, database = digest(self.path("tree"), DATABASE), rows(self.path("tree", "state.db"))
        did = self.status()
        metrics = open(self.path("disk", "metrics.prom")).read().splitlines()
        self.daemon.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self.bar("exit code at SIGTERM", self.daemon.wait(timeout=120), 0)
        self.bar("seconds until that", time.monotonic() - began, 60, "%.1f")
        left = [os.path.join(d, f) for d, dirs, files in os.walk(self.path("disk")) for f in dirs + files if f.startswith((".tmp", ".agent-backup", "agent-backup-"))]
        left += [self.path("disk", "tmp", name) for name in os.listdir(self.path("disk", "tmp"))]
        self.bar("temporary files left", len(left), 0)
        out = self.path("out")
        code, document = self.call(self.env, "pull", "--to", out)
        equal = code == 0 and digest(os.path.join(out, "tree"), DATABASE) == tree and rows(os.path.join(out, "tree", "state.db")) == database
        self.bar("restores of the last push that differ", int(not equal), 0)
        code, looked = self.call(self.env, "verify", "--read-data")
        self.bar("exit code of verify --read-data", code, 0)
        for job, told in did.items():
            print("%-9s %s" % (job, told.get("did", "-")))
        print("\n".join(line for line in metrics if "job_runs_total{" in line or "job_failures_total{" in line))
        print("\n".join(self.bars))
        for line in self.wrong:
            print("WRONG " + line)
        if not equal or code:
            print(json.dumps(document)[:600], json.dumps(looked)[:600], left)
        return not self.wrong

    def measure(self):
        lasted = time.monotonic() - self.began
        warm = self.began + min(300, lasted / 4)
        some = [sample for sample in self.samples if sample.at >= warm]
        fifth = max(1, len(some) // 5)
        early, late = some[:fifth], some[-fifth:]
        median = lambda samples, of: statistics.median(of(sample) for sample in samples)
        mid = statistics.fmean(sample.at for sample in some)
        mean = statistics.fmean(sample.rss for sample in some)
        slope = sum((s.at - mid) * (s.rss - mean) for s in some) / sum((s.at - mid) ** 2 for s in some)
        rss, own = lambda sample: sample.rss, lambda sample: sample.own
        bar = self.bar
        bar("minutes with the daemon", lasted / 60)
        bar("transactions of the database meanwhile", self.writer.written)
        bar("MiB of live state", sum(os.path.getsize(self.path("tree", f)) for f in os.listdir(self.path("tree"))) / MIB)
        bar("RSS after the warm-up, MiB (median)", median(early, rss) / MIB, text="%.1f")
        bar("RSS at the end, MiB (median)", median(late, rss) / MIB, text="%.1f")
        bar("RSS, MiB at most", max(map(rss, some)) / MIB, text="%.1f")
        bar("drift of RSS, MiB", (median(late, rss) - median(early, rss)) / MIB, RSS_DRIFT_MAX / MIB, "%.1f")
        bar("drift of its fitted line, MiB", slope * (some[-1].at - some[0].at) / MIB, RSS_DRIFT_MAX / MIB, "%.1f")
        bar("drift of anonymous memory, MiB", (median(late, own) - median(early, own)) / MIB, RSS_DRIFT_MAX / MIB, "%.1f")
        bar("descriptors early, at most", max(sample.fds for sample in early))
        bar("descriptors late, at most", max(sample.fds for sample in late), max(sample.fds for sample in early) + FDS_MORE_MAX)
        print("most descriptors: %s" % dict(max(late, key=lambda sample: sample.fds).kinds.most_common(8)))
        bar("threads early, at most", max(sample.threads for sample in early))
        bar("threads late, at most", max(sample.threads for sample in late), max(sample.threads for sample in early) + FDS_MORE_MAX)
        # one that is there at two looks is one that nobody buries
        bar("zombies", len(set().union(*(a.zombies & b.zombies for a, b in zip(self.samples, self.samples[1:])))), 0)
        for kind in sorted({kind for kind, _ in self.recoveries}):
            took = [took for which, took in self.recoveries if which == kind]
            bar("seconds to recover, %s (%d times)" % (kind, len(took)), max(took), RECOVERY_MAX[kind])

    def end(self, good):
        if getattr(self, "daemon", None) and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        if good and self.mounted:
            subprocess.run(["umount", self.path("disk")])
        super().end(good)


if __name__ == "__main__":
    run(Soak, __doc__, 3600)
