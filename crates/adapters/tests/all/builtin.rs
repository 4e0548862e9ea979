//! The embedded adapters as a whole: every file is embedded, parses, compiles, and says what a
//! user needs to read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use adapters::{Adapter, Env, Os, Rules, Source, builtin};

#[test]
fn every_file_in_agents_is_embedded_under_its_own_name() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents");
    let files: BTreeSet<String> = std::fs::read_dir(dir)
        .expect("agents directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("a plain name"))
        .collect();
    let embedded: BTreeSet<String> =
        builtin().iter().map(|adapter| format!("{}.toml", adapter.id())).collect();
    assert_eq!(files, embedded);
}

#[test]
fn embedded_adapters_are_sorted_and_strictly_valid() {
    let all = builtin();
    assert!(all.is_sorted_by_key(Adapter::id));
    for adapter in &all {
        assert_eq!(adapter.source(), &Source::Builtin);
        assert!(!adapter.notes().is_empty(), "{} tells its user nothing", adapter.id());
        assert!(adapter.homepage().is_some_and(|url| url.starts_with("https://")));
        // The public way also compiles every set, which the embedded files do only when needed.
        Adapter::parse(adapter.text(), adapter.id()).expect("compiles");
    }
}

#[test]
fn an_empty_machine_has_no_roots_but_every_agent_says_where_it_looked() {
    let home = tempfile::tempdir().expect("tempdir");
    for os in [Os::Linux, Os::Macos, Os::Windows] {
        let env = Env { home: home.path().into(), vars: BTreeMap::new(), os };
        for adapter in builtin() {
            let found = adapter.survey(&env);
            assert!(found.roots.is_empty() && found.refused.is_empty(), "{}", adapter.id());
            assert!(!adapter.candidates(&env).is_empty(), "{} on {os:?}", adapter.id());
        }
    }
}

#[test]
fn rules_for_a_directory_without_an_adapter_take_everything() {
    let rules = Rules::everything();
    assert!(rules.decide(b"", true).is_entered());
    assert!(rules.decide(b"any/.env", false).is_included());
    assert_eq!(rules.max_file_size(), None);
    assert!(!rules.volatile(b"any"));
}
