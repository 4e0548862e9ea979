//! What the documents promise with the name of a test: that the test is there, and that nothing the replaced
//! engine had or did wrong is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::tidy::{root, sources};

/// Names that `agent-backup-core` exports, its settings, and what else must have a row.
const THEIRS: &str = "createB2Client B2Client B2ObjectEntry encrypt decrypt deriveKey isEncrypted gatherFiles \
    shouldInclude resolveRelativePath GatherPatterns readJsonFileWithFallback writeJsonFileAtomically \
    computeManifest diffManifests serializeManifest deserializeManifest push pullLatest pullSnapshot \
    skipPrune prefixOverride skipSafety \
    listSnapshots getLatestSnapshot pruneSnapshots snapshotSqlite createDebounceGate acquireLock buildContext \
    resolvePassphrase runOnce runDaemon runCli generateServiceUnit installService loadStandaloneConfig \
    standaloneConfigPath configFileExists BackupAdapter BackupContext BackupManifest BackupRoot B2Credentials \
    GatheredFile StandaloneConfig PullOptions PushOptions Logger ClientFactory SAFETY_PREFIX \
    putObject getObject copyObject listObjects deleteObject headBucket \
    gooseAdapter clineAdapter continueAdapter openhandsAdapter aiderAdapter hermesAdapter \
    keyId B2_KEY_ID applicationKey B2_APPLICATION_KEY bucket B2_BUCKET region B2_REGION prefix B2_PREFIX \
    encryptionKey B2_ENCRYPTION_KEY encrypt B2_ENCRYPT keepSnapshots B2_KEEP_SNAPSHOTS schedule B2_SCHEDULE \
    cacheDir DEBUG GOOSE_PATH_ROOT CLINE_DIR CONTINUE_GLOBAL_DIR OH_PERSISTENCE_DIR HERMES_HOME AIDER_PROJECTS \
    --once --install --help B2EN B2_ENDPOINT B2_APPLICATION_KEY_ID B2_BUCKET_NAME before_compaction gateway_stop \
    b2_rollback keepSafetySnapshots";

/// Sections with rows for what has no name of its own, and how many rows each has at least.
const SECTIONS: [(&str, usize); 9] = [
    ("The library", 37),
    ("Configuration", 18),
    ("Command line", 7),
    ("Daemon", 9),
    ("Push and layout", 7),
    ("Formats", 5),
    ("SQLite, restore, retention", 14),
    ("Adapters", 8),
    ("What only the OpenClaw plugin had", 13),
];

/// Names of all tests of ours.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources() {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                marked = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
                names.insert(rest.split('(').next().unwrap().to_owned());
                marked = false;
            }
        }
    }
    assert!(names.len() > 800, "the tests are elsewhere: {}", names.len());
    names
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Rows of tables below each heading: the cells.
fn rows(document: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let (mut heading, mut out) = (String::new(), BTreeMap::<String, Vec<Vec<String>>>::new());
    let lines: Vec<&str> = text.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
        } else if line.starts_with('|') && !line.starts_with("|---") {
            // a head is followed by a rule
            if lines.get(n + 1).is_some_and(|next| next.starts_with("|---")) {
                continue;
            }
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            out.entry(heading.clone()).or_default().push(cells.collect());
        }
    }
    out
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let tests = tests();
    let mut wrong = Vec::new();
    let mut look = |document: &str, row: &[String], needed: bool| {
        let named = quoted(row.last().unwrap());
        for name in &named {
            if !tests.contains(*name) {
                wrong.push(format!("{document}: there is no test {name}"));
            }
        }
        if needed && named.is_empty() && row.last().unwrap() != "**not yet**" {
            wrong.push(format!("{document}: no test in the row {}", row[0]));
        }
    };
    for (_, rows) in rows("docs/parity.md") {
        for row in &rows {
            look("docs/parity.md", row, true);
        }
    }
    let threats = rows("SECURITY.md");
    let threats: Vec<_> = threats.iter().filter(|(heading, _)| heading.starts_with('T')).collect();
    assert_eq!(threats.len(), 11, "T1 to T11");
    for (heading, rows) in threats {
        let (promised, not): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row[0] == "Promised");
        for row in &promised {
            look("SECURITY.md", row, true);
        }
        let plain = not.iter().all(|row| row[0] == "Not promised" && row[1].len() > 20);
        assert!(!promised.is_empty() && not.len() == 1 && plain, "{heading}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_that_the_replaced_engine_has_is_without_a_row() {
    let all = rows("docs/parity.md");
    for (section, least) in SECTIONS {
        let there = all.get(section).map_or(0, Vec::len);
        assert!(there >= least, "'{section}' has {there} rows of {least}");
    }
    let theirs: Vec<&str> = all.values().flatten().flat_map(|row| quoted(&row[0])).collect();
    let missing: Vec<&str> = THEIRS
        .split_whitespace()
        .filter(|name| !theirs.iter().any(|text| text.split([' ', '(', ',']).any(|w| w == *name)))
        .collect();
    assert!(missing.is_empty(), "docs/parity.md has no row for {missing:?}");
}

#[test]
fn every_defect_of_the_replaced_engine_is_a_test_with_its_number() {
    let all = rows("docs/parity.md");
    let defects = &all["Defects of agent-backup-core, each a test"];
    let numbers = |letter: char, last: u8| (1..=last).map(move |n| format!("{letter}{n}"));
    let known: Vec<String> =
        numbers('D', 12).chain(numbers('F', 11)).chain(numbers('S', 6)).collect();
    let told: Vec<&String> = defects.iter().map(|row| &row[0]).collect();
    assert_eq!(told, known.iter().collect::<Vec<_>>());
    for row in defects {
        let begins = format!("{}_", row[0].to_lowercase());
        for name in quoted(&row[2]) {
            assert!(name.starts_with(&begins), "{}: {name}", row[0]);
        }
    }
}
