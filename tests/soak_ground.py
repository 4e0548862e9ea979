"""What both soaks stand on: the test server of `testkit`, the program that is tried, what a tree holds."""
import argparse, hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, threading


def digest(top, left_out=()):
    out = []
    for d, dirs, files in os.walk(top):
        dirs.sort()
        for f in sorted(files):
            path = os.path.join(d, f)
            if not f.endswith(left_out):
                out.append((os.path.relpath(path, top), hashlib.sha256(open(path, "rb").read()).hexdigest()))
    return out


class Ground:
    name = "soak-"

    def __init__(self, args):
        self.args, self.random, self.wrong = args, random.Random(args.seed), []
        self.top = tempfile.mkdtemp(prefix=self.name)

    def path(self, *names):
        return os.path.join(self.top, *names)

    def serve(self):
        # bodies stay in its memory: in files, each version would take a descriptor
        self.server = subprocess.Popen([self.args.server], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        said = {}
        for _ in range(3):
            said.update(word.split("=", 1) for word in self.server.stdout.readline().split()[1:])
        self.env = {
            "PATH": os.environ["PATH"],
            "AGENT_BACKUP_REPO": "s3:%s/%s/soak" % (said["S3_TEST_ENDPOINT"], said["S3_TEST_BUCKET"]),
            "AGENT_BACKUP_REGION": said["S3_TEST_REGION"],
            "AGENT_BACKUP_KEY_ID": said["S3_TEST_KEY_ID"],
            "AGENT_BACKUP_SECRET_KEY": said["S3_TEST_SECRET"],
        }

    def say(self, word):
        self.server.stdin.write(word + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()

    def call(self, env, *words, err=subprocess.DEVNULL, kill_after=None):
        """Runs the program, perhaps not to its end. Its exit code and document."""
        process = subprocess.Popen([self.args.binary, "--json", *words], env=env, stdout=subprocess.PIPE, stderr=err)
        if kill_after is not None:
            threading.Timer(kill_after, process.kill).start()
        out, _ = process.communicate()
        try:
            return process.returncode, json.loads(out)
        except ValueError:
            return process.returncode, {"error": {"message": out.decode(errors="replace")}}

    def end(self, good):
        if getattr(self, "server", None):
            self.server.kill()
            self.server.wait()
        if good:
            shutil.rmtree(self.top, ignore_errors=True)
        else:
            print("left for a look: " + self.top)


def run(kind, text, seconds):
    """A soak as a command: code 0 if it went well."""
    args = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--seconds", type=float, default=seconds)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--binary", default="target/release/agent-backup")
    args.add_argument("--server", default="target/release/examples/b2-server")
    args = args.parse_args()
    args.binary, args.server = os.path.abspath(args.binary), os.path.abspath(args.server)
    soak, good = kind(args), False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to stop"))
    try:
        good = soak.go()
    finally:
        soak.end(good)
    sys.exit(0 if good else 1)
