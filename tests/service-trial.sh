#!/bin/sh
# The service under a real systemd, with the binary: installed, started, stopped and removed, of a user and of the machine.
#
#   tests/service-trial.sh [BINARY]
#
# Boots this system itself as a container, over a layer in memory that takes everything that is written: nothing of
# the machine is changed. In it a user installs the service, looks at it, changes a file and removes the service
# again, which has to bring a last push. Then the unit of the machine does the same: what it may not do is tried from a hook,
# its passphrase comes as a credential, and an empty home is restored from inside of it.
#
# BINARY: default target/release/agent-backup. Needs root, systemd, systemd-nspawn (the package systemd-container) and
# overlayfs, and two minutes. Exit code 0: all of it worked; the log is printed if not.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
binary=${1:-$here/../target/release/agent-backup}
[ -x "$binary" ] && [ "$(id -u)" = 0 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }

layer=$(mktemp -d)
cleanup() {
    umount "$layer/root" 2>/dev/null || true
    umount "$layer"
    rmdir "$layer"
}
mount -t tmpfs -o size=512m tmpfs "$layer"
trap cleanup EXIT
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
root=$layer/root
cp "$binary" "$root/usr/local/bin/agent-backup"

# what the user of the trial does, in three parts
cat > "$root/trial-user.sh" <<'END'
set -eu
export XDG_RUNTIME_DIR=/run/user/$(id -u)
fail() { echo "TRIAL: $1"; exit 1; }
count() { agent-backup --password-file "$HOME/pass" snapshots --json | grep -o '"tree"' | wc -l; }
until_count() {
    for _ in $(seq 40); do
        if [ "$(count)" -ge "$1" ]; then return 0; fi
        sleep 1
    done
    fail "$2"
}
case $1 in
user)
    mkdir -p "$HOME/.claude/projects/p" "$HOME/hook"
    mkdir -p -m 700 "$HOME/.config/agent-backup"
    echo '{"n":1}' > "$HOME/.claude/projects/p/1.jsonl"
    (umask 077; echo 'correct horse battery' > "$HOME/pass")
    cat > "$HOME/.config/agent-backup/config.toml" <<CONFIG
repo = "$HOME/repo"
password_file = "~/pass"
[daemon.hooks]
after = "sh ~/hook/run"
CONFIG
    echo : > "$HOME/hook/run"
    agent-backup init --password-file "$HOME/pass" > /dev/null
    agent-backup service install
    agent-backup service status
    until_count 1 'the service of the user pushed nothing'
    echo '{"n":2}' > "$HOME/.claude/projects/p/2.jsonl"
    agent-backup service uninstall
    [ "$(count)" = 2 ] || fail 'no last push of the service of the user'
    if agent-backup service status; then fail 'it is still there'; fi
    cat > "$HOME/hook/run" <<'HOOK'
cd ~/hook
id -u > id
ls /home > homes
ls -A /root > root
if touch /etc/trial 2>/dev/null; then echo yes; else echo no; fi > etc
sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status > rights
ls "$CREDENTIALS_DIRECTORY" > credentials
touch done
HOOK
    rm -f "$HOME"/.local/state/agent-backup/repos/*/machine.key
    if agent-backup service install --system; then fail 'a user wrote to /etc'; fi
    agent-backup service install --system --dry-run > "$HOME/unit" ;;
machine)
    agent-backup service status --system
    for _ in $(seq 40); do if [ -e "$HOME/hook/done" ]; then break; fi; sleep 1; done
    cd "$HOME/hook"
    [ "$(cat id)" = "$(id -u)" ] || fail 'it runs as somebody else'
    [ "$(cat homes)" = "$(basename "$HOME")" ] || fail 'it sees other homes'
    [ ! -s root ] || fail 'it sees the home of root'
    [ "$(cat etc)" = no ] || fail 'it may write to /etc'
    [ "$(cat rights)" = 0000000000000000 ] || fail 'it has rights of root'
    [ "$(cat credentials)" = agent-backup-password ] || fail 'it has no credential'
    echo '{"n":3}' > "$HOME/.claude/projects/p/3.jsonl" ;;
stopped)
    [ "$(count)" = 3 ] || fail 'no last push of the service of the machine'
    if agent-backup service status --system; then fail 'what was stopped runs'; fi
    rm -r "$HOME/.claude" "$HOME/.local/state" ;;
restored)
    for _ in $(seq 40); do
        if [ -e "$HOME/.claude/projects/p/3.jsonl" ]; then exit 0; fi
        sleep 1
    done
    fail 'nothing was restored from inside' ;;
esac
END

cat > "$root/trial.sh" <<'END'
set -eux
useradd --create-home trial
loginctl enable-linger trial
for _ in $(seq 20); do if [ -S "/run/user/$(id -u trial)/systemd/private" ]; then break; fi; sleep 1; done
as() { su - trial -c "sh /trial-user.sh $1"; }
as user
unit=agent-backup-trial.service
cp /home/trial/unit /etc/systemd/system/$unit
systemctl daemon-reload
systemctl enable $unit
systemctl restart $unit
as machine
systemctl stop $unit
as stopped
systemctl start $unit
as restored
cd /
systemctl disable --now $unit
rm /etc/systemd/system/$unit
journalctl --no-pager -u $unit
echo 'TRIAL: all of it worked'
END
cat > "$root/etc/systemd/system/trial.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=240
ExecStart=/bin/sh -c 'sh /trial.sh > /trial.log 2>&1'
ExecStopPost=/bin/systemctl poweroff --force
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../trial.service "$root/etc/systemd/system/multi-user.target.wants/trial.service"

cd /
timeout -s KILL 300 systemd-nspawn -q -D "$root" --private-network --keep-unit --register=no \
    -b systemd.unit=multi-user.target > "$layer/boot.log" 2>&1 || true
if grep -q '^TRIAL: all of it worked' "$root/trial.log" 2>/dev/null; then
    grep '^TRIAL: ' "$root/trial.log"
    exit 0
fi
tail -n 100 "$layer/boot.log" "$root/trial.log" >&2
exit 1
