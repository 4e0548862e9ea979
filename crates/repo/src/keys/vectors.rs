//! Golden vectors: `tests/vectors/keys.json` against this code, with every random part fixed.
//!
//! A difference means that the format changed. On purpose: a new version number, a line in the
//! changelog, and the text this test prints as the new file.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::slot::Fresh;
use super::{
    BlockKind, Epoch, Kdf, Keyring, Keys, MachineKey, Note, RecoveryCode, Secret, SecretInput, Slot,
};
use crate::config::{Config, Params};
use crate::error::Error;
use crate::id::{BlockId, RepoId, SlotId};

const GOLDEN: &str = include_str!("../../tests/vectors/keys.json");
const REPO: RepoId = RepoId([0x10; 16]);
const CREATED_SECS: u64 = 1_700_000_000;
const PLAIN: &[u8] = b"forty-two";

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn keyring() -> Keyring {
    let secret = |n: u8| Secret::new([n; 32]);
    Keyring {
        ids: secret(1),
        chunker: secret(2),
        control: secret(3),
        epochs: vec![
            Epoch { meta: secret(4), data: secret(5) },
            Epoch { meta: secret(6), data: secret(7) },
        ],
    }
}

fn secrets() -> [(SlotId, SecretInput); 3] {
    let machine = MachineKey { repo: REPO, slot: SlotId([0x20; 16]), secret: Secret::new([8; 32]) };
    // decomposed on purpose: it is stored under its composed form
    let passphrase = Zeroizing::new("cafe\u{301} horse".to_owned());
    [
        (machine.slot, SecretInput::Machine(machine)),
        (SlotId([0x21; 16]), SecretInput::Passphrase(passphrase)),
        (SlotId([0x22; 16]), SecretInput::Recovery(RecoveryCode::from_bytes([9; 20]))),
    ]
}

fn slot(id: SlotId, secret: &SecretInput) -> Slot {
    let note = Note { label: "laptop".to_owned(), created_secs: CREATED_SECS };
    let fresh = Fresh { salt: [0x30; 32], nonce: [0x31; 12], note_nonce: [0x32; 12] };
    Slot::create_with(&REPO, id, &keyring(), secret, &note, Kdf::for_tests(), &fresh).unwrap()
}

fn config() -> Config {
    let params = Params {
        chunk_bytes_min: 4 << 10,
        chunk_bytes_avg: 16 << 10,
        chunk_bytes_max: 64 << 10,
        block_bytes_data: 2 << 20,
        block_bytes_pages: 512 << 10,
        zstd_level: 2,
    };
    Config::new(REPO, params, CREATED_SECS).unwrap()
}

/// Everything that follows from the keyring, by label.
fn derived() -> Value {
    let keys = Keys::new(keyring());
    let block = |kind| hex(keys.block_id(kind, PLAIN).0);
    let block_key = |epoch, kind| {
        let key = keys.block_key(epoch, kind, &BlockId([0x40; 32]));
        hex(key.unwrap().expose())
    };
    let control: serde_json::Map<String, Value> = "osimgt"
        .bytes()
        .map(|kind| (char::from(kind).to_string(), json!(hex(keys.control_key(kind).expose()))))
        .collect();
    json!({
        "plaintext": hex(PLAIN),
        "chunk_id": hex(keys.chunk_id(PLAIN).0),
        "block_id": {
            "data": block(BlockKind::Data), "node": block(BlockKind::Node),
            "map": block(BlockKind::Map), "patch": block(BlockKind::Patch),
        },
        "gear_table_key": hex(keys.chunker_key()),
        "secret_mark_key": hex(keys.mark_key()),
        "cache_mac": hex(keys.cache_mac(PLAIN)),
        "control_key": control,
        "block_key_of_block_40": {
            "epoch_0_data": block_key(0, BlockKind::Data),
            "epoch_0_node": block_key(0, BlockKind::Node),
            "epoch_1_data": block_key(1, BlockKind::Data),
            "epoch_1_patch": block_key(1, BlockKind::Patch),
        },
    })
}

fn secret_shown(secret: &SecretInput) -> String {
    match secret {
        SecretInput::Machine(key) => hex(key.secret.expose()),
        SecretInput::Passphrase(text) => hex(text.as_bytes()),
        SecretInput::Recovery(code) => hex(code.expose()),
    }
}

/// Objects that must be refused: what was changed, and the class of the error.
fn refused() -> Vec<Value> {
    let mut out = Vec::new();
    let mut add = |why: &str, name: &str, object: &[u8], error: &str| {
        out.push(json!({ "why": why, "name": name, "object": hex(object), "error": error }));
    };
    let changed = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.encode(&keyring())
    };
    let good = config().encode(&keyring());
    let mut damaged = good.clone();
    damaged[30] ^= 1;
    add("one bit of the record", "config", &damaged, "corrupt");
    add("last byte missing", "config", &good[..good.len() - 1], "corrupt");
    add("keyed by a stranger", "config", &config().encode(&stranger()), "corrupt");
    let mut newer = good;
    newer[7] = 2;
    add("newer object version", "config", &newer, "too_new");
    add("newer format version", "config", &changed(|c| c.version = 2), "too_new");
    let unknown: fn(&mut Config) = |c| c.features.incompat.push("unheard-of".to_owned());
    add("unknown incompat feature", "config", &changed(unknown), "too_new");
    add("odd size", "config", &changed(|c| c.params.chunk_bytes_avg = 20_000), "corrupt");

    let [machine, passphrase, _] = secrets().map(|(id, secret)| slot(id, &secret));
    let name = Slot::object_name(passphrase.id());
    let good = passphrase.encode();
    // offsets: see the layout of the record in docs/FORMAT.md
    let edited = |at: usize, value: u8| {
        let mut object = good.clone();
        object[at] = value;
        rechecked(object)
    };
    let mut damaged = good.clone();
    damaged[200] ^= 1;
    add("one bit of the body", &name, &damaged, "corrupt");
    add("one byte of the body, checksum made right", &name, &edited(200, !good[200]), "corrupt");
    add("one byte of the salt, checksum made right", &name, &edited(19, 0x31), "wrong_key");
    add(
        "one byte of the commitment, checksum made right",
        &name,
        &edited(54, !good[54]),
        "wrong_key",
    );
    add("scrypt with 2^23, checksum made right", &name, &edited(13, 23), "corrupt");
    add("scrypt with r = 23, checksum made right", &name, &edited(14, 23), "corrupt");
    add("cut in half", &name, &good[..good.len() / 2], "corrupt");
    add("newer object version", &name, &edited(7, 2), "too_new");
    add("copied to another name", &Slot::object_name(SlotId([0x29; 16])), &good, "corrupt");
    let name = Slot::object_name(machine.id());
    add("a passphrase slot in the machine's place", &name, &good, "wrong_key");
    out
}

fn stranger() -> Keyring {
    Keyring { control: Secret::new([0x99; 32]), ..keyring() }
}

fn rechecked(mut object: Vec<u8>) -> Vec<u8> {
    let at = object.len() - 16;
    let hash = blake3::hash(&object[..at]);
    object[at..].copy_from_slice(&hash.as_bytes()[..16]);
    object
}

#[test]
fn every_golden_vector_is_what_this_code_writes() {
    let code = RecoveryCode::from_bytes([9; 20]);
    let slots: Vec<Value> = secrets()
        .iter()
        .map(|(id, secret)| {
            let slot = slot(*id, secret);
            json!({
                "name": Slot::object_name(*id),
                "kind": slot.kind().to_string(),
                "secret": secret_shown(secret),
                "label": "laptop",
                "created_secs": CREATED_SECS,
                "object": hex(slot.encode()),
            })
        })
        .collect();
    let now = json!({
        "about": "Vectors of the key formats, version 1; bytes in hex. See docs/FORMAT.md.",
        "repo": REPO.hex(),
        "keyring": hex(minicbor::to_vec(keyring()).unwrap()),
        "derived": derived(),
        "slots": slots,
        "recovery_code": { "secret": hex(code.expose()), "text": *code.reveal() },
        "config": hex(config().encode(&keyring())),
        "refused": refused(),
    });
    let golden: Value = serde_json::from_str(GOLDEN).unwrap_or_default();
    let printed = serde_json::to_string_pretty(&now).unwrap();
    assert!(golden == now, "the format changed; it is now:\n{printed}");
}

#[test]
fn the_golden_objects_open() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let config = Config::parse(&unhex(&golden["config"])).unwrap();
    config.verify(&keyring()).unwrap();
    let keyring_golden: Keyring = minicbor::decode(&unhex(&golden["keyring"])).unwrap();
    assert_eq!(keyring_golden, keyring());
    for (vector, (_, secret)) in golden["slots"].as_array().unwrap().iter().zip(secrets()) {
        let slot = Slot::parse(text(&vector["name"]), &unhex(&vector["object"])).unwrap();
        let (opened, note) = slot.open(&REPO, &secret).unwrap();
        assert_eq!((opened, note.label.as_str()), (keyring(), "laptop"));
    }
    let code = RecoveryCode::parse(text(&golden["recovery_code"]["text"])).unwrap();
    assert_eq!(hex(code.expose()), text(&golden["recovery_code"]["secret"]));
}

#[test]
fn every_golden_object_to_refuse_is_refused_for_its_reason() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let [machine, passphrase, _] = secrets().map(|(_, secret)| secret);
    for vector in golden["refused"].as_array().unwrap() {
        let (name, object) = (text(&vector["name"]), unhex(&vector["object"]));
        let error = if name == "config" {
            Config::parse(&object).and_then(|config| config.verify(&keyring())).unwrap_err()
        } else {
            let secret =
                if name == Slot::object_name(SlotId([0x20; 16])) { &machine } else { &passphrase };
            Slot::parse(name, &object).and_then(|slot| slot.open(&REPO, secret)).unwrap_err()
        };
        let class = match error {
            Error::Corrupt { .. } => "corrupt",
            Error::TooNew { .. } => "too_new",
            Error::WrongKey { .. } => "wrong_key",
            _ => "another class",
        };
        assert_eq!(class, text(&vector["error"]), "{}: {error}", vector["why"]);
    }
}

/// The same 20 bytes as a passphrase and as a recovery code give the same key: the associated data
/// alone keeps the kinds apart.
#[test]
fn the_kind_of_a_slot_is_bound() {
    let bytes = b"twenty ascii letters";
    let typed = std::str::from_utf8(bytes).unwrap().to_owned();
    let made = slot(SlotId([0x23; 16]), &SecretInput::Passphrase(Zeroizing::new(typed)));
    let mut object = made.encode();
    assert_eq!(object[10], 1, "the kind, in the layout of docs/FORMAT.md");
    object[10] = 2;
    let relabelled = Slot::parse(&Slot::object_name(made.id()), &rechecked(object)).unwrap();
    let code = SecretInput::Recovery(RecoveryCode::from_bytes(*bytes));
    assert!(matches!(relabelled.open(&REPO, &code), Err(Error::Corrupt { .. })));
}
