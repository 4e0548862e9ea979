#!/usr/bin/env python3
"""A real daemon in bad weather (Python >= 3.9, stdlib only; Linux).

    tests/daemon_soak.py [--seconds 3600] [--seed 1] [--binary target/release/agent-backup]
                         [--server target/release/examples/b2-server]

Starts the test server of `testkit` and a daemon that pushes every 30 seconds, forgets, collects, verifies and
rehearses every few minutes, while the tree it backs up changes. Over and over something breaks for a while:
the network is cut, the cap is reached, the key is refused, the server is busy, the disk with our state and
cache is full (needs root, to mount a small one), the process is stopped as a sleep stops it. Nobody helps it. At the
end everything is whole again: the daemon must push by itself, end at SIGTERM with code 0, and what it pushed last must
restore equal. Memory, descriptors, threads, temporary files and zombies are counted all the time.
Exit code 0: it recovered each time, RSS drifted by less than 5 MiB, no temporary file, no zombie, no descriptor too many.
"""
import argparse, hashlib, json, os, random, shutil, signal, statistics, subprocess, sys, tempfile, time

RSS_DRIFT_MAX = 5 << 20
DISK_BYTES = 64 << 20


def digest(top):
    out = []
    for d, dirs, files in os.walk(top):
        dirs.sort()
        for f in sorted(files):
            path = os.path.join(d, f)
            out.append((os.path.relpath(path, top), hashlib.sha256(open(path, "rb").read()).hexdigest()))
    return out


class Soak:
    def __init__(self, args):
        self.args, self.random = args, random.Random(args.seed)
        self.top = tempfile.mkdtemp(prefix="daemon-soak-")
        self.samples, self.weather, self.wrong, self.mounted = [], [], [], False
        for name in ("home", "tmp", "disk", "tree"):
            os.mkdir(os.path.join(self.top, name))

    def path(self, *names):
        return os.path.join(self.top, *names)

    def serve(self):
        self.server = subprocess.Popen([self.args.server], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        said = {}
        for _ in range(3):
            said.update(word.split("=", 1) for word in self.server.stdout.readline().split()[1:])
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": self.path("home"),
            "TMPDIR": self.path("tmp"),
            "XDG_STATE_HOME": self.path("disk", "state"),
            "XDG_CACHE_HOME": self.path("disk", "cache"),
            "AGENT_BACKUP_REPO": "s3:%s/%s/soak" % (said["S3_TEST_ENDPOINT"], said["S3_TEST_BUCKET"]),
            "AGENT_BACKUP_REGION": said["S3_TEST_REGION"],
            "AGENT_BACKUP_KEY_ID": said["S3_TEST_KEY_ID"],
            "AGENT_BACKUP_SECRET_KEY": said["S3_TEST_SECRET"],
            "AGENT_BACKUP_RETRY": "3",
        }

    def say(self, word):
        self.server.stdin.write(word + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()

    def run(self, *words):
        done = subprocess.run([self.args.binary, "--json", *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            return done.returncode, {"error": done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")}

    def prepare(self):
        mount = ["mount", "-t", "tmpfs", "-o", "size=%d" % DISK_BYTES, "tmpfs", self.path("disk")]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, stderr=subprocess.DEVNULL).returncode == 0
        if not self.mounted:
            print("no small disk can be mounted here: the full disk is left out")
        config = self.path("home", ".config", "agent-backup")
        os.makedirs(config)
        with open(os.path.join(config, "config.toml"), "w") as file:
            file.write(
                '[push.paths]\ntree = "%s"\n'
                '[daemon]\npush = "*/30 * * * * *"\nforget = "10 * * * * *"\ngc = "20 */2 * * * *"\n'
                'verify = "40 */3 * * * *"\nrehearsal = "50 */5 * * * *"\njitter = "0"\npush_on_change = true\nquiet = "5s"\n'
                "[daemon.keep]\nlast = 20\n[daemon.health]\nprometheus = \"%s\"\n" % (self.path("tree"), self.path("metrics.prom"))
            )
        os.chmod(os.path.join(config, "config.toml"), 0o600)
        for n in range(60):
            with open(self.path("tree", "f%d.jsonl" % n), "w") as file:
                file.write('{"n":%d}\n' % n * self.random.randint(1, 5000))
        code, document = self.run("init", "--no-passphrase")
        if code:
            sys.exit("init: %s" % document)

    def change(self):
        # the tree stays of one size in the end: memory that grows with it is no leak
        for _ in range(self.random.randint(0, 3)):
            path = self.path("tree", "f%d.jsonl" % self.random.randint(0, 90))
            is_large = os.path.exists(path) and os.path.getsize(path) > 100_000
            with open(path, "w" if is_large else "a") as file:
                file.write('{"at":%f}\n' % time.time() * self.random.randint(1, 2000))

    def look(self):
        status = dict(line.split(":", 1) for line in open("/proc/%d/status" % self.pid).read().splitlines())
        zombies = 0
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    fields = open("/proc/%s/stat" % entry).read().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                zombies += fields[1] == str(self.pid) and fields[0] == "Z"
        fds = len(os.listdir("/proc/%d/fd" % self.pid))
        self.samples.append((time.monotonic(), int(status["VmRSS"].split()[0]) << 10, fds, int(status["Threads"]), zombies))

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            if self.daemon.poll() is not None:
                sys.exit("the daemon ended by itself with code %s; see %s" % (self.daemon.returncode, self.path("daemon.err")))
            if int(time.monotonic()) % 5 == 0:
                self.look()
            if self.random.random() < 0.2:
                self.change()

    def storm(self, kind):
        began = time.monotonic()
        lasts = self.random.randint(15, 60)
        if kind == "stop":
            os.kill(self.pid, signal.SIGSTOP)
            time.sleep(lasts)
            os.kill(self.pid, signal.SIGCONT)
        elif kind == "full":
            filler = self.path("disk", "filler")
            with open(filler, "wb") as file:
                try:
                    while True:
                        file.write(b"\0" * 65536)
                        file.flush()
                except OSError:
                    pass
            self.wait(lasts)
            os.remove(filler)
        else:
            self.say(kind)
            self.wait(lasts)
            self.say("heal")
        self.weather.append((kind, lasts))

    def pushed(self):
        _, document = self.run("status", "--offline")
        return next((job for job in document.get("jobs", []) if job["job"] == "push"), {})

    def recover(self):
        """How long it takes until a push works again."""
        before, began = self.pushed().get("done"), time.monotonic()
        while True:
            now = self.pushed()
            if now.get("done") != before and "failing" not in now:
                return time.monotonic() - began
            if time.monotonic() - began > 1800:
                self.wrong.append("no push in half an hour: %s" % json.dumps(now))
                return None
            self.wait(2)

    def go(self):
        self.serve()
        self.prepare()
        self.err = open(self.path("daemon.err"), "wb")
        self.daemon = subprocess.Popen([self.args.binary, "daemon"], env=self.env, stderr=self.err, stdout=subprocess.DEVNULL)
        self.pid = self.daemon.pid
        self.wait(min(60, self.args.seconds / 5))
        kinds = ["cap", "cut", "badkey", "stop", "busy"] + (["full"] if self.mounted else [])
        end, recoveries, n = time.monotonic() + self.args.seconds, [], 0
        while time.monotonic() < end:
            kind = kinds[n % len(kinds)] if n < len(kinds) else self.random.choice(kinds)
            n += 1
            self.storm(kind)
            took = self.recover()
            recoveries.append((kind, took))
            print("%-7s for %3d s, a push again after %s s" % (kind, self.weather[-1][1], "?" if took is None else round(took)), flush=True)
        self.wait(40)
        return self.judge()

    def judge(self):
        self.look()
        self.run("status")
        tree = digest(self.path("tree"))
        self.daemon.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = self.daemon.wait(timeout=120)
        print("ended in %.1f s with code %s" % (time.monotonic() - began, code))
        if code != 0:
            self.wrong.append("the daemon ended with code %s" % code)
        out = self.path("out")
        code, document = self.run("pull", "--to", out)
        if code != 0 or digest(os.path.join(out, "tree")) != tree:
            self.wrong.append("the last push does not restore equal: code %s %s" % (code, json.dumps(document)[:500]))
        code, document = self.run("verify", "--read-data")
        if code != 0:
            self.wrong.append("verify: code %s %s" % (code, json.dumps(document)[:500]))
        left = [os.path.join(d, f) for top in ("tmp", "disk") for d, _, files in os.walk(self.path(top)) for f in files if f.startswith((".tmp", ".agent-backup"))]
        left += [self.path("tmp", name) for name in os.listdir(self.path("tmp"))]
        if left:
            self.wrong.append("left over: %s" % left)
        fifth = max(1, len(self.samples) // 5)
        early, late = self.samples[fifth : 2 * fifth] or self.samples, self.samples[-fifth:]
        rss = [statistics.median(sample[1] for sample in some) for some in (early, late)]
        fds = [max(sample[2] for sample in some) for some in (early, late)]
        _, record = self.run("status", "--offline")
        for job in record.get("jobs", []):
            print("%-9s %s" % (job["job"], job.get("did", "-")))
        metrics = open(self.path("metrics.prom")).read().splitlines()
        print("\n".join(line for line in metrics if "job_runs_total{" in line or "job_failures_total{" in line))
        print("RSS MiB: early %.1f, late %.1f, largest %.1f" % (rss[0] / 2**20, rss[1] / 2**20, max(s[1] for s in self.samples) / 2**20))
        print("descriptors: most early %d, most late %d; least %d" % (fds[0], fds[1], min(s[2] for s in self.samples)))
        print("threads: most %d; zombies: most %d; samples %d" % (max(s[3] for s in self.samples), max(s[4] for s in self.samples), len(self.samples)))
        if rss[1] - rss[0] > RSS_DRIFT_MAX:
            self.wrong.append("RSS drifted by %.1f MiB" % ((rss[1] - rss[0]) / 2**20))
        # a zombie that is there at two looks in a row is one that nobody buries
        if any(a[4] and b[4] for a, b in zip(self.samples, self.samples[1:])):
            self.wrong.append("zombies")
        if fds[1] > fds[0] + 8:
            self.wrong.append("descriptors leak: %d, then %d" % tuple(fds))
        for line in self.wrong:
            print("WRONG " + line)
        return not self.wrong

    def end(self, good):
        for process in (getattr(self, "daemon", None), getattr(self, "server", None)):
            if process and process.poll() is None:
                process.kill()
                process.wait()
        if good:
            if self.mounted:
                subprocess.run(["umount", self.path("disk")])
            shutil.rmtree(self.top, ignore_errors=True)
        else:
            print("left for a look: %s" % self.top)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seconds", type=float, default=3600)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--binary", default="target/release/agent-backup")
    args.add_argument("--server", default="target/release/examples/b2-server")
    args = args.parse_args()
    args.binary, args.server = os.path.abspath(args.binary), os.path.abspath(args.server)
    soak, good = Soak(args), False
    try:
        good = soak.go()
    finally:
        soak.end(good)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
