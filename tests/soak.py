#!/usr/bin/env python3
"""Many real processes on one bucket, killed at random (Python >= 3.9, stdlib only).

    tests/soak.py [--seconds 600] [--seed 1] [--binary target/release/agent-backup]
                  [--server target/release/examples/b2-server]

Starts the test server of `testkit`, makes a repository in it, and runs for so long: 4 pushers, each with
a home and a tree of its own that changes before every push, 2 collectors, 1 that forgets and 1 that
verifies. Every run of any of them may be ended by kill -9. Nobody is helped: the next run has to manage.
At the end every snapshot that a push acknowledged and nobody forgot is restored and compared with what
the tree was, `verify --read-data` runs, and so do two more collections. Exit code 0: nothing was lost.
"""
import json, os, random, shutil, subprocess, threading, time

from soak_ground import Ground, digest, run

BUSY, SAFE = 11, 17  # another one runs here; stopped for safety because another client ended it


class Soak(Ground):
    def __init__(self, args):
        super().__init__(args)
        self.until = 0
        self.lock = threading.Lock()
        self.acknowledged, self.forgotten, self.counts = {}, set(), {}

    def home(self, name):
        home = self.path(name)
        os.makedirs(home, exist_ok=True)
        return {**self.env, "HOME": home}

    def run(self, name, *words, kill=0.0):
        """Runs the program; killed with this chance. Its exit code (None: killed) and document."""
        kill_after = self.random.expovariate(4) if self.random.random() < kill else None
        with open(self.path(name + ".err"), "ab") as err:
            code, document = self.call(self.home(name), *words, err=err, kill_after=kill_after)
        with self.lock:
            key = (name.rstrip("0123456789"), words[0], "killed" if code == -9 else code)
            self.counts[key] = self.counts.get(key, 0) + 1
        return (None, None) if code == -9 else (code, document)

    def expect(self, name, code, document, *good):
        if code is not None and code not in good:
            self.wrong.append("%s: code %s: %s" % (name, code, json.dumps(document)[:600]))

    def change(self, tree, rng):
        for _ in range(rng.randint(1, 6)):
            path = os.path.join(tree, "f%d" % rng.randint(0, 25))
            what = rng.random()
            if what < 0.2 and os.path.exists(path):
                os.remove(path)
            elif what < 0.6:
                with open(path, "ab") as file:
                    file.write(("line %d\n" % rng.randint(0, 99)).encode() * rng.randint(1, 400))
            else:
                # the same few contents come back again and again, on every machine
                content = random.Random(rng.randint(0, 12)).randbytes(rng.choice([200, 30_000, 300_000]))
                with open(path, "wb") as file:
                    file.write(content)

    def pusher(self, n):
        name, rng = "pusher%d" % n, random.Random(self.args.seed * 100 + n)
        tree = self.path("tree%d" % n)
        os.makedirs(tree, exist_ok=True)
        while time.monotonic() < self.until:
            self.change(tree, rng)
            was = digest(tree)
            # --always: the answer names a snapshot of this very tree
            code, document = self.run(name, "push", "--always", "--path", "tree=" + tree, kill=0.3)
            self.expect(name, code, document, 0, 1) if not was else self.expect(name, code, document, 0)
            if code == 0:
                with self.lock:
                    self.acknowledged[document["snapshot"]["id"]] = was

    def collector(self, n):
        name = "collector%d" % n
        while time.monotonic() < self.until:
            code, document = self.run(name, "gc", "--fence", "0s", "--more-than-half", kill=0.3)
            self.expect(name, code, document, 0, SAFE)
            if code == SAFE and "ended this collection" not in document["error"]["message"]:
                self.wrong.append("%s: %s" % (name, document["error"]["message"]))
            time.sleep(self.random.random())

    def forgetter(self):
        while time.monotonic() < self.until:
            time.sleep(self.random.random() * 2)
            with self.lock:
                there = [one for one in self.acknowledged if one not in self.forgotten]
                some = self.random.sample(there, k=len(there) // 3)
                self.forgotten.update(some)  # before: a run that is killed may have done it
            if some:
                code, document = self.run("forgetter", "forget", "--yes", *some, kill=0.3)
                # one that an earlier run was killed in the middle of may be gone
                self.expect("forgetter", code, document, 0, 1)

    def verifier(self):
        while time.monotonic() < self.until:
            level = self.random.choice(["metadata", "sample", "all"])
            code, document = self.run("verifier", "verify", "--level", level, kill=0.2)
            self.expect("verifier", code, document, 0)
            time.sleep(self.random.random())

    def go(self):
        self.serve()
        first = self.home("pusher0")
        first["AGENT_BACKUP_PASSWORD"] = "soak"
        subprocess.run([self.args.binary, "init"], env=first, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        names = ["pusher%d" % n for n in range(1, 4)] + ["collector0", "collector1", "forgetter", "verifier"]
        for name in names:
            env = {**self.home(name), "AGENT_BACKUP_PASSWORD": "soak"}
            subprocess.run([self.args.binary, "key", "enroll"], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.until = time.monotonic() + self.args.seconds
        work = [(self.pusher, n) for n in range(4)] + [(self.collector, 0), (self.collector, 1), (self.forgetter,), (self.verifier,)]
        threads = [threading.Thread(target=what, args=rest) for what, *rest in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.judge()

    def judge(self):
        for name in ("collector0", "collector1"):
            code, document = self.run(name, "gc", "--fence", "0s", "--more-than-half")
            self.expect("last " + name, code, document, 0)
        kept = {one: was for one, was in self.acknowledged.items() if one not in self.forgotten}
        lost = 0
        for one, was in kept.items():
            out = self.path("out")
            code, document = self.run("pusher0", "pull", one, "--yes", "--to", out)
            if code != 0 or was not in (digest(out), digest(os.path.join(out, "tree"))):
                lost += 1
                self.wrong.append("snapshot %s: code %s, %s" % (one, code, "other content" if code == 0 else json.dumps(document)[:400]))
            shutil.rmtree(out, ignore_errors=True)
        code, document = self.run("verifier", "verify", "--read-data")
        self.expect("last verify", code, document, 0)
        for key, n in sorted(self.counts.items(), key=str):
            print("%-12s %-8s %-8s %d" % (*key, n))
        print("acknowledged %d, forgotten %d, restored %d, lost %d" % (len(self.acknowledged), len(self.forgotten), len(kept) - lost, lost))
        for line in self.wrong[:40]:
            print("WRONG " + line)
        return not self.wrong


if __name__ == "__main__":
    run(Soak, __doc__, 600)
