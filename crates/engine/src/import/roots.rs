//! What the paths of an old snapshot are here. Pure.
//!
//! The old engine's virtual paths begin with the label of a root; which agent's it is says only the prefix of
//! the bucket, `goose-backup` by default. Labels are those of our adapters of the same agents, so what is
//! imported restores to where the agent keeps it.

use std::collections::BTreeSet;

use ::import::Listed;
use repo::RootRecord;

/// The one agent whose old paths have no label.
const UNLABELLED: &str = "openclaw";
/// Labels that our adapters call otherwise: agent, theirs, ours.
const RENAMED: [(&str, &str, &str); 1] = [("cline", "cline-data", "data")];

/// How paths of a snapshot are named here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roots {
    agent: Option<String>,
    /// Stands before every path.
    base: String,
}

impl Roots {
    /// By the agent that was named, or the prefix; `place` is the address, for where it ends with the prefix.
    pub(super) fn of(listed: &Listed, place: &str, agent: Option<&str>) -> Self {
        let prefix = if listed.prefix.is_empty() { place } else { &listed.prefix };
        let name = prefix.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        let is_id = |id: &&str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !id.is_empty() && id.bytes().all(plain)
        };
        let agent = agent.or_else(|| name.strip_suffix("-backup").filter(is_id));
        let base = match agent {
            Some(UNLABELLED) => format!("{UNLABELLED}/home"),
            Some(agent) => agent.to_owned(),
            None => label(name),
        };
        Self { agent: agent.map(str::to_owned), base }
    }

    /// The full path of a file.
    pub(super) fn path(&self, path: &str) -> String {
        let renamed = RENAMED.iter().find_map(|(agent, theirs, ours)| {
            let rest = path.strip_prefix(theirs)?.strip_prefix('/')?;
            (self.agent.as_deref() == Some(*agent)).then(|| format!("{}/{ours}/{rest}", self.base))
        });
        renamed.unwrap_or_else(|| format!("{}/{path}", self.base))
    }

    /// The roots of a snapshot with these files, sorted by label.
    pub(super) fn records(&self, paths: &[&str]) -> Vec<RootRecord> {
        let record =
            |label: String| RootRecord { label, agent: self.agent.clone(), dir: Vec::new() };
        let is_labelled = self.agent.as_deref().is_some_and(|agent| agent != UNLABELLED)
            && paths.iter().all(|path| path.contains('/'));
        if !is_labelled {
            return vec![record(self.base.clone())];
        }
        let label = |path: &&str| {
            let full = self.path(path);
            let end = full[self.base.len() + 1..].find('/').map(|at| self.base.len() + 1 + at);
            full[..end.unwrap_or(full.len())].to_owned()
        };
        let labels: BTreeSet<String> = paths.iter().map(label).collect();
        let mut labels: Vec<String> = labels.into_iter().collect();
        labels.sort_by(|a, b| repo::path_order(a.as_bytes(), b.as_bytes()));
        labels.into_iter().map(record).collect()
    }
}

/// A name as a label.
fn label(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let label: String = name.chars().map(plain).collect();
    let label = label.trim_matches('.');
    if label.is_empty() { "imported".to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(prefix: &str, place: &str, agent: Option<&str>) -> Roots {
        let listed = Listed { name: "x".to_owned(), prefix: prefix.to_owned(), safety: false };
        Roots::of(&listed, place, agent)
    }

    fn labels(roots: &Roots, paths: &[&str]) -> Vec<(String, Option<String>)> {
        roots.records(paths).into_iter().map(|root| (root.label, root.agent)).collect()
    }

    #[test]
    fn the_prefix_says_whose_files_these_are_wherever_it_stands() {
        for (prefix, place) in [
            ("goose-backup", "b2:bucket"),
            ("laptops/goose-backup", "b2:bucket"),
            ("", "b2:bucket/goose-backup"),
            ("", "/srv/goose-backup"),
            ("", "b2:goose-backup"),
        ] {
            let roots = roots(prefix, place, None);
            assert_eq!(roots.path("data/projects.json"), "goose/data/projects.json");
            let goose = |label: &str| (label.to_owned(), Some("goose".to_owned()));
            let paths = ["data/x", "config/y", "data/sessions/z"];
            assert_eq!(labels(&roots, &paths), [goose("goose/config"), goose("goose/data")]);
        }
    }

    #[test]
    fn the_user_may_say_it_and_else_it_is_a_plain_directory() {
        assert_eq!(roots("work", "b2:x", Some("codex")).path("home/a"), "codex/home/a");
        for (prefix, label) in
            [("my files", "my-files"), ("-backup", "-backup"), ("..", "imported")]
        {
            let roots = roots(prefix, "b2:x", None);
            assert_eq!(roots.path("home/a"), format!("{label}/home/a"));
            assert_eq!(labels(&roots, &["home/a", "b"]), [(label.to_owned(), None)]);
        }
    }

    #[test]
    fn labels_are_those_of_our_adapters() {
        let cline = roots("cline-backup", "b2:x", None);
        assert_eq!(cline.path("cline-data/globalState.json"), "cline/data/globalState.json");
        assert_eq!(cline.path("gs-Code/tasks/1"), "cline/gs-Code/tasks/1");
        let some = |label: &str| (label.to_owned(), Some("cline".to_owned()));
        let paths = ["cline-data/a", "gs-Code/b"];
        assert_eq!(labels(&cline, &paths), [some("cline/data"), some("cline/gs-Code")]);
        let openclaw = roots("openclaw-backup", "b2:x", None);
        assert_eq!(openclaw.path("openclaw.json"), "openclaw/home/openclaw.json");
        let home = ("openclaw/home".to_owned(), Some("openclaw".to_owned()));
        assert_eq!(labels(&openclaw, &["openclaw.json", "agents/a/b"]), [home]);
        for id in ["goose", "cline", "continue", "openhands", "aider", "hermes", "openclaw"] {
            let all = adapters::load(None).unwrap();
            assert!(all.iter().any(|adapter| adapter.id() == id), "{id} has no adapter");
        }
    }
}
