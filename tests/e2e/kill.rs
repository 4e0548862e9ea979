//! `kill -9` at a hundred moments of push and pull. What was acknowledged restores, the next run needs
//! no help, and nothing is left lying about, least of all plaintext.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::Tree;
use testkit::tree::{assert_equal, assert_same};

use crate::desk::{Desk, end};
use crate::state::{Random, files_with};

/// Killed runs.
const ROUNDS: u64 = 100;
/// Stands in every file of the source.
const CANARY: &[u8] = b"CANARY-plaintext-of-a-transcript";

/// What is known of the repository from outside.
struct World {
    desk: Desk,
    random: Random,
    source: PathBuf,
    target: PathBuf,
    /// Acknowledged snapshots and what the source was.
    acknowledged: Vec<(String, Tree)>,
    /// What the source was when a push was killed: it may have become a snapshot.
    doubtful: Vec<Tree>,
    /// How long the last whole push and pull took.
    push_takes: Duration,
    pull_takes: Duration,
    /// Kills that came before the run had ended by itself.
    struck: u64,
}

fn snapshot_of(out: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(out).ok()?;
    Some(document["snapshot"]["id"].as_str()?.to_owned())
}

impl World {
    fn new() -> Self {
        let mut desk = Desk::new();
        let (repo, source, target) = (desk.beside("repo"), desk.beside("src"), desk.beside("to"));
        desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
        desk.ok(&["init", "--no-passphrase"]);
        // as if a kill had come while the state was written: the rounds rarely meet that moment
        fs::write(desk.repo_state().join(".tmp-4f0b1c"), "{").unwrap();
        let mut world = Self {
            desk,
            random: Random(20_261_122),
            source,
            target,
            acknowledged: Vec::new(),
            doubtful: Vec::new(),
            push_takes: Duration::ZERO,
            pull_takes: Duration::ZERO,
            struck: 0,
        };
        for n in 0..40 {
            world.write_small(n);
        }
        for n in 0..4 {
            world.write_large(n);
        }
        world.push();
        world.pull(0);
        world
    }

    fn write_small(&mut self, n: u64) {
        let dir = self.source.join(format!("small/{}", n % 7));
        fs::create_dir_all(&dir).unwrap();
        let len = usize::try_from(self.random.below(30_000)).unwrap();
        let text = [CANARY, &self.random.transcript(len)].concat();
        fs::write(dir.join(format!("{n}.jsonl")), text).unwrap();
    }

    fn write_large(&mut self, n: u64) {
        let bytes = self.random.bytes(700_000);
        fs::write(self.source.join(format!("large-{n}")), [CANARY, &bytes].concat()).unwrap();
    }

    /// The agent works.
    fn change(&mut self) {
        let (large, small) = (self.random.below(4), self.random.below(60));
        self.write_large(large);
        self.write_small(small);
        if self.random.below(3) == 0 {
            let gone = self.source.join(format!("small/{}", self.random.below(7)));
            let _ = fs::remove_dir_all(gone); // it may be gone already
        }
    }

    fn push_args(&self) -> Vec<String> {
        let path = format!("src={}", self.source.display());
        ["push", "--json", "--path", &path].map(str::to_owned).to_vec()
    }

    fn pull_args(&self, id: &str) -> Vec<String> {
        let to = self.target.to_str().unwrap();
        ["pull", id, "--to", to, "--delete", "--overwrite", "always"].map(str::to_owned).to_vec()
    }

    fn start(&self, args: &[String]) -> Child {
        self.desk.start(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A push that nobody disturbs.
    fn push(&mut self) {
        let begun = Instant::now();
        let ran = end(self.start(&self.push_args()));
        self.push_takes = begun.elapsed();
        ran.ended(0);
        let id = snapshot_of(&ran.out).unwrap();
        self.acknowledge(id, Tree::read(&self.source).unwrap());
        self.nothing_is_left();
    }

    fn acknowledge(&mut self, id: String, tree: Tree) {
        match self.acknowledged.iter().find(|(known, _)| *known == id) {
            Some((_, known)) => assert_equal(known, &tree),
            None => self.acknowledged.push((id, tree)),
        }
    }

    /// A pull that nobody disturbs, over whatever is there.
    fn pull(&mut self, n: usize) {
        let (id, tree) = &self.acknowledged[n];
        let begun = Instant::now();
        let ran = end(self.start(&self.pull_args(id)));
        self.pull_takes = begun.elapsed();
        ran.ended(0);
        assert_equal(tree, &Tree::read(&self.target.join("src")).unwrap());
        self.nothing_is_left();
    }

    /// Starts a run and kills it at a moment between its beginning and a little after its end.
    fn kill(&mut self, args: &[String], takes: Duration) -> Vec<u8> {
        let part = self.random.below(1_100);
        let mut child = self.start(args);
        // the moment is the point of this test; nothing depends on how long it really is
        std::thread::sleep(takes * u32::try_from(part).unwrap() / 1_000);
        self.struck += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        let ran = end(child);
        assert!(matches!(ran.code, 0 | 137), "{}: {}", ran.code, ran.err);
        self.no_plaintext();
        ran.out
    }

    /// After a run that ended well.
    fn nothing_is_left(&self) {
        let temp = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().contains("tmp-");
        let store = files_with(&self.desk.beside("repo/.tmp"), b"");
        assert!(store.is_empty(), "unfinished objects: {store:?}");
        for dir in [self.desk.home(), self.target.clone()] {
            let left: Vec<PathBuf> = files_with(&dir, b"").into_iter().filter(temp).collect();
            assert!(left.is_empty(), "temporary files: {left:?}");
        }
        self.no_plaintext();
    }

    /// At any moment: state, cache and unfinished objects hold no content, and `TMPDIR` is not used.
    fn no_plaintext(&self) {
        for dir in [self.desk.home(), self.desk.beside("repo/.tmp")] {
            let found = files_with(&dir, CANARY);
            assert!(found.is_empty(), "plaintext in {found:?}");
        }
        let used: Vec<_> = fs::read_dir(self.desk.tmp()).unwrap().collect();
        assert!(used.is_empty(), "in TMPDIR: {used:?}");
    }
}

#[test]
fn killed_at_a_hundred_moments_nothing_acknowledged_is_lost() {
    let mut world = World::new();
    for _ in 0..ROUNDS {
        if world.random.below(5) < 3 {
            world.change();
            let tree = Tree::read(&world.source).unwrap();
            let out = world.kill(&world.push_args(), world.push_takes);
            match snapshot_of(&out) {
                Some(id) => world.acknowledge(id, tree),
                None => world.doubtful.push(tree),
            }
            world.push();
        } else {
            let count = world.acknowledged.len() as u64;
            let n = usize::try_from(world.random.below(count)).unwrap();
            let args = world.pull_args(&world.acknowledged[n].0);
            world.kill(&args, world.pull_takes);
            world.pull(n);
        }
    }
    assert!(world.struck > ROUNDS / 10, "only {} kills met a running process", world.struck);

    let listed = world.desk.snapshots();
    for (id, _) in &world.acknowledged {
        assert!(listed.contains(id), "acknowledged and gone: {id}");
    }
    // a restore saves what it replaces in its target: whole, also if it was killed then or later
    let safety = world.desk.json(&["snapshots"])["snapshots"].clone();
    let safety: Vec<String> = safety
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["reason"] == "safety")
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(!safety.is_empty());
    for id in &listed {
        if safety.contains(id) {
            end(world.start(&world.pull_args(id))).ended(0);
        } else if let Some(n) = world.acknowledged.iter().position(|(known, _)| known == id) {
            world.pull(n);
        } else {
            // committed, then killed before it could say so
            end(world.start(&world.pull_args(id))).ended(0);
            let tree = Tree::read(&world.target.join("src")).unwrap();
            assert!(world.doubtful.contains(&tree), "a snapshot of what never was: {id}");
        }
    }
    let store = files_with(&world.desk.beside("repo"), CANARY);
    assert!(store.is_empty(), "plaintext in the store: {store:?}");
}

#[test]
fn a_first_push_that_is_killed_while_it_makes_the_repository_is_made_again() {
    let mut random = Random(5);
    let mut takes = Duration::ZERO;
    let mut struck = 0;
    for round in 0..12 {
        let desk = Desk::new();
        let source = desk.beside("src");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a"), CANARY).unwrap();
        let path = format!("src={}", source.display());
        let args = ["push", "--path", &path];
        let mut shown = Vec::new();
        // the first round tells how long it takes
        if round > 0 {
            let mut child = desk.start(&args);
            std::thread::sleep(takes * u32::try_from(random.below(1_000)).unwrap() / 1_000);
            struck += u64::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            shown = end(child).out;
        }
        let begun = Instant::now();
        let ran = desk.ok(&args);
        takes = takes.max(begun.elapsed());
        shown.extend_from_slice(&ran.out);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("RECOVERY CODE"), "nobody was told a recovery code: {shown}");
        let id = desk.snapshots().pop().unwrap();
        assert_same(&source, &desk.pull(&id, "out").join("src"));
    }
    assert!(struck > 3, "only {struck} kills met a running process");
}
