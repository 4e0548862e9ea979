#!/bin/sh
# Runs a command against a local S3 server (moto, from PyPI) with an empty, versioned bucket.
#
#   tests/moto/run.sh COMMAND [ARGUMENT...]
#   tests/moto/run.sh cargo test -p agent-backup-testkit --test all live:: -- --ignored
#
# Needs python3 with venv, and PyPI the first time. moto is installed into MOTO_VENV (default: a
# temporary directory that is removed again; name one to keep it for the next run).
# The server listens on a free port of 127.0.0.1 and is stopped when the command ends, whatever way.
# Exit code: the command's. The command sees:
#
#   S3_TEST_ENDPOINT  http://127.0.0.1:PORT
#   S3_TEST_BUCKET    agent-backup-test
#   S3_TEST_REGION    us-east-1
#   S3_TEST_KEY_ID    testing
#   S3_TEST_SECRET    testing
set -eu

[ $# -gt 0 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0" >&2; exit 2; }

work=$(mktemp -d)
server=
finish() {
    code=$?
    trap - EXIT
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

venv=${MOTO_VENV:-$work/venv}
if [ ! -x "$venv/bin/moto_server" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.*'
fi

port=$("$venv/bin/python" -c '
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
S3_TEST_ENDPOINT=http://127.0.0.1:$port
S3_TEST_BUCKET=agent-backup-test
S3_TEST_REGION=us-east-1
S3_TEST_KEY_ID=testing
S3_TEST_SECRET=testing
export S3_TEST_ENDPOINT S3_TEST_BUCKET S3_TEST_REGION S3_TEST_KEY_ID S3_TEST_SECRET

"$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >"$work/log" 2>&1 &
server=$!

# moto brings boto3 along. Versions are kept, as on B2, so that deletes only hide.
AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing "$venv/bin/python" - <<'PY' || { cat "$work/log" >&2; exit 1; }
import os, time, boto3, botocore.exceptions
s3 = boto3.client("s3", endpoint_url=os.environ["S3_TEST_ENDPOINT"], region_name=os.environ["S3_TEST_REGION"])
bucket = os.environ["S3_TEST_BUCKET"]
for attempt in range(120):
    try:
        s3.create_bucket(Bucket=bucket)
        break
    except botocore.exceptions.EndpointConnectionError:
        time.sleep(0.25)
else:
    raise SystemExit("moto_server did not start")
s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
PY

"$@"
