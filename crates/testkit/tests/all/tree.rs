//! The oracle of restores must see every kind of difference, and nothing else.

use std::fs;
use std::io;
use std::path::Path;

use testkit::{Plant, Tree, tree};

/// A tree with something of everything, the same each time.
fn plant(root: &Path) -> io::Result<Tree> {
    let mut plant = Plant::at(root)?;
    plant
        .file("a/one", "1")?
        .file("a/two", "22")?
        .folder("empty/folder")?
        .link("link", "a/one")?
        .link("dangling", "/no/where")?
        .hard_link("a/uno", "a/one")?
        .mode("a/two", 0o640)?
        .mode("empty", 0o700)?;
    for name in ["a/one", "a/two", "a", "empty/folder", "empty", "link", "dangling"] {
        plant.time(name, 1_700_000_000, 123_456_789)?;
    }
    plant.xattr("a/two", "user.note", b"kept")?;
    plant.done()
}

#[test]
fn two_plantings_are_the_same_tree() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let (planted, _) = (plant(&a).expect("a"), plant(&b).expect("b"));
    tree::assert_same(&a, &b);
    assert_eq!(planted.entries.len(), 8);
}

#[test]
fn every_kind_of_damage_is_seen_and_named() {
    type Damage = fn(&Path) -> io::Result<()>;
    let keep_time = |path: &Path, damage: &dyn Fn() -> io::Result<()>| -> io::Result<()> {
        let modified = path.metadata()?.modified()?;
        damage()?;
        fs::File::options().write(true).open(path)?.set_modified(modified)
    };
    let bit: Damage = |root| fs::write(root.join("a/two"), "23");
    let touched: Damage = |root| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_788);
        fs::File::options().write(true).open(root.join("a/two"))?.set_modified(time)
    };
    let mode: Damage = |root| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(root.join("a/two"), fs::Permissions::from_mode(0o644))
    };
    let unlinked: Damage = |root| {
        fs::remove_file(root.join("a/uno"))?;
        fs::copy(root.join("a/one"), root.join("a/uno")).map(drop)
    };
    let target: Damage = |root| {
        fs::remove_file(root.join("link"))?;
        std::os::unix::fs::symlink("a/two", root.join("link"))
    };
    let lost: Damage = |root| fs::remove_dir(root.join("empty/folder"));
    let extra: Damage = |root| fs::write(root.join("extra"), "");
    for (damage, line) in [
        (bit, "! a/two: content"),
        (touched, "! a/two: time"),
        (mode, "! a/two: mode 640 -> 644"),
        (unlinked, "! a/uno: content"),
        (target, "! link: content link to a/one -> link to a/two"),
        (lost, "- empty/folder: folder"),
        (extra, "+ extra: file of 0 bytes"),
    ] {
        let root = tempfile::tempdir().expect("a temporary directory");
        let before = plant(root.path()).expect("planted");
        damage(root.path()).expect("damaged");
        let lines = before.differences(&Tree::read(root.path()).expect("read"));
        assert!(lines.iter().any(|l| l.starts_with(line)), "{line} is not in {lines:?}");
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let before = plant(root.path()).expect("planted");
    let two = root.path().join("a/two");
    keep_time(&two, &|| fs::write(&two, "23")).expect("damaged");
    let lines = before.differences(&Tree::read(root.path()).expect("read"));
    assert_eq!(lines.len(), 1, "a changed byte under the same length and time: {lines:?}");
}

#[test]
fn a_lost_attribute_is_seen() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let before = plant(root.path()).expect("planted");
    if before.entries[Path::new("a/two")].xattrs.is_empty() {
        eprintln!("SKIPPED: no extended attributes here");
        return;
    }
    xattr::remove(root.path().join("a/two"), "user.note").expect("removed");
    let lines = before.differences(&Tree::read(root.path()).expect("read"));
    assert!(lines.len() == 1 && lines[0].contains("xattrs"), "{lines:?}");
}
