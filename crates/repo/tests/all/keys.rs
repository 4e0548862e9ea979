//! Key slots, as whoever holds a secret, loses one, or meets a hostile store sees them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::SystemTime;

use bytes::Bytes;
use repo::keys::{
    self, Epoch, Kdf, Keyring, MachineKey, Note, RecoveryCode, Secret, SecretInput, Slot, SlotKind,
};
use repo::{Error, RepoId, SlotId};
use store::{Item, Store};
use zeroize::Zeroizing;

const REPO: RepoId = RepoId([7; 16]);

/// Objects in memory; remembers each call.
#[derive(Debug, Default)]
struct Shelf {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    calls: Mutex<Vec<String>>,
    /// Flips a bit of everything that is written.
    spoils: bool,
}

impl Shelf {
    fn called(&self, verb: &str, name: &str) {
        self.calls.lock().unwrap().push(format!("{verb} {name}"));
    }

    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn insert(&self, name: &str, object: Vec<u8>) {
        self.objects.lock().unwrap().insert(name.to_owned(), object);
    }

    fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

impl Store for Shelf {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> store::Result<()> {
        self.called("put", name);
        let mut object = parts.concat();
        if self.spoils {
            object[40] ^= 1;
        }
        self.insert(name, object);
        Ok(())
    }

    fn get(&self, name: &str) -> store::Result<Bytes> {
        self.called("get", name);
        let objects = self.objects.lock().unwrap();
        let object = objects.get(name);
        object
            .map(|object| Bytes::from(object.clone()))
            .ok_or_else(|| store::Error::NotFound { name: name.to_owned() })
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> store::Result<Bytes> {
        let at = |n: u64| usize::try_from(n).unwrap();
        self.get(name).map(|object| object.slice(at(range.start)..at(range.end)))
    }

    fn list(&self, prefix: &str) -> store::Result<Vec<Item>> {
        self.called("list", prefix);
        let objects = self.objects.lock().unwrap();
        let under = objects.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(under
            .map(|(name, object)| Item {
                name: name.clone(),
                size: object.len() as u64,
                modified: SystemTime::UNIX_EPOCH,
            })
            .collect())
    }

    fn delete(&self, name: &str) -> store::Result<()> {
        self.called("delete", name);
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }

    fn address(&self) -> String {
        "memory".to_owned()
    }
}

fn passphrase(text: &str) -> SecretInput {
    SecretInput::Passphrase(Zeroizing::new(text.to_owned()))
}

fn note(label: &str) -> Note {
    Note { label: label.to_owned(), created_secs: 1_700_000_000 }
}

fn secrets() -> [SecretInput; 3] {
    [
        SecretInput::Machine(MachineKey::random(REPO)),
        passphrase("correct horse"),
        SecretInput::Recovery(RecoveryCode::random()),
    ]
}

fn slot(keyring: &Keyring, secret: &SecretInput) -> Slot {
    Slot::create(&REPO, keyring, secret, &note("laptop"), Kdf::for_tests()).unwrap()
}

fn name(slot: &Slot) -> String {
    Slot::object_name(slot.id())
}

fn parse_and_open(name: &str, object: &[u8], secret: &SecretInput) -> repo::Result<Keyring> {
    Ok(Slot::parse(name, object)?.open(&REPO, secret)?.0)
}

/// Makes the plain checksum right again, as somebody who forges a slot would.
fn with_checksum(mut object: Vec<u8>) -> Vec<u8> {
    let at = object.len() - 16;
    let hash = blake3::hash(&object[..at]);
    object[at..].copy_from_slice(&hash.as_bytes()[..16]);
    object
}

/// Where the fields of a record with small kdf numbers are: map header, then `key value` pairs.
const KIND_AT: usize = 10;
const LOG2N_AT: usize = 13;
const SALT_AT: usize = 19;
const COMMITMENT_AT: usize = SALT_AT + 32 + 3;
const BODY_AT: usize = COMMITMENT_AT + 32 + 1 + 1 + 12 + 1 + 3;

#[test]
fn each_kind_of_secret_opens_its_slot_and_no_other() {
    let keyring = Keyring::random();
    let secrets = secrets();
    for (at, secret) in secrets.iter().enumerate() {
        let slot = slot(&keyring, secret);
        let back = Slot::parse(&name(&slot), &slot.encode()).unwrap();
        assert_eq!(back.open(&REPO, secret).unwrap(), (keyring.clone(), note("laptop")));
        assert_eq!(back.note(&REPO, &keyring).unwrap(), note("laptop"));
        for other in secrets.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, other)| other) {
            assert!(matches!(back.open(&REPO, other), Err(Error::WrongKey { .. })));
        }
    }
}

#[test]
fn a_wrong_passphrase_is_called_wrong_and_not_damage() {
    let slot = slot(&Keyring::random(), &passphrase("correct horse"));
    for typed in ["correct horse ", "Correct horse", "c", ""] {
        let error = slot.open(&REPO, &passphrase(typed)).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{typed:?}: {error}");
    }
    let other_machine = SecretInput::Machine(MachineKey::random(REPO));
    assert!(matches!(slot.open(&REPO, &other_machine), Err(Error::WrongKey { .. })));
}

#[test]
fn a_passphrase_typed_on_another_keyboard_is_the_same_passphrase() {
    let keyring = Keyring::random();
    let slot = slot(&keyring, &passphrase("caf\u{e9} \u{ac00}"));
    let decomposed = passphrase("cafe\u{301} \u{1100}\u{1161}");
    assert_eq!(slot.open(&REPO, &decomposed).unwrap().0, keyring);
}

#[test]
fn an_empty_passphrase_makes_no_slot() {
    let made =
        Slot::create(&REPO, &Keyring::random(), &passphrase(""), &note(""), Kdf::for_tests());
    assert!(matches!(made, Err(Error::WrongKey { .. })));
}

#[test]
fn every_changed_byte_of_a_slot_is_damage() {
    let keyring = Keyring::random();
    for secret in &secrets() {
        let slot = slot(&keyring, secret);
        let (name, object) = (name(&slot), slot.encode());
        for at in 0..object.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bad = object.clone();
                bad[at] ^= mask;
                let error = parse_and_open(&name, &bad, secret).unwrap_err();
                let newer = at == 7 && matches!(error, Error::TooNew { .. });
                assert!(newer || matches!(error, Error::Corrupt { .. }), "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn a_forged_slot_with_a_right_checksum_never_yields_a_keyring() {
    let keyring = Keyring::random();
    for secret in &secrets() {
        let slot = slot(&keyring, secret);
        let (name, object) = (name(&slot), slot.encode());
        // scrypt runs for most of these: every byte for the machine key, a sample for the others
        let step = if secret.kind() == SlotKind::Machine { 1 } else { 13 };
        // all of the head, where the kdf parameters are
        for at in (0..32).chain((32..object.len() - 16).step_by(step)) {
            let mut bad = object.clone();
            bad[at] ^= 0x04;
            let error = parse_and_open(&name, &with_checksum(bad), secret).unwrap_err();
            let expected = matches!(
                error,
                Error::Corrupt { .. } | Error::WrongKey { .. } | Error::TooNew { .. }
            );
            assert!(expected, "byte {at}: {error}");
        }
    }
}

#[test]
fn a_slot_cut_short_anywhere_is_damage() {
    let secret = SecretInput::Machine(MachineKey::random(REPO));
    let slot = slot(&Keyring::random(), &secret);
    let object = slot.encode();
    for len in 0..object.len() {
        let plain = Slot::parse(&name(&slot), &object[..len]).unwrap_err();
        assert!(matches!(plain, Error::Corrupt { .. }), "{len}: {plain}");
        if len >= 24 {
            let forged = with_checksum(object[..len].to_vec());
            let error = Slot::parse(&name(&slot), &forged).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{len}: {error}");
        }
    }
    let mut longer = object.clone();
    longer.splice(object.len() - 16..object.len() - 16, [0]);
    assert!(Slot::parse(&name(&slot), &with_checksum(longer)).is_err());
}

#[test]
fn the_commitment_is_compared_before_anything_is_decrypted() {
    let secret = passphrase("correct horse");
    let slot = slot(&Keyring::random(), &secret);
    let mut bad = slot.encode();
    // both are wrong: whoever decrypts first would say "damaged"
    bad[COMMITMENT_AT] ^= 1;
    bad[BODY_AT] ^= 1;
    let error = parse_and_open(&name(&slot), &with_checksum(bad), &secret).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    // the body alone: the secret is right, so it is damage
    let mut bad = slot.encode();
    bad[BODY_AT] ^= 1;
    let error = parse_and_open(&name(&slot), &with_checksum(bad), &secret).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn a_slot_that_asks_for_too_much_work_is_refused_when_it_is_parsed() {
    let slot = slot(&Keyring::random(), &passphrase("correct horse"));
    let object = slot.encode();
    assert_eq!(object[LOG2N_AT..LOG2N_AT + 3], [10, 8, 1], "the layout this test relies on");
    // log2n, r, p: one more than the caps, and nothing at all
    for (at, value) in [(0, 21), (1, 9), (2, 5), (0, 0), (1, 0), (2, 0)] {
        let mut bad = object.clone();
        bad[LOG2N_AT + at] = value;
        let error = Slot::parse(&name(&slot), &with_checksum(bad)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "field {at} = {value}: {error}");
    }
    // the caps themselves are allowed
    for (at, value) in [(0, 20), (2, 4)] {
        let mut good = object.clone();
        good[LOG2N_AT + at] = value;
        Slot::parse(&name(&slot), &with_checksum(good)).unwrap();
    }
}

#[test]
fn a_slot_opens_only_in_its_own_repository_and_under_its_own_name() {
    let keyring = Keyring::random();
    let key = MachineKey::random(REPO);
    let elsewhere = RepoId([8; 16]);
    let other_name = Slot::object_name(SlotId([9; 16]));
    for secret in [passphrase("correct horse"), SecretInput::Machine(key.clone())] {
        let slot = slot(&keyring, &secret);
        let error = slot.open(&elsewhere, &secret).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        let moved = Slot::parse(&other_name, &slot.encode()).unwrap();
        assert!(moved.open(&REPO, &secret).is_err());
        assert!(moved.note(&REPO, &keyring).is_err());
    }
    // a machine key rewritten to fit the place still meets another key derivation or name
    let slot = slot(&keyring, &SecretInput::Machine(key.clone()));
    let rewritten = MachineKey { repo: elsewhere, ..key.clone() };
    let error = slot.open(&elsewhere, &SecretInput::Machine(rewritten)).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    let moved = Slot::parse(&other_name, &slot.encode()).unwrap();
    let renamed = MachineKey { slot: SlotId([9; 16]), ..key };
    let error = moved.open(&REPO, &SecretInput::Machine(renamed)).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn a_slot_relabelled_as_another_kind_does_not_open() {
    let secret = passphrase("correct horse");
    let slot = slot(&Keyring::random(), &secret);
    let relabelled = |kind: u8| {
        let mut object = slot.encode();
        assert_eq!(object[KIND_AT], 1, "the layout this test relies on");
        object[KIND_AT] = kind;
        with_checksum(object)
    };
    // a machine slot has no scrypt parameters, so the change shows at once
    let error = Slot::parse(&name(&slot), &relabelled(0)).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let error = parse_and_open(&name(&slot), &relabelled(2), &secret).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
}

#[test]
fn the_length_of_a_slot_tells_neither_label_nor_key() {
    let secret = passphrase("correct horse");
    let len = |label: &str, epochs: usize| {
        let mut keyring = Keyring::random();
        let epoch = || Epoch { meta: Secret::random(), data: Secret::random() };
        keyring.epochs = std::iter::repeat_with(epoch).take(epochs).collect();
        let slot = Slot::create(&REPO, &keyring, &secret, &note(label), Kdf::for_tests()).unwrap();
        assert_eq!(slot.open(&REPO, &secret).unwrap().0, keyring, "{epochs} epochs");
        slot.encode().len()
    };
    let longest = "x".repeat(64);
    for epochs in [1, 12, 13, 14, 40] {
        assert_eq!(len("", epochs), len(&longest, epochs));
    }
    assert_eq!(len("", 1), len("", 12));
    assert_eq!(len("", 13), len("", 12) + 1024);
    let too_long = note(&"x".repeat(65));
    let made = Slot::create(&REPO, &Keyring::random(), &secret, &too_long, Kdf::for_tests());
    assert!(matches!(made, Err(Error::Refused { .. })));
}

#[test]
fn a_machine_key_costs_one_get_and_a_passphrase_one_list_and_its_slots() {
    let (shelf, keyring) = (Shelf::default(), Keyring::random());
    let mut ids = Vec::new();
    for secret in &secrets() {
        ids.push(keys::add(&shelf, &REPO, &keyring, secret, &note("a"), Kdf::for_tests()).unwrap());
    }
    let key = MachineKey::random(REPO);
    let machine = SecretInput::Machine(key.clone());
    keys::add(&shelf, &REPO, &keyring, &machine, &note("b"), Kdf::for_tests()).unwrap();
    shelf.take_calls();
    assert_eq!(keys::open_any(&shelf, &REPO, &machine).unwrap(), (keyring.clone(), key.slot));
    assert_eq!(shelf.take_calls(), [format!("get keys/{}", key.slot)]);
    let opened = keys::open_any(&shelf, &REPO, &passphrase("correct horse")).unwrap();
    assert_eq!(opened, (keyring, ids[1]));
    let calls = shelf.take_calls();
    assert_eq!(calls[0], "list keys/");
    assert!(calls.len() <= 5 && calls[1..].iter().all(|call| call.starts_with("get ")));
}

#[test]
fn one_damaged_slot_does_not_lock_out_the_others() {
    let (shelf, keyring) = (Shelf::default(), Keyring::random());
    let secret = passphrase("correct horse");
    let bad_name = Slot::object_name(SlotId([0; 16]));
    shelf.insert(&bad_name, b"ABSLOT\0\x01 rubbish and more rubbish".to_vec());
    shelf.insert("keys/.tmp-1", b"not a slot".to_vec());
    // alone, it is the damage that counts
    let error = keys::open_any(&shelf, &REPO, &secret).unwrap_err();
    assert!(matches!(error, Error::Corrupt { ref object, .. } if *object == bad_name), "{error}");
    let id = keys::add(&shelf, &REPO, &keyring, &secret, &note("a"), Kdf::for_tests()).unwrap();
    assert_eq!(keys::open_any(&shelf, &REPO, &secret).unwrap(), (keyring, id));
    let error = keys::open_any(&shelf, &REPO, &passphrase("wrong")).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }));
    assert!(error.to_string().contains(&bad_name), "{error}");
}

#[test]
fn a_store_full_of_slots_does_not_keep_a_client_busy_for_ever() {
    let shelf = Shelf::default();
    for n in 0..100 {
        shelf.insert(&Slot::object_name(SlotId([n; 16])), b"junk".to_vec());
    }
    assert!(keys::open_any(&shelf, &REPO, &passphrase("correct horse")).is_err());
    assert_eq!(shelf.take_calls().len(), 1 + keys::SLOTS_TRIED_MAX);
}

#[test]
fn a_slot_that_the_store_spoils_is_not_reported_as_added() {
    let shelf = Shelf { spoils: true, ..Shelf::default() };
    let secret = passphrase("correct horse");
    let added = keys::add(&shelf, &REPO, &Keyring::random(), &secret, &note("a"), Kdf::for_tests());
    assert!(matches!(added, Err(Error::Corrupt { .. })));
    assert!(shelf.names().is_empty());
}

#[test]
fn a_keyring_that_could_seal_nothing_is_not_stored() {
    let shelf = Shelf::default();
    let empty = Keyring { epochs: Vec::new(), ..Keyring::random() };
    let secret = passphrase("correct horse");
    let added = keys::add(&shelf, &REPO, &empty, &secret, &note("a"), Kdf::for_tests());
    assert!(matches!(added, Err(Error::Corrupt { .. })));
    assert!(shelf.names().is_empty());
}

#[test]
fn a_secret_without_a_slot_of_its_kind_is_told_so() {
    let (shelf, keyring) = (Shelf::default(), Keyring::random());
    let code = SecretInput::Recovery(RecoveryCode::random());
    let error = keys::open_any(&shelf, &REPO, &code).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "no slots at all: {error}");
    let secret = passphrase("correct horse");
    keys::add(&shelf, &REPO, &keyring, &secret, &note("a"), Kdf::for_tests()).unwrap();
    let error = keys::open_any(&shelf, &REPO, &code).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }));
    assert!(error.to_string().contains("opens with a recovery code"), "{error}");
    let error = keys::open_any(&shelf, &REPO, &passphrase("wrong")).unwrap_err();
    assert!(error.to_string().contains("the one passphrase slot does not open"), "{error}");
}

#[test]
fn a_recovery_code_with_a_mistake_in_it_is_told_as_one() {
    let (keyring, store) = (Keyring::random(), Shelf::default());
    let code = RecoveryCode::random();
    for secret in [SecretInput::Recovery(code.clone()), passphrase("right")] {
        keys::add(&store, &REPO, &keyring, &secret, &note("one"), Kdf::for_tests()).unwrap();
    }
    let told = |typed: &str| {
        let error = keys::open_any(&store, &REPO, &passphrase(typed)).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        error.to_string()
    };
    let typed = code.reveal();
    let short = told(&typed[..typed.len() - 1]);
    assert!(short.contains("36 characters, this one has 35"), "{short}");
    let other = if typed.starts_with('7') { "8" } else { "7" };
    let changed = told(&format!("{other}{}", &typed[1..]));
    assert!(changed.contains("has a typo"), "{changed}");
    for other in ["wrong", "correct horse battery staple, and more words"] {
        assert!(!told(other).contains("recovery code"), "{other}");
    }
}

#[test]
fn a_machine_key_is_never_added_twice() {
    let (shelf, keyring) = (Shelf::default(), Keyring::random());
    let secret = SecretInput::Machine(MachineKey::random(REPO));
    let add =
        |label: &str| keys::add(&shelf, &REPO, &keyring, &secret, &note(label), Kdf::for_tests());
    let id = add("first").unwrap();
    assert!(matches!(add("second"), Err(Error::Refused { .. })));
    let slot = keys::read(&shelf, id).unwrap();
    assert_eq!(slot.note(&REPO, &keyring).unwrap().label, "first");
}

#[test]
fn the_last_usable_slot_stays() {
    let (shelf, keyring) = (Shelf::default(), Keyring::random());
    let add = |text: &str| {
        let secret = passphrase(text);
        keys::add(&shelf, &REPO, &keyring, &secret, &note(text), Kdf::for_tests()).unwrap()
    };
    let first = add("one");
    assert!(matches!(keys::remove(&shelf, first), Err(Error::Refused { .. })));
    // a damaged slot beside it opens nothing, so it does not count
    shelf.insert(&Slot::object_name(SlotId([0xff; 16])), b"junk".to_vec());
    assert!(matches!(keys::remove(&shelf, first), Err(Error::Refused { .. })));
    let second = add("two");
    keys::remove(&shelf, first).unwrap();
    assert!(matches!(keys::remove(&shelf, first), Err(Error::Missing { .. })));
    assert!(matches!(
        keys::open_any(&shelf, &REPO, &passphrase("one")),
        Err(Error::WrongKey { .. })
    ));
    assert_eq!(keys::open_any(&shelf, &REPO, &passphrase("two")).unwrap(), (keyring, second));
    // what `key list` shows
    assert_eq!(keys::list(&shelf).unwrap(), [second, SlotId([0xff; 16])]);
    assert_eq!(keys::read(&shelf, second).unwrap().kind(), SlotKind::Passphrase);
}

#[test]
fn a_machine_whose_slot_was_removed_is_told_so() {
    let shelf = Shelf::default();
    let key = MachineKey::random(REPO);
    let error = keys::open_any(&shelf, &REPO, &SecretInput::Machine(key)).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }));
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[test]
fn debug_output_holds_no_secret() {
    let key = MachineKey { repo: REPO, slot: SlotId([1; 16]), secret: Secret::new([0xab; 32]) };
    let code = RecoveryCode::random();
    let shown = format!(
        "{:?} {:?} {:?} {key:?} {code:?} {:?}",
        passphrase("correct horse"),
        SecretInput::Machine(key.clone()),
        SecretInput::Recovery(code.clone()),
        Keyring { ids: Secret::new([0xab; 32]), ..Keyring::random() },
    );
    assert!(!shown.contains("horse"), "{shown}");
    assert!(!shown.contains("ab, ab") && !shown.contains("171") && !shown.contains("abab"));
    assert!(!shown.contains(&code.reveal()[..9]), "{shown}");
    assert!(shown.contains(".."));
}
