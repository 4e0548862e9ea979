#!/bin/sh
# The main job against an S3 server (moto), with the binary and a tree of yours.
#
#   tests/s3-trial.sh DIRECTORY [BINARY]
#
# Pushes DIRECTORY, changes it, pushes again, three times over; then pulls every snapshot and
# compares it with what the directory was: bytes, modes, times, links, empty directories. At the end
# a push with no change must make no snapshot. DIRECTORY itself is copied, never changed.
#
# BINARY: default target/release/agent-backup. TMPDIR needs room for about six times DIRECTORY.
# Needs python3; PyPI the first time (see tests/moto/run.sh for MOTO_VENV). Exit code 0: all equal.
# A tree to try it with:
#
#   mkdir /tmp/tree && head -c 50M /dev/urandom | split -b 1M - /tmp/tree/ && tests/s3-trial.sh /tmp/tree
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${S3_TEST_ENDPOINT:-}" ]; then
    [ $# -ge 1 ] && [ -d "$1" ] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
    exec "$here/moto/run.sh" "$0" "$@"
fi

# from here on a server is there
source=$(cd "$1" && pwd)
binary=${2:-$here/../target/release/agent-backup}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/home"

run() {
    env -i HOME="$work/home" TMPDIR="$work" PATH="$PATH" \
        AGENT_BACKUP_REPO="s3:$S3_TEST_ENDPOINT/$S3_TEST_BUCKET/trial-$$" \
        AGENT_BACKUP_REGION="$S3_TEST_REGION" \
        AGENT_BACKUP_KEY_ID="$S3_TEST_KEY_ID" AGENT_BACKUP_SECRET_KEY="$S3_TEST_SECRET" \
        "$binary" "$@"
}

# Everything a restore must give back, a line each. Owners and hard links are not looked at.
describe() {
    python3 - "$1" <<'PY'
import hashlib, os, stat, sys
root = os.fsencode(sys.argv[1])
for folder, folders, files in os.walk(root):
    folders.sort()
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        meta = os.lstat(path)
        what = b""
        if stat.S_ISLNK(meta.st_mode):
            what = os.readlink(path)
        elif stat.S_ISREG(meta.st_mode):
            with open(path, "rb") as file:
                what = hashlib.file_digest(file, "sha256").hexdigest().encode() \
                    if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest().encode()
        mode = 0 if stat.S_ISLNK(meta.st_mode) else meta.st_mode
        print(os.path.relpath(path, root), oct(mode), meta.st_mtime_ns, what)
PY
}

# What an agent does between two pushes: appends, rewrites in the middle, adds, removes, moves.
change() {
    python3 - "$1" "$2" <<'PY'
import os, random, sys
root, chance = os.fsencode(sys.argv[1]), random.Random(int(sys.argv[2]))
files = sorted(
    os.path.join(folder, name)
    for folder, _, names in os.walk(root) for name in names
    if os.path.isfile(os.path.join(folder, name)) and not os.path.islink(os.path.join(folder, name))
)
chance.shuffle(files)
count = max(1, len(files) // 20)
for path in files[:count]:
    with open(path, "ab") as file:
        file.write(chance.randbytes(chance.randrange(1, 50_000)))
for path in files[count:2 * count]:
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(chance.randbytes(1_000))
if len(files) > 3 * count:
    for path in files[2 * count:3 * count]:
        os.unlink(path)
    os.rename(files[-1], files[-1] + b".moved")
os.makedirs(os.path.join(root, b"new-%d" % int(sys.argv[2]), b"empty"))
with open(os.path.join(root, b"new-%d" % int(sys.argv[2]), b"file"), "wb") as file:
    file.write(chance.randbytes(200_000))
PY
}

cp -a "$source" "$work/tree"
run init --no-passphrase >"$work/init"
for n in 1 2 3 4; do
    [ "$n" = 1 ] || change "$work/tree" "$n"
    describe "$work/tree" >"$work/expected-$n"
    run push --path "tree=$work/tree" --tag "n$n"
done
run push --path "tree=$work/tree" | grep 'nothing changed'
run snapshots
for n in 1 2 3 4; do
    run pull "latest~$((4 - n))" --to "$work/out"
    describe "$work/out/tree" >"$work/restored"
    cmp "$work/expected-$n" "$work/restored" || { diff "$work/expected-$n" "$work/restored" | head -20; exit 1; }
    echo "snapshot $n is equal: $(wc -l <"$work/restored") entries"
    rm -rf "$work/out"
done
