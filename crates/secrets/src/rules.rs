//! A set of rules, ready to scan with.
//!
//! In: the pinned file and what we make of it, or a user's file. Out: [`Rules`]: each rule with its
//! pattern read, and one automaton over the literals of all of them (`hook.rs`). Invariant: no rule
//! of a file is left out silently; what cannot be done is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use aho_corasick::dfa::DFA;
use aho_corasick::{MatchKind, StartKind};

use crate::error::RulesError;
use crate::file::{AllowTable, File, Ours, RuleTable};
use crate::hook::{self, Find, Hook, LITERAL_MAX, NEAR};
use crate::mark;
use crate::rule::{Allow, LINE_MAX, Pattern, Rule, Target};

/// The default rules of gitleaks, as they were published. See `rules/README.md`.
const PINNED: &str = include_str!("../rules/gitleaks.toml");
/// Rules that gitleaks gained or changed since.
const NEWER: &str = include_str!("../rules/gitleaks-newer.toml");
/// What we drop of them, limit and add.
const OURS: &str = include_str!("../rules/ours.toml");

/// Changes when the same rules come to find or to replace something else.
const EDITION: &str = "agent-backup secrets 1";

/// Longest match that is found whole for sure, where a pattern sets no limit. A pattern with a
/// larger limit is searched as if it had none, because its windows would overlap too often.
const LONGEST_BYTES: usize = 4 << 10;
/// Longest match that is found whole for sure, whatever limit a pattern sets.
const LONGEST_BYTES_MAX: usize = 32 << 10;

/// Rules that say what a secret looks like.
#[allow(clippy::struct_field_names, reason = "the rules of the rules")]
pub struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) allow: Vec<Allow>,
    /// Rules that a path alone breaks.
    paths: Vec<(String, Pattern)>,
    pub(crate) automaton: DFA,
    /// For each literal of the automaton, by its number: rules, and what they make of it.
    pub(crate) hooks: Vec<Vec<(usize, Hook)>>,
    /// Rules that have no literal.
    pub(crate) everywhere: Vec<usize>,
    /// For each rule, how far behind a place that it may match at it has to see.
    pub(crate) reach: Vec<usize>,
    /// A match begins at most so many bytes before its literal.
    pub(crate) back_max: usize,
    by_id: BTreeMap<String, usize>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Rules {
    /// The pinned rules: those of gitleaks, without the one that finds mostly what is none
    /// (`generic-api-key`), and a few of our own. Patterns are compiled when they are first needed.
    pub fn pinned() -> &'static Rules {
        static RULES: OnceLock<Rules> = OnceLock::new();
        RULES.get_or_init(|| Tables::pinned().build().expect("a test reads the pinned rules"))
    }

    /// Differs between versions of this program whose pinned rules find or replace otherwise.
    pub fn pinned_fingerprint() -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for part in [EDITION, PINNED, NEWER, OURS] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// The rules of a user's file, in the format of gitleaks 8. `[extend] useDefault = true` adds
    /// them to the pinned ones. All patterns are compiled here, which takes a second for some
    /// hundred rules.
    ///
    /// Errors: a file that is not of this format, a pattern that cannot be compiled, and whatever
    /// gitleaks can do that we cannot (other files, composite rules).
    pub fn from_toml(text: &str) -> Result<Rules, RulesError> {
        let rules = Tables::of_user(text)?.build()?;
        rules.compile()?;
        Ok(rules)
    }

    /// Ids of the rules that look into files, in the order of the file.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }

    /// What a rule is about, in a sentence.
    pub fn description(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(|rule| self.rules[*rule].description.as_str())
    }

    /// Ids of the rules that a file breaks by its path alone, such as `pkcs12-file`. The path is
    /// written with `/`.
    pub fn of_path<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let broken = |(_, pattern): &&(String, Pattern)| pattern.is_match(path.as_bytes());
        self.paths.iter().filter(broken).map(|(id, _)| id.as_str())
    }

    /// Is nothing in a file of this path a secret, whatever it looks like (images, fonts, lock
    /// files)? The path is written with `/`.
    pub fn allows_path(&self, path: &str) -> bool {
        self.allow.iter().any(|allow| allow.allows_path(path))
    }

    /// So many bytes before a new part of a file the scan of it must begin, so that nothing hides on
    /// the border: twice what the longest match takes, for the escapes in it.
    pub fn overlap_bytes(&self) -> u64 {
        let longest = self.rules.iter().map(|rule| rule.window_bytes).max().unwrap_or(0);
        2 * (longest.max(NEAR) + NEAR) as u64
    }

    /// Longest match, in bytes of text whose escapes are undone, that rule `id` finds whole for
    /// sure. A longer one is found cut at an end that no setting moves.
    pub fn longest_bytes(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).map(|rule| self.rules[*rule].window_bytes)
    }

    pub(crate) fn is_id(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Compiles every pattern.
    pub(crate) fn compile(&self) -> Result<(), RulesError> {
        let done = |name: &str, pattern: &Pattern| {
            let named = |source| RulesError::Compile { rule: name.to_owned(), source };
            pattern.compile().map_err(named)
        };
        let allowed = |name: &str, allow: &[Allow]| {
            let patterns = allow.iter().flat_map(|allow| [&allow.patterns, &allow.paths]);
            patterns.flatten().try_for_each(|pattern| done(name, pattern))
        };
        for rule in &self.rules {
            done(&rule.id, &rule.pattern)?;
            rule.path.iter().try_for_each(|pattern| done(&rule.id, pattern))?;
            allowed(&rule.id, &rule.allow)?;
        }
        self.paths.iter().try_for_each(|(id, pattern)| done(id, pattern))?;
        allowed("allowlist", &self.allow)
    }
}

/// Rules before they are read.
struct Tables {
    rules: Vec<RuleTable>,
    allow: Vec<AllowTable>,
    ours: Ours,
}

impl Tables {
    fn pinned() -> Tables {
        // all three files are part of this program
        let file: File = toml::from_str(PINNED).expect("a test reads the pinned rules");
        let newer: File = toml::from_str(NEWER).expect("a test reads the newer rules");
        let mut ours: Ours = toml::from_str(OURS).expect("a test reads our own rules");
        let added = std::mem::take(&mut ours.rules);
        let allow = file.allowlist.into_iter().chain(file.allowlists).collect();
        let mut tables = Tables { rules: file.rules, allow, ours };
        tables.add(newer.rules);
        tables.add(added);
        tables.rules.retain(|rule| !tables.ours.drop.contains(&rule.id));
        tables
    }

    /// Adds rules; one with an id that is there already stands for that one.
    fn add(&mut self, rules: Vec<RuleTable>) {
        self.rules.retain(|old| rules.iter().all(|rule| rule.id != old.id));
        self.rules.extend(rules);
    }

    fn of_user(text: &str) -> Result<Tables, RulesError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        let mut tables = Tables { rules: Vec::new(), allow: Vec::new(), ours: Ours::default() };
        if let Some(extend) = file.extend {
            if extend.path.is_some() || extend.url.is_some() {
                let what = "extending other files is not supported; put their rules into this one";
                return Err(unsupported("[extend]", what));
            }
            if extend.use_default {
                tables = Tables::pinned();
                tables.rules.retain(|rule| !extend.disabled_rules.contains(&rule.id));
            }
        }
        tables.add(file.rules);
        tables.allow.extend(file.allowlist.into_iter().chain(file.allowlists));
        Ok(tables)
    }

    fn build(self) -> Result<Rules, RulesError> {
        let mut paths = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        let mut found: Vec<Find> = Vec::new();
        let mut by_id = BTreeMap::new();
        for table in self.rules {
            let id = table.id.clone();
            if !mark::is_id(id.as_bytes()) {
                let what = "an id has 1 to 64 letters, digits, '-', '_' and '.'";
                return Err(unsupported(&id, what));
            }
            if table.required.is_some() || table.skip_report.is_some() {
                return Err(unsupported(&id, "rules made of other rules are not supported"));
            }
            let path = table.path.as_ref().map(|path| read(&id, &[path])).transpose()?;
            let Some(source) = table.regex.as_ref() else {
                let what = "it has neither a regex nor a path";
                paths.push((id.clone(), path.ok_or_else(|| unsupported(&id, what))?));
                continue;
            };
            let pattern = read(&id, &[source])?;
            let longest = pattern.tree().properties().maximum_len();
            let limit = self.ours.longest_bytes.get(&id).copied().unwrap_or(LONGEST_BYTES);
            let unbounded = longest.is_none_or(|bytes| bytes > LONGEST_BYTES);
            let window_bytes = match longest {
                None => limit,
                Some(bytes) if unbounded => limit.max(bytes.min(LONGEST_BYTES_MAX)),
                Some(bytes) => bytes,
            };
            let find = hook::choose(pattern.tree(), &table.keywords, window_bytes);
            let free = match &find {
                Find::Everywhere => true,
                Find::Hooks(hooks) => hooks.iter().all(|hook| hook.ahead == 0),
            };
            let tables = table.allowlist.into_iter().chain(table.allowlists);
            let allow: Result<_, _> = tables.map(|table| read_allow(&id, table)).collect();
            if by_id.insert(id.clone(), rules.len()).is_some() {
                return Err(unsupported(&id, "two rules have this id"));
            }
            rules.push(Rule {
                description: table.description,
                secret_group: *self.ours.secret_group.get(&id).unwrap_or(&table.secret_group),
                entropy: table.entropy.filter(|least| *least > 0.0),
                report_only: self.ours.report_only.contains(&id),
                allow: allow?,
                window_bytes,
                unbounded,
                pattern,
                path,
                free,
                id,
            });
            found.push(find);
        }
        let allow = self.allow.into_iter().map(|table| read_allow("allowlist", table));
        let allow = allow.collect::<Result<Vec<_>, _>>()?;
        Ok(assemble(rules, found, allow, paths, by_id))
    }
}

fn assemble(
    rules: Vec<Rule>,
    found: Vec<Find>,
    allow: Vec<Allow>,
    paths: Vec<(String, Pattern)>,
    by_id: BTreeMap<String, usize>,
) -> Rules {
    let mut by_literal: BTreeMap<Vec<u8>, Vec<(usize, Hook)>> = BTreeMap::new();
    let (mut everywhere, mut reach, mut back_max) = (Vec::new(), Vec::new(), 0);
    let lines = |allow: &[Allow]| allow.iter().any(|allow| allow.target == Target::Line);
    let line_for_all = lines(&allow);
    for (n, (rule, find)) in rules.iter().zip(found).enumerate() {
        let hooks = match find {
            Find::Hooks(hooks) => hooks,
            Find::Everywhere => {
                everywhere.push(n);
                Vec::new()
            }
        };
        let back = hooks.iter().map(|hook| hook.back_max).max().unwrap_or(0);
        back_max = back_max.max(back);
        let line = if line_for_all || lines(&rule.allow) { LINE_MAX } else { 0 };
        reach.push((rule.search_end(0) + line).max(back + LITERAL_MAX) + 1);
        for hook in hooks {
            by_literal.entry(hook.literal.clone()).or_default().push((n, hook));
        }
    }
    let mut automaton = DFA::builder();
    automaton.ascii_case_insensitive(true).match_kind(MatchKind::Standard);
    automaton.start_kind(StartKind::Unanchored).prefilter(false);
    let automaton = automaton.build(by_literal.keys()).expect("some thousand literals of 12 bytes");
    let hooks = by_literal.into_values().collect();
    Rules { rules, allow, paths, automaton, hooks, everywhere, reach, back_max, by_id }
}

fn unsupported(rule: &str, what: &str) -> RulesError {
    RulesError::Unsupported { rule: rule.to_owned(), what: what.to_owned() }
}

fn read<S: AsRef<str>>(rule: &str, sources: &[S]) -> Result<Pattern, RulesError> {
    Pattern::read(sources).map_err(|source| RulesError::Pattern { rule: rule.to_owned(), source })
}

fn read_allow(rule: &str, table: AllowTable) -> Result<Allow, RulesError> {
    let all = match table.condition.as_deref().map(str::to_uppercase).as_deref() {
        None | Some("" | "OR" | "||") => false,
        Some("AND" | "&&") => true,
        Some(other) => return Err(unsupported(rule, &format!("allowlist condition {other:?}"))),
    };
    let target = match table.regex_target.as_deref() {
        None | Some("" | "secret") => Target::Secret,
        Some("match") => Target::Match,
        Some("line") => Target::Line,
        Some(other) => return Err(unsupported(rule, &format!("regexTarget {other:?}"))),
    };
    let some = |sources: &[String]| (!sources.is_empty()).then(|| read(rule, sources)).transpose();
    Ok(Allow {
        all,
        target,
        patterns: some(&table.regexes)?,
        stopwords: table.stopwords.iter().map(|word| word.to_lowercase()).collect(),
        paths: some(&table.paths)?,
        rules: table.target_rules,
    })
}
