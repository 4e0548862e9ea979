//! What stands below the flags in each help text.

pub(super) const TOP: &str = "\
Start here:
  agent-backup push                         back up every agent to a repository on this machine
  agent-backup init -r b2:bucket/agents     make a repository in a bucket
  agent-backup snapshots                    what there is
  agent-backup pull --to /tmp/look          restore the newest snapshot to look at it

A snapshot is `latest`, `latest~2`, an id or the beginning of one. Settings come from flags, then
the environment (AGENT_BACKUP_REPO, ...), then config.toml. Exit codes are in docs/cli.md.";

pub(super) const INIT: &str = "\
The recovery code is printed once. Write it down: it opens the repository when this machine and the
passphrase are lost. This machine gets a key of its own, so later runs ask for nothing.

Examples:
  agent-backup init -r /mnt/disk/agents
  agent-backup init -r b2:bucket/agents --password-file ~/.agent-backup-pass
  AGENT_BACKUP_PASSWORD_COMMAND='pass show backup' agent-backup init -r s3://bucket/agents";

pub(super) const PUSH: &str = "\
Without agents and paths everything known is backed up. When nothing changed no snapshot is made.
A file `.agent-backup-ignore` (patterns as in .gitignore) keeps things out.

Examples:
  agent-backup push
  agent-backup push claude-code codex --tag before-upgrade
  agent-backup push --path notes=~/notes --exclude '*.iso'
  agent-backup push --dry-run -v";

pub(super) const SCAN: &str = "\
Files, lines and rules are shown, never a value. Code 3 if there is any. Databases are looked at page
by page, as they lie. What stands behind a finding (or rule:ID, path:GLOB) goes to `ignore` of [secrets] in
config.toml, or on a line of secrets-ignore beside it, if it is not to be told again. The rules are those of gitleaks (MIT licence), some dropped, some added.

Examples:
  agent-backup scan
  agent-backup scan claude-code
  agent-backup scan --path notes=~/notes --rules my-gitleaks.toml --json";

pub(super) const PULL: &str = "\
Files whose content fits are left alone. Nothing is ever written outside of the target. What would be
replaced is saved in a safety snapshot first, which no policy forgets; the run says how to go back to it.
With --session, entries in the agent's own lists and databases are added to those that are there.

Examples:
  agent-backup pull --to /tmp/look
  agent-backup pull latest~1 --agent claude-code --dry-run
  agent-backup pull 3f2a:claude-code/home/projects --to /tmp/look
  agent-backup pull --path '*.jsonl' --overwrite never
  agent-backup pull --gone --agent claude-code --dry-run
  agent-backup pull --map /Users/a=/home/b --dry-run
  agent-backup pull --session 0b8f2c1e";

pub(super) const SNAPSHOTS: &str = "\
Examples:
  agent-backup snapshots
  agent-backup snapshots --agent codex --host laptop
  agent-backup snapshots --forgotten
  agent-backup snapshots --json";

pub(super) const SESSIONS: &str = "\
`gone` is what the agent's own directory did not have any more when it was backed up last. What was read is
kept in the cache, so that the next list only reads what is new.

Examples:
  agent-backup sessions
  agent-backup sessions invoice --agent claude-code --since 30d
  agent-backup sessions --project ~/work --gone
  agent-backup sessions show 0b8f2c1e | less
  agent-backup sessions show 0b8f2c1e --json";

pub(super) const LS: &str = "\
Examples:
  agent-backup ls
  agent-backup ls -l latest:claude-code/home
  agent-backup ls -R 3f2a:codex
  agent-backup ls --gone latest:claude-code/home/projects";

pub(super) const CAT: &str = "\
The content is checked against the hash in the snapshot while it is written.

Examples:
  agent-backup cat latest:claude-code/home/settings.json
  agent-backup cat 3f2a:codex/home/history.jsonl | tail";

pub(super) const FIND: &str = "\
An entry that is the same in several snapshots is shown once, with all of them.

Examples:
  agent-backup find '*.jsonl'
  agent-backup find -s latest 'claude-code/**/settings*.json'
  agent-backup find -i '*invoice*'";

pub(super) const GREP: &str = "\
Every snapshot is searched, what they share once. A line that is in several snapshots is shown once, with
all of them and its number in the newest. Databases are searched page by page. Code 0: found, 1: not.

Examples:
  agent-backup grep 'panicked at'
  agent-backup grep -i -l invoice --agent claude-code
  agent-backup grep -F 'a[0].b' --path '*.jsonl' --latest
  agent-backup grep -e TODO -e FIXME -s 3f2a -s 9c01 --json";

pub(super) const DIFF: &str = "\
+ added, - removed, M content changed, U only metadata changed.

Examples:
  agent-backup diff latest~1
  agent-backup diff 3f2a 9c01 --metadata";

pub(super) const STATS: &str = "\
Examples:
  agent-backup stats
  agent-backup stats --json";

pub(super) const STATUS: &str = "\
Reads what this machine knows, and lists the storage once. Code 3: a push or a job is overdue by two
intervals, or no push was made yet. Code 4: the last look found damage, or the newest snapshot is gone.

Examples:
  agent-backup status
  agent-backup status --offline --json
  agent-backup status --max-age 2d";

pub(super) const DAEMON: &str = "\
Schedules, commands before and after, heartbeat and all else stand in [daemon] of config.toml. One daemon
runs for a repository on a machine. At the first SIGINT or SIGTERM it pushes a last time and ends; at the
second it stops at the next safe point. What fails is waited out and tried again; `status` tells of it.

Examples:
  agent-backup daemon
  agent-backup daemon --dry-run
  nohup agent-backup daemon 2>> ~/.local/state/agent-backup/daemon.log &";

pub(super) const VERIFY: &str = "\
Code 4 means damage; each file it touches is named. Nothing is called damaged before it was read three
times. Packs that hold damage are quarantined: the next push stores again what it meets of them.

Examples:
  agent-backup verify
  agent-backup verify --max-bytes 2GiB --max-time 30m
  agent-backup verify --level metadata
  agent-backup verify --read-data --json
  agent-backup verify --level rehearsal --scratch /tmp/rehearsal";

pub(super) const REPAIR: &str = "\
Blocks are made again with the names they had, so older snapshots are whole again too. Code 4 means that
something still cannot be had; each file is named. No snapshot is changed without --accept-loss.

Examples:
  agent-backup repair --from-source
  agent-backup repair --from-source --agent codex --path notes=~/notes
  agent-backup repair --from /mnt/mirror/agents
  agent-backup repair --undelete
  agent-backup repair index
  agent-backup repair --accept-loss";
pub(super) const FORGET: &str = "\
A policy is applied to the snapshots of each machine and set of roots. Of each hour, day, week, month
or year that has snapshots the newest is kept; all rules together decide. Pinned snapshots, safety
snapshots and the last healthy copy of a damaged database stay in any case. On a terminal the plan is
shown and you are asked; elsewhere it is applied at once. Nothing is freed before `gc` runs; until
then `undelete` brings a snapshot back. Files that are gone from their source are kept whatever becomes
of snapshots; with --gone they are what is forgotten, in all snapshots but pinned ones.

Examples:
  agent-backup forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 -n
  agent-backup forget --keep-within 30d --keep-tag release --prune --yes
  agent-backup forget 3f2a latest~1
  agent-backup forget --gone --agent claude-code --older-than 365d -n";

pub(super) const UNDELETE: &str = "\
The snapshot comes back under a new id. Pin it, or the next policy may forget it again.

Examples:
  agent-backup undelete 3f2a
  agent-backup snapshots --forgotten";

pub(super) const PIN: &str = "\
When more than half of an agent's transcripts vanish at once, `push` pins the snapshots before; with
--acknowledge they are let go. What vanished stays kept.

Examples:
  agent-backup pin latest
  agent-backup pin --remove 3f2a
  agent-backup pin --acknowledge";

pub(super) const GC: &str = "\
Runs beside pushes and other collections, on any machine. What an operation that runs may still need
is freed by a later run; on a bucket nothing goes before an hour has passed, or a day where the
storage publishes nothing about its listings.

Examples:
  agent-backup gc -n
  agent-backup gc
  agent-backup gc --max-repack-bytes 0";

pub(super) const COPY: &str = "\
What the other repository has already is not sent again. It is opened and reached as this one, unless
AGENT_BACKUP_OTHER_PASSWORD (.._FILE, .._COMMAND), .._KEY_ID, .._SECRET_KEY, .._REGION or .._ENDPOINT
say something else.

Examples:
  agent-backup -r /mnt/disk/agents init --like b2:bucket/agents
  agent-backup -r b2:bucket/agents copy --to /mnt/disk/agents
  agent-backup copy latest --to s3://other-bucket/agents";

pub(super) const IMPORT: &str = "\
Snapshots keep their times; files are checked against the manifests. Nothing is written or deleted at the
source, and what was imported before is passed over. The old passphrase is asked for, unless it is given: also
by AGENT_BACKUP_OTHER_PASSWORD (.._FILE, .._COMMAND) or B2_ENCRYPTION_KEY. Without one the storage key is
tried, as the old engine did. Region and key of another bucket than ours: AGENT_BACKUP_OTHER_KEY_ID and so on.

Examples:
  agent-backup import agent-backup-core b2:my-bucket/goose-backup -n
  agent-backup import agent-backup-core b2:my-bucket/goose-backup --source-password-file old.txt
  agent-backup import agent-backup-core /mnt/copy/openclaw-backup --plain-manifests";

pub(super) const AGENTS: &str = "\
Adapter files of your own go to the directory `agents` beside config.toml.

Examples:
  agent-backup agents
  agent-backup agents codex
  agent-backup agents --all
  agent-backup agents show codex > ~/.config/agent-backup/agents/codex.toml
  agent-backup agents check quill.toml";

pub(super) const SERVICE: &str = "\
The daemon then starts by itself: with systemd or launchd, of this user or (--system) of the machine. What
the service will not see, such as a passphrase that only this shell has, is found before it is started. For the
whole machine root has to write the file: install says the commands. docs/service.md has what the service may do.

Examples:
  agent-backup service install
  agent-backup service install --system --dry-run
  agent-backup service status
  agent-backup service uninstall";

pub(super) const DOCTOR: &str = "\
Looks at settings, secret files, state, agents, service, storage and repository, and changes nothing. What is
wrong is named with a shell command that mends it, where there is one. Code 1 if anything has to be
mended; advice and what could not be looked at do not count. -v also shows what is fine.

Examples:
  agent-backup doctor
  agent-backup doctor --probe
  agent-backup doctor --max-age 12h --json";

pub(super) const KEY: &str = "\
Examples:
  agent-backup key list
  agent-backup key add --label paper
  agent-backup key passwd
  agent-backup key remove 3f2a
  agent-backup key rotate --recovery
  agent-backup key enroll --password-file pass.txt";

pub(super) const ROTATE: &str = "\
This machine gets a new key, and so do the passphrase (new or the one in use) and the recovery code
that are asked for. A key whose secret is not given here keeps opening what was stored before, and
cannot read or add to what comes after; other machines run `key enroll` once. What somebody with the
old keys could read stays readable to them, and so do the names and sizes in control objects.

Examples:
  agent-backup key rotate --recovery --new-password-file pass.txt
  agent-backup key rotate --recovery --drop-others";

pub(super) const COMPLETIONS: &str = "\
Examples:
  agent-backup completions bash > ~/.local/share/bash-completion/completions/agent-backup
  agent-backup completions zsh > ~/.zfunc/_agent-backup
  agent-backup completions fish > ~/.config/fish/completions/agent-backup.fish";

pub(super) const MAN: &str = "\
Examples:
  agent-backup man | man -l -
  agent-backup man push > agent-backup-push.1";
