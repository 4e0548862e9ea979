//! The table of everything that can go wrong.

use std::io;
use std::path::PathBuf;

use anyhow::anyhow;

use super::*;

fn code_of(error: impl Into<anyhow::Error>) -> Exit {
    explain(&error.into()).expect("a failure").exit
}

fn io_error() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

#[test]
fn every_error_of_the_store_has_its_code() {
    use store::Error as E;
    let (op, name, detail) = ("put", String::from("packs/0-1"), String::from("why"));
    let address = String::from("b2:bucket");
    for (error, exit) in [
        (E::NotFound { name: name.clone() }, Exit::Damage),
        (E::Short { name: name.clone(), end: 7 }, Exit::Damage),
        (E::Denied { op, name: name.clone(), detail: detail.clone() }, Exit::StorageDenied),
        (E::CapReached { op, name: name.clone(), detail: detail.clone() }, Exit::StorageCap),
        (E::NoSuchStore { address, detail: detail.clone() }, Exit::NoRepository),
        (E::Unavailable { op, name: name.clone(), detail }, Exit::StorageUnreachable),
        (E::Io { op, name: name.clone(), source: io_error() }, Exit::LocalDisk),
        (E::BadAddress("x".into()), Exit::Configuration),
        (E::BadName { name }, Exit::Bug),
        (E::Cancelled, Exit::Interrupted),
    ] {
        let words = error.to_string();
        assert_eq!(code_of(repo::Error::from(error)), exit, "{words}");
    }
}

#[test]
fn what_retention_refuses_names_the_way_on() {
    let id = repo::OpId([0xab; 16]);
    let collector =
        |reason: &str| engine::Error::Repo(repo::Error::Refused { reason: reason.into() });
    for (error, way) in [
        (engine::Error::Pinned(id), "pin --remove abababababab"),
        (engine::Error::KeepsNothing { newest: id, count: 2 }, "--unsafe-allow-remove-all"),
        (collector("more than half of what is stored would go"), "gc --more-than-half"),
        (
            collector("1 snapshot that the last collection saw ... may have been rolled back"),
            "gc --accept-vanished",
        ),
        (collector("\"x\" is nothing that this program knows"), "install the newest"),
    ] {
        let failure = explain(&error.into()).unwrap();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.hint.unwrap().contains(way), "{way}");
    }
    let old = repo::Error::WrongKey { detail: "the repository has blocks of epoch 1".into() };
    assert!(explain(&old.into()).unwrap().hint.unwrap().contains("key enroll"));
}

#[test]
fn every_error_of_the_repository_has_its_code() {
    use repo::Error as E;
    let object = String::from("snap/00");
    for (error, exit) in [
        (E::NoRepository { address: "/srv".into() }, Exit::NoRepository),
        (E::AlreadyExists { address: "/srv".into() }, Exit::Failed),
        (E::WrongKey { detail: "none opens".into() }, Exit::WrongKey),
        (E::Corrupt { object: object.clone(), what: "x".into() }, Exit::Damage),
        (E::Missing { object }, Exit::Damage),
        (E::TooNew { what: "format version 9".into() }, Exit::TooNew),
        (E::Refused { reason: "rolled back".into() }, Exit::Refused),
        (E::Refused { reason: "last key".into() }, Exit::Refused),
        (E::NoSuchSnapshot("beef: none".into()), Exit::Failed),
        (E::Io { op: "read", path: "/c".into(), source: io_error() }, Exit::LocalDisk),
        (E::Cancelled, Exit::Interrupted),
    ] {
        let words = error.to_string();
        assert_eq!(code_of(engine::Error::Repo(error)), exit, "{words}");
    }
}

#[test]
fn every_error_of_the_engine_has_its_code() {
    use engine::Error as E;
    use engine::{pull, scan};
    let label = String::from("x");
    let path = PathBuf::from("/t");
    for (error, exit) in [
        (E::Local { op: "write", path: path.clone(), source: io_error() }, Exit::LocalDisk),
        (E::Busy { holder: Some(7) }, Exit::Busy),
        (E::NothingToBackUp, Exit::Failed),
        (E::Cancelled, Exit::Interrupted),
        (E::NotFound("nothing there".into()), Exit::Failed),
        (E::Scan(scan::Error::Cancelled), Exit::Interrupted),
        (E::Scan(scan::Error::Label { label: label.clone() }), Exit::Usage),
        (
            E::Scan(scan::Error::Overlap { first: label.clone(), second: label.clone() }),
            Exit::Usage,
        ),
        (E::Scan(scan::Error::FileName { label }), Exit::Usage),
    ] {
        let words = error.to_string();
        assert_eq!(code_of(error), exit, "{words}");
    }
    let repo = repo::Error::WrongKey { detail: "none opens".into() };
    for (error, exit) in [
        (pull::Error::Repo(repo), Exit::WrongKey),
        (pull::Error::Target { op: "open", path, source: io_error() }, Exit::LocalDisk),
        (pull::Error::Full { path: "/t".into(), source: io_error() }, Exit::LocalDisk),
        (pull::Error::Refused("x".into()), Exit::Refused),
        (pull::Error::Cancelled, Exit::Interrupted),
    ] {
        let words = error.to_string();
        assert_eq!(code_of(error), exit, "{words}");
    }
}

#[test]
fn every_error_of_settings_and_adapters_has_its_code() {
    use adapters::AdapterError as A;
    use settings::Error as E;
    let (path, what) = (PathBuf::from("/c/config.toml"), String::from("why"));
    let config = E::Config { file: path.clone(), line: 3, key: "repo".into(), what: what.clone() };
    for (error, exit) in [
        (config, Exit::Configuration),
        (E::ConfigRead { path: path.clone(), source: io_error() }, Exit::Configuration),
        (E::Exposed { path: path.clone() }, Exit::Configuration),
        (E::Value { name: "B2_BUCKET".into(), what: what.clone() }, Exit::Configuration),
        (E::Unencrypted, Exit::Configuration),
        (E::Secret { from: "--password-file".into(), what: what.clone() }, Exit::Configuration),
        (E::Credentials { what: what.clone() }, Exit::Configuration),
        (E::NoSecret, Exit::WrongKey),
        (E::NoHome, Exit::Configuration),
    ] {
        let words = error.to_string();
        assert_eq!(code_of(error), exit, "{words}");
    }
    let origin = String::from("x.toml");
    let invalid = A::Invalid { origin, line: 1, key: "id".into(), what: what.clone() };
    for (error, exit) in [
        (invalid, Exit::Configuration),
        (A::Pattern { pattern: "[".into(), what }, Exit::Usage),
        (A::Io { path, source: io_error() }, Exit::Configuration),
    ] {
        let words = error.to_string();
        assert_eq!(code_of(error), exit, "{words}");
    }
    assert_eq!(code_of(Usage("x".into())), Exit::Usage);
    assert_eq!(code_of(Stop::new(Exit::Refused, "x", "y")), Exit::Refused);
    assert_eq!(code_of(anyhow!("anything")), Exit::Failed);
}

#[test]
fn a_full_disk_is_18_whoever_met_it() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let store = store::Error::Io { op: "put", name: "packs/0-1".into(), source: kind.into() };
        let error = anyhow::Error::from(engine::Error::from(store)).context("the push failed");
        let failure = explain(&error).unwrap();
        assert_eq!(failure.exit, Exit::LocalDisk);
        assert!(failure.hint.unwrap().contains("free some space"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    assert_eq!(explain(&Closed.into()), None);
    assert_eq!(explain(&anyhow::Error::from(Closed).context("cannot show it")), None);
}

#[test]
fn an_error_is_one_line_that_says_each_thing_once_and_cannot_drive_a_terminal() {
    let source = io_error();
    let local = engine::Error::Local { op: "write", path: "/a\nb\x1b[2J".into(), source };
    let failure = explain(&anyhow::Error::from(local).context("the push failed")).unwrap();
    assert_eq!(failure.message.matches("permission denied").count(), 1, "{}", failure.message);
    assert!(failure.message.starts_with("the push failed: write /a\\nb\\x1b[2J: "));
    assert_eq!(failure.message.lines().count(), 1);
}

#[test]
fn a_rolled_back_repository_says_how_to_go_on() {
    let refused = repo::Error::Refused { reason: "the storage may have been rolled back".into() };
    let failure = explain(&refused.into()).unwrap();
    assert!(failure.hint.unwrap().contains("--accept-rollback"));
}

#[test]
fn wrong_usage_takes_the_form_of_every_other_error() {
    let usage = |line: &str| {
        let error = <crate::args::Args as clap::Parser>::try_parse_from(line.split(' '));
        usage_failure(&error.unwrap_err().render().to_string())
    };
    let failure = usage("agent-backup push --dry-rum");
    assert_eq!(failure.message, "unexpected argument '--dry-rum' found");
    assert!(failure.hint.unwrap().contains("--dry-run"));
    let failure = usage("agent-backup find");
    assert!(failure.message.contains("<GLOB>..."), "{}", failure.message);
    assert!(failure.hint.unwrap().starts_with("agent-backup find"));
}
