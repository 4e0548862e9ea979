//! Buckets that were written from the description of the format alone: what is right is read, what may be
//! forged is refused, what is damaged is named, and nothing is written.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use import::{Error, Found, Listed, Passphrase, Result, Source, Trust};
use store::LocalStore;
use tempfile::TempDir;
use testkit::CoreBucket;

const PASSPHRASE: &str = "corr\u{e9}ct horse";
const FIRST: &str = "2026-03-01T10:00:00.125Z";
const SECOND: &str = "2026-03-02T10:00:00.251Z";
const THIRD: &str = "2026-03-03T10:00:00.375Z";
const FILES: [(&str, &[u8]); 4] = [
    ("config/config.yaml", b"model: x\n"),
    ("data/empty", b""),
    ("data/sessions/\u{e9} #1.jsonl", b"{\"a\":1}\n"),
    ("state/logs/one.log", b"line\n"),
];

struct Room {
    dir: TempDir,
}

impl Room {
    fn new(bucket: &CoreBucket) -> Self {
        let dir = tempfile::tempdir().unwrap();
        bucket.write_to(dir.path());
        Self { dir }
    }

    fn open(&self, passphrase: Option<Passphrase>, trust: Trust) -> Result<Source> {
        Source::open(Arc::new(LocalStore::open(self.dir.path()).unwrap()), passphrase, trust)
    }

    fn source(&self) -> Source {
        self.open(Some(given(PASSPHRASE)), Trust::Sealed).unwrap()
    }
}

fn given(text: &str) -> Passphrase {
    Passphrase::given(text.to_owned().into())
}

fn encrypted() -> CoreBucket {
    CoreBucket::new("goose-backup", Some(PASSPHRASE))
}

fn read(
    source: &Source,
    listed: &Listed,
    path: &str,
    manifest: &import::Manifest,
) -> Result<Vec<u8>> {
    let taken = source.read(listed, path, &manifest.files[path], |stream| {
        let mut content = Vec::new();
        // what the stream failed with is told by `read`
        let _ = stream.read_to_end(&mut content);
        Ok::<_, Error>(content)
    });
    Ok(taken?.value)
}

/// All files of a snapshot.
fn content(source: &Source, one: &Found) -> BTreeMap<String, Vec<u8>> {
    let manifest = source.manifest(&one.listed, one.head.as_ref().unwrap()).unwrap();
    let file = |path: &String| (path.clone(), read(source, &one.listed, path, &manifest).unwrap());
    manifest.files.keys().map(file).collect()
}

fn expected(files: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect()
}

fn snapshot_of_tree(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(snapshot_of_tree(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn snapshots_come_with_their_times_and_every_file_as_it_was_and_nothing_is_written() {
    let mut bucket = encrypted();
    let large: Vec<u8> = (0..9_000_001_u32).map(|n| (n % 251) as u8).collect();
    let mut files = FILES.to_vec();
    files.push(("data/large", &large));
    bucket.snapshot(FIRST, &FILES);
    bucket.safety(SECOND, &FILES[..2]);
    bucket.snapshot(THIRD, &files);
    let room = Room::new(&bucket);
    let before = snapshot_of_tree(room.dir.path());
    let source = room.source();
    let found = source.survey().unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.head.as_ref().unwrap().time.to_string(), one.listed.safety))
        .collect();
    let time = |time: &str, safety| (time.to_owned(), safety);
    assert_eq!(told, [time(FIRST, false), time(SECOND, true), time(THIRD, false)]);
    assert!(found.iter().all(|one| one.listed.prefix == "goose-backup"));
    assert_eq!(content(&source, &found[0]), expected(&FILES));
    assert_eq!(content(&source, &found[1]), expected(&FILES[..2]));
    assert_eq!(content(&source, &found[2]), expected(&files));
    assert_eq!(found[2].head.as_ref().unwrap().files, 5);
    assert_eq!(snapshot_of_tree(room.dir.path()), before);
}

#[test]
fn a_bucket_that_was_never_encrypted_is_read_also_files_that_look_sealed() {
    let mut bucket = CoreBucket::new("", None);
    let sealed = testkit::core_bucket::seal(b"somebody's", "p", "salt");
    let short = b"B2EN and no more";
    let files: [(&str, &[u8]); 3] = [("home/a", b"a"), ("home/b", &sealed), ("home/c", short)];
    bucket.snapshot(FIRST, &files);
    let room = Room::new(&bucket);
    for passphrase in [None, Some(Passphrase::storage_key("key".to_owned().into()))] {
        let source = room.open(passphrase, Trust::Sealed).unwrap();
        let found = source.survey().unwrap();
        assert!(found[0].head.as_ref().unwrap().plain);
        assert_eq!(found[0].listed.prefix, "");
        assert_eq!(content(&source, &found[0]), expected(&files));
    }
}

#[test]
fn encryption_that_was_switched_on_later_leaves_plain_files_and_they_count_by_their_hash() {
    let mut bucket = encrypted();
    let name = bucket.snapshot(FIRST, &FILES);
    *bucket.object(&name, FILES[0].0) = FILES[0].1.to_vec();
    let room = Room::new(&bucket);
    let source = room.source();
    assert_eq!(content(&source, &source.survey().unwrap()[0]), expected(&FILES));
    *bucket.object(&name, FILES[0].0) = b"model: y\n".to_vec();
    let room = Room::new(&bucket);
    let source = room.source();
    let found = source.survey().unwrap();
    let manifest = source.manifest(&found[0].listed, found[0].head.as_ref().unwrap()).unwrap();
    let error = read(&source, &found[0].listed, FILES[0].0, &manifest).unwrap_err();
    assert!(error.to_string().contains("config/config.yaml"), "{error}");
}

#[test]
fn a_plain_manifest_in_an_encrypted_bucket_is_refused_by_name() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    bucket.encrypt(None);
    let forged = bucket.snapshot("2027-01-01T00:00:00.000Z", &[("config/hook.sh", b"evil")]);
    let room = Room::new(&bucket);
    let found = room.source().survey().unwrap();
    assert!(found[0].head.is_ok());
    let error = found[1].head.as_ref().unwrap_err();
    assert!(matches!(error, Error::Unsafe { .. }), "{error}");
    assert!(error.to_string().contains(&forged), "{error}");
    // only the word of the user makes it count
    let found = room.open(Some(given(PASSPHRASE)), Trust::Plain).unwrap().survey().unwrap();
    assert!(found[1].head.as_ref().unwrap().plain);
}

#[test]
fn a_plain_manifest_is_refused_where_a_passphrase_was_given_also_if_it_is_the_only_one() {
    let mut bucket = CoreBucket::new("goose-backup", None);
    bucket.snapshot(FIRST, &FILES);
    let room = Room::new(&bucket);
    let refused = |passphrase| {
        let found = room.open(passphrase, Trust::Sealed).unwrap().survey().unwrap();
        matches!(found[0].head, Err(Error::Unsafe { .. }))
    };
    assert!(refused(Some(given(PASSPHRASE))));
    assert!(!refused(None));
    assert!(!refused(Some(Passphrase::storage_key("key".to_owned().into()))));
}

#[test]
fn the_plugin_with_plain_manifests_and_sealed_files_is_read_when_the_user_says_so() {
    let mut bucket = CoreBucket::new("openclaw-backup", Some("the application key"));
    let files: [(&str, &[u8]); 2] =
        [("openclaw.json", b"{}"), ("agents/a/sessions/s.jsonl", b"{}\n")];
    let name = bucket.snapshot(FIRST, &files);
    let plain = testkit::core_bucket::manifest(FIRST, &files).into_bytes();
    *bucket.object(&name, "manifest.json") = plain;
    // it gives every snapshot a name of its own
    let all = std::mem::take(&mut bucket.objects);
    let unique = all
        .into_iter()
        .map(|(key, bytes)| (key.replace(&name, &format!("{name}-0a1b2c3d")), bytes));
    bucket.objects = unique.collect();
    let room = Room::new(&bucket);
    let key = Passphrase::storage_key("the application key".to_owned().into());
    let source = room.open(Some(key), Trust::Plain).unwrap();
    assert_eq!(content(&source, &source.survey().unwrap()[0]), expected(&files));
}

#[test]
fn a_manifest_that_was_copied_to_a_later_name_is_refused() {
    let mut bucket = encrypted();
    let name = bucket.snapshot(FIRST, &FILES);
    let replayed: Vec<_> = bucket
        .objects
        .iter()
        .map(|(key, bytes)| (key.replace(&name, "9999-01-01T00-00-00-000Z"), bytes.clone()))
        .collect();
    bucket.objects.extend(replayed);
    let found = Room::new(&bucket).source().survey().unwrap();
    assert!(found[0].head.is_ok());
    assert!(matches!(found[1].head, Err(Error::Unsafe { .. })), "{:?}", found[1].head);
}

#[test]
fn a_sealed_manifest_with_a_path_that_leads_out_is_refused_too() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    for (day, path) in ["home/../../x", "/etc/cron.d/x", "home/\0x"].into_iter().enumerate() {
        let time = format!("2026-04-0{}T00:00:00.000Z", day + 1);
        let name = time.replace([':', '.'], "-");
        let manifest = testkit::core_bucket::manifest(&time, &[("home/fine", b"f"), (path, b"x")]);
        bucket.put(&name, "manifest.json", manifest.as_bytes());
    }
    let found = Room::new(&bucket).source().survey().unwrap();
    assert_eq!(found.len(), 4);
    assert!(found[0].head.is_ok());
    assert!(found[1..].iter().all(|one| matches!(one.head, Err(Error::Unsafe { .. }))));
}

#[test]
fn what_is_missing_or_damaged_is_told_with_its_key_and_the_rest_is_read() {
    let mut bucket = encrypted();
    let name = bucket.snapshot(FIRST, &FILES);
    let last = bucket.object(&name, FILES[0].0).len() - 1;
    bucket.object(&name, FILES[0].0)[last] ^= 1;
    let missing = bucket.key(&name, FILES[2].0);
    bucket.objects.remove(&missing);
    bucket.object(&name, FILES[3].0).truncate(66);
    let broken = bucket.snapshot(SECOND, &FILES);
    bucket.object(&broken, "manifest.json")[70] ^= 1;
    let no_manifest = bucket.snapshot(THIRD, &FILES);
    let key = bucket.key(&no_manifest, "manifest.json");
    bucket.objects.remove(&key);
    // nothing of the others may stand in
    for name in [&broken, &no_manifest] {
        for (path, _) in FILES {
            let key = bucket.key(name, path);
            bucket.objects.remove(&key);
        }
    }
    bucket.put(&no_manifest, "data/other", b"x");
    let room = Room::new(&bucket);
    let source = room.source();
    let found = source.survey().unwrap();
    assert_eq!(found.len(), 2);
    assert!(
        matches!(&found[1].head, Err(Error::Damaged { object, .. }) if object.contains(&broken))
    );
    assert_eq!(source.unfinished(), [format!("goose-backup/{no_manifest}")]);
    let manifest = source.manifest(&found[0].listed, found[0].head.as_ref().unwrap()).unwrap();
    for (path, whole) in FILES.iter().zip([false, true, false, false]) {
        match read(&source, &found[0].listed, path.0, &manifest) {
            Ok(content) => assert!(whole && content == path.1, "{}", path.0),
            Err(Error::Damaged { object, .. }) => {
                assert!(!whole);
                assert_eq!(object, bucket.key(&name, path.0));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_that_was_not_carried_over_comes_from_the_snapshot_that_has_it() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &[("home/a", b"same"), ("home/b", b"old")]);
    let files: [(&str, &[u8]); 2] = [("home/a", b"same"), ("home/b", b"new")];
    let name = bucket.snapshot_of_changes(SECOND, &files, &["home/b"]);
    // the one in between has the path, of that length, and another content
    bucket.snapshot("2026-03-01T12:00:00.000Z", &[("home/a", b"else"), ("home/b", b"old")]);
    let room = Room::new(&bucket);
    let source = room.source();
    let found = source.survey().unwrap();
    let newest = found.iter().find(|one| one.listed.name.ends_with(&name)).unwrap();
    assert_eq!(content(&source, newest), expected(&files));
    let manifest = source.manifest(&newest.listed, newest.head.as_ref().unwrap()).unwrap();
    let taken = source.read(&newest.listed, "home/a", &manifest.files["home/a"], |stream| {
        stream
            .read_to_end(&mut Vec::new())
            .map_err(|_| Error::Damaged { object: String::new(), what: String::new() })
    });
    let instead = taken.unwrap().instead.expect("it is told that its own object was not taken");
    assert!(instead.to_string().contains(&name), "{instead}");
}

#[test]
fn a_wrong_passphrase_or_none_is_told_as_that_and_not_as_damage() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    bucket.snapshot(SECOND, &FILES);
    let room = Room::new(&bucket);
    let outcome = |passphrase| room.open(passphrase, Trust::Sealed).unwrap().survey();
    assert!(matches!(outcome(None), Err(Error::NoPassphrase { .. })));
    assert!(matches!(outcome(Some(given("wrong"))), Err(Error::WrongPassphrase { .. })));
    let key = Passphrase::storage_key("wrong".to_owned().into());
    let error = outcome(Some(key)).unwrap_err();
    assert!(error.to_string().contains("encryptionKey"), "{error}");
    let shown = format!("{:?}", given("s3cret"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_place_without_snapshots_of_the_old_engine_is_an_error() {
    let mut bucket = CoreBucket::new("p", None);
    bucket.objects.insert("snap/0123".to_owned(), b"x".to_vec());
    let outcome = Room::new(&bucket).open(None, Trust::Sealed);
    assert!(matches!(outcome, Err(Error::Nothing { .. })));
}

#[test]
fn a_stream_that_nobody_reads_to_its_end_counts_for_nothing() {
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    let room = Room::new(&bucket);
    let source = room.source();
    let found = source.survey().unwrap();
    let manifest = source.manifest(&found[0].listed, found[0].head.as_ref().unwrap()).unwrap();
    let path = FILES[0].0;
    let record = &manifest.files[path];
    let taken = source.read(&found[0].listed, path, record, |_| Ok::<_, Error>(()));
    assert!(matches!(taken, Err(Error::Damaged { .. })));
}
