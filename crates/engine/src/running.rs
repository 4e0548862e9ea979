//! Does a program run? Asked before the files of an agent are replaced, which would go on writing to
//! them, or write over them what it remembers.
//!
//! In: names of programs, and a home directory. Out: the processes that have such a name and that home.
//! A name is that of the process, of the file it was started from, or of the script that an interpreter
//! runs (`node /usr/bin/codex.js`). On systems without `/proc` nobody can look: that is said, and never
//! taken for no.

use std::fmt;
use std::path::Path;

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name that fits, as the adapter writes it.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The kernel cuts the name of a process after so many bytes.
const COMM_BYTES_MAX: usize = 15;
/// Programs whose first argument is the program that is meant.
const INTERPRETERS: [&str; 9] =
    ["node", "nodejs", "bun", "deno", "python", "python3", "ruby", "sh", "bash"];
/// Endings of scripts.
const SCRIPTS: [&str; 6] = [".js", ".mjs", ".cjs", ".py", ".rb", ".sh"];

/// Processes of this user with one of these names. One whose environment says that it has another home
/// uses other files and does not count. `None` if that cannot be looked at on this system.
pub fn find(names: &[String], home: &Path) -> Option<Vec<Process>> {
    find_in(Path::new("/proc"), names, home)
}

fn find_in(proc: &Path, names: &[String], home: &Path) -> Option<Vec<Process>> {
    let own = std::process::id();
    let uid = rustix::process::geteuid().as_raw();
    std::fs::read_to_string(proc.join("self/stat")).ok()?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc).ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
        let Some(look) = Look::of(&entry.path(), uid) else { continue };
        let name = names.iter().find(|name| look.is(name));
        if let Some(name) = name.filter(|_| look.has_home(home)) {
            found.push(Process { pid, name: name.clone() });
        }
    }
    found.sort_by_key(|process| process.pid);
    Some(found)
}

/// What can be seen of a process.
struct Look {
    comm: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    home: Option<Vec<u8>>,
}

impl Look {
    /// `None` if it went away, is dead, or is somebody else's.
    fn of(dir: &Path, uid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(dir.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_ascii_whitespace().next())
        };
        // a zombie has ended; the second number would be the effective user, which sudo changes
        if matches!(field("State:"), Some("Z" | "X")) || field("Uid:")?.parse() != Ok(uid) {
            return None;
        }
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        let parts = |bytes: Vec<u8>| -> Vec<Vec<u8>> {
            bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
        };
        let home = parts(read("environ"));
        let home = home.iter().find_map(|one| one.strip_prefix(b"HOME=")).map(<[u8]>::to_vec);
        let comm = read("comm").trim_ascii_end().to_vec();
        Some(Self { comm, arguments: parts(read("cmdline")), home })
    }

    fn is(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let comm = self.comm == name
            || (name.len() > COMM_BYTES_MAX && self.comm == name[..COMM_BYTES_MAX]);
        let Some((program, rest)) = self.arguments.split_first() else { return comm };
        comm || base(program) == name || self.script(program, rest).is_some_and(|one| one == name)
    }

    /// What an interpreter runs.
    fn script<'a>(&self, program: &[u8], rest: &'a [Vec<u8>]) -> Option<&'a [u8]> {
        let is = |of: &[u8]| INTERPRETERS.iter().any(|one| one.as_bytes() == of);
        if !is(base(program)) && !is(&self.comm) {
            return None;
        }
        let script = base(rest.iter().find(|argument| !argument.starts_with(b"-"))?);
        let end = SCRIPTS.iter().find_map(|end| script.strip_suffix(end.as_bytes()));
        Some(end.unwrap_or(script))
    }

    fn has_home(&self, home: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let Some(own) = self.home.as_deref().filter(|own| !own.is_empty()) else { return true };
        let own = Path::new(std::ffi::OsStr::from_bytes(own));
        let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
        own == home || same(own, home).unwrap_or(false)
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A process of ours in a directory that looks like `/proc`.
    fn process(proc: &Path, pid: u32, comm: &str, command: &[&str], home: &str) {
        let dir = proc.join(pid.to_string());
        fs::create_dir_all(&dir).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        fs::write(
            dir.join("status"),
            format!("Name:\t{comm}\nState:\tS (sleeping)\nUid:\t{uid}\t0\t0\t0\n"),
        )
        .unwrap();
        fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(dir.join("cmdline"), command.join("\0") + "\0").unwrap();
        fs::write(dir.join("environ"), format!("A=b\0HOME={home}\0")).unwrap();
    }

    fn found(proc: &Path, name: &str) -> Vec<u32> {
        let found = find_in(proc, &["other".to_owned(), name.to_owned()], Path::new("/home/me"));
        found.unwrap().into_iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_program_is_known_by_its_name_its_file_or_its_script_and_by_nothing_that_only_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        fs::create_dir(proc.join("self")).unwrap();
        fs::write(proc.join("self/stat"), "").unwrap();
        process(proc, 11, "quill", &["quill"], "/home/me");
        process(proc, 12, "main", &["/opt/quill/bin/quill", "chat"], "/home/me");
        process(proc, 13, "node", &["node", "--no-warnings", "/usr/lib/quill.js"], "/home/me");
        process(proc, 14, "MainThread", &["/usr/bin/python3", "-m", "quill"], "/home/me");
        process(proc, 20, "vim", &["vim", "quill"], "/home/me");
        process(proc, 21, "quill-helper", &["/opt/quill/quill-helper"], "/home/me");
        process(proc, 22, "node", &["node", "other-quill.js", "quill"], "/home/me");
        process(proc, 23, "quill", &["quill"], "/home/another");
        process(proc, 24, "quill", &["quill"], "/home/me");
        let status = fs::read_to_string(proc.join("24/status")).unwrap();
        fs::write(proc.join("24/status"), status.replace("S (sleeping)", "Z (zombie)")).unwrap();
        process(proc, 25, "quill", &["quill"], "/home/me");
        fs::write(proc.join("25/status"), "State:\tS\nUid:\t4000000000\t0\t0\t0\n").unwrap();
        // an environment that is not to be seen, and one that went away
        process(proc, 15, "quill", &["quill"], "/home/me");
        fs::remove_file(proc.join("15/environ")).unwrap();
        fs::create_dir(proc.join("26")).unwrap();
        assert_eq!(found(proc, "quill"), [11, 12, 13, 14, 15]);

        process(proc, 30, "a-very-long-nam", &["[hidden]"], "/home/me");
        assert_eq!(found(proc, "a-very-long-name"), [30]);
        assert_eq!(found(proc, "a-very-long-nam"), [30]);
        assert_eq!(found(proc, "a-very-long"), Vec::<u32>::new());
    }

    #[test]
    fn where_nobody_can_look_nothing_is_claimed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_in(dir.path(), &["quill".to_owned()], Path::new("/home/me")), None);
    }
}
