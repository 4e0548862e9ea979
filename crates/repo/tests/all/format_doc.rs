//! `docs/FORMAT.md` says what the code does, where a program can compare the two.

use std::collections::BTreeMap;

use repo::limits;

const FORMAT: &str = include_str!("../../../../docs/FORMAT.md");
const LIMITS: &str = include_str!("../../src/limits.rs");
const SOURCES: [&str; 5] = [
    include_str!("../../src/keys/mod.rs"),
    include_str!("../../src/keys/recovery.rs"),
    include_str!("../../src/keys/slot.rs"),
    include_str!("../../src/config.rs"),
    include_str!("../../../chunker/src/gear.rs"),
];

/// Every limit, from the constants.
fn limits() -> BTreeMap<&'static str, u64> {
    macro_rules! of {
        ($($name:ident),* $(,)?) => {
            [$((stringify!($name), u64::try_from(limits::$name).unwrap())),*].into()
        };
    }
    of!(
        BLOCK_PLAIN_BYTES_MAX,
        PACK_BYTES_TARGET,
        PACK_BYTES_MAX,
        PACK_MIXED_META_BYTES_MAX,
        PACKS_PER_INDEX,
        PACK_BYTES_FLOOR,
        OBJECT_BYTES_FLOOR,
        MARKER_BYTES_FLOOR,
        OBJECT_BYTES_MAX,
        INDEX_OBJECT_BYTES_TARGET,
        CHUNKS_PER_BLOCK_MAX,
        MAP_INLINE_BYTES_MAX,
        MAP_PATCHES_MAX,
        MAP_EXTENTS_MAX,
        TREE_LEVELS_MAX,
        NODE_ITEMS_MAX,
        ENTRY_BYTES_MAX,
        PATH_BYTES_MAX,
        HEARTBEAT_SECS,
        PACK_SMALL_BYTES,
        PACKS_SMALL_MAX,
    )
}

/// Rows `| NAME | number |` of the section on limits.
fn documented() -> BTreeMap<&'static str, u64> {
    let section = FORMAT.split("\n## ").find(|s| s.contains(". Limits\n")).expect("a section");
    section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let (name, value) = (cells.next()?, cells.next()?);
            Some((name, value.parse().ok()?))
        })
        .collect()
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    assert_eq!(documented(), limits());
}

#[test]
fn no_limit_of_the_code_is_left_out() {
    let names =
        LIMITS.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let named: Vec<&str> = names.collect();
    assert_eq!(named.len(), limits().len());
    for name in named {
        assert!(documented().contains_key(name), "{name} is not in FORMAT.md");
    }
}

#[test]
fn every_label_of_a_derived_key_is_in_the_text() {
    let mut labels = Vec::new();
    for source in SOURCES {
        for quoted in source.split('"').skip(1).step_by(2) {
            if quoted.starts_with("agent-backup ") && !quoted.contains("machine key.") {
                labels.push(quoted);
            }
        }
    }
    assert!(labels.len() >= 14, "{labels:?}");
    for label in labels {
        let stem = label.trim_end_matches('?');
        // the four types of block share one line
        let known = ["block id data", "block id node", "block id map", "block id patch"]
            .iter()
            .any(|t| label.ends_with(t));
        let stem = if known { "agent-backup 1 block id data|node|map|patch" } else { stem };
        assert!(FORMAT.contains(stem), "{label:?} is not in FORMAT.md");
    }
}

#[test]
fn every_kind_of_object_name_is_in_the_text() {
    for name in [
        "`config`",
        "`keys/<slot>`",
        "`op/<oid>`",
        "`packs/<oid>-<n>`",
        "`index/<level>-<oid>-<n>`",
        "`snap/<oid>`",
        "`end/<oid>`",
        "`kill/<oid>`",
        "`dead/<oid>`",
        "`forgot/<oid>`",
        "`gc/<oid>.d`",
        "`gc/bad-<oid>-<n>`",
        "`verify/<oid>-<n>`",
    ] {
        assert!(FORMAT.contains(name), "{name}");
    }
}
