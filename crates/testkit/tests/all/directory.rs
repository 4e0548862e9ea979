//! The directory store on hostile and broken directories.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use store::{Error, LocalStore, Store};

fn open() -> (tempfile::TempDir, LocalStore) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let store = LocalStore::create(&root.path().join("store")).expect("a new directory");
    (root, store)
}

fn put(store: &LocalStore, name: &str) -> store::Result<()> {
    store.put(name, vec![Bytes::from_static(b"some "), Bytes::from_static(b"bytes")])
}

#[test]
fn a_missing_directory_is_no_empty_store() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let missing = root.path().join("missing");
    assert!(matches!(LocalStore::open(&missing), Err(Error::NoSuchStore { .. })));
    assert!(!missing.exists());
    fs::write(&missing, "a file").expect("write");
    assert!(matches!(LocalStore::open(&missing), Err(Error::NoSuchStore { .. })));
}

#[test]
fn a_directory_that_was_removed_meanwhile_is_no_empty_store() {
    let (_root, store) = open();
    fs::remove_dir_all(store.path()).expect("remove");
    let gone = |e: Option<Error>| matches!(e, Some(Error::NoSuchStore { .. }));
    assert!(gone(store.list("").err()), "{:?}", store.list(""));
    assert!(gone(store.list("packs/").err()));
    assert!(gone(store.get("config").err()));
    assert!(gone(store.delete("config").err()));
    assert!(gone(put(&store, "packs/1").err()));
}

#[test]
fn no_link_is_followed_out_of_the_store() {
    let (root, store) = open();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).expect("mkdir");
    fs::write(outside.join("1"), "their data").expect("write");
    symlink(&outside, store.path().join("packs")).expect("a link to a folder");
    symlink(outside.join("1"), store.path().join("config")).expect("a link to a file");
    symlink("nowhere", store.path().join("dangling")).expect("a dangling link");
    let refused = |e: Option<Error>| matches!(e, Some(Error::Io { source, .. }) if source.to_string().contains("symbolic link"));
    assert!(refused(store.get("packs/1").err()), "{:?}", store.get("packs/1"));
    assert!(refused(store.get_range("config", 0..1).err()));
    assert!(refused(put(&store, "packs/2").err()));
    assert!(refused(put(&store, "config").err()));
    assert!(refused(store.delete("packs/1").err()));
    assert!(refused(store.list("packs/").err()));
    assert!(refused(store.list("").err()), "a skipped link is a short listing");
    assert!(refused(store.list("dang").err()));
    assert_eq!(fs::read_to_string(outside.join("1")).expect("untouched"), "their data");
    assert_eq!(fs::read_dir(&outside).expect("listing").count(), 1);
}

#[test]
fn the_root_itself_may_be_a_link() {
    let (root, store) = open();
    let link = root.path().join("link");
    symlink(store.path(), &link).expect("a link");
    put(&LocalStore::open(&link).expect("opens"), "config").expect("put");
    assert_eq!(store.get("config").expect("get"), "some bytes");
}

#[test]
fn a_fifo_does_not_hang_a_read() {
    let (_root, store) = open();
    let fifo = store.path().join("config");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("mkfifo");
    assert!(matches!(store.get("config"), Err(Error::Io { .. })));
    assert!(matches!(store.list(""), Err(Error::Io { .. })));
}

#[test]
fn leftovers_of_a_killed_writer_are_invisible_and_go_away_but_those_of_a_living_one_stay() {
    let (_root, store) = open();
    put(&store, "config").expect("put");
    let temp = store.path().join(".tmp");
    let (dead, living) = (temp.join("dead"), temp.join("living"));
    fs::write(&dead, "half a pack").expect("write");
    let writer = fs::File::create(&living).expect("create");
    writer.lock().expect("lock");
    let names: Vec<String> =
        store.list("").expect("list").into_iter().map(|item| item.name).collect();
    assert_eq!(names, ["config"]);
    assert_eq!(store.list(".tmp/").expect("list"), []);

    let next_run = LocalStore::open(store.path()).expect("opens");
    assert!(dead.exists(), "opening alone writes nothing");
    put(&next_run, "packs/1").expect("put");
    assert!(!dead.exists(), "a dead writer's file stays for ever");
    assert!(living.exists(), "a living writer's file was taken away");
}

#[test]
fn foreign_files_are_no_objects() {
    let (_root, store) = open();
    put(&store, "config").expect("put");
    for name in [".DS_Store", "lost+found", "README.md", "Thumbs.db"] {
        fs::write(store.path().join(name), "").expect("write");
    }
    assert_eq!(store.list("").expect("list").len(), 1);
}

#[test]
fn objects_are_for_their_owner_alone() {
    let (_root, store) = open();
    put(&store, "packs/1").expect("put");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(store.path()), 0o700);
    assert_eq!(mode(&store.path().join("packs")), 0o700);
    assert_eq!(mode(&store.path().join("packs/1")), 0o600);
}

/// Runs itself again in a mount namespace of its own, with a file system of 1 MiB that ends with it.
#[test]
fn a_full_disk_is_named_and_leaves_nothing_behind() {
    const MARK: &str = "TESTKIT_SMALL_DISK";
    const NO_MOUNT: i32 = 99;
    #[expect(clippy::disallowed_methods, reason = "how the child knows its directory")]
    if let Some(small) = std::env::var_os(MARK) {
        return fill_the_disk(Path::new(&small));
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs \"${MARK}\" || exit {NO_MOUNT}; exec \"$0\" --exact \"$1\""
    );
    let child = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("this test"))
        .arg("directory::a_full_disk_is_named_and_leaves_nothing_behind")
        .env(MARK, root.path())
        .output();
    let out = match child {
        Ok(out) if out.status.code() == Some(0) || out.status.code() == Some(101) => out,
        other => {
            eprintln!("SKIPPED: cannot mount a small file system here: {other:?}");
            return;
        }
    };
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

fn fill_the_disk(root: &Path) {
    let store = LocalStore::open(root).expect("opens");
    put(&store, "config").expect("there is room for this");
    let big = vec![Bytes::from(vec![1; 300_000]); 7];
    let e = store.put("packs/1", big).expect_err("there is no room for this");
    let full = |e: &Error| matches!(e, Error::Io { op: "put", source, .. } if source.kind() == ErrorKind::StorageFull);
    assert!(full(&e), "{e:?}");
    assert_eq!(store.list("").expect("list").len(), 1);
    assert_eq!(fs::read_dir(root.join(".tmp")).expect("listing").count(), 0);
    put(&store, "snap/1").expect("the room is free again");
}
