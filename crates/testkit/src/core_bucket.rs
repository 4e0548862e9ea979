//! Buckets as agent-backup-core leaves them, written byte by byte from the description of its format. It shares
//! nothing with the crate that reads them.
//!
//! ```text
//! <prefix>/<stamp>/<path>, <prefix>/<stamp>/manifest.json, <prefix>/safety-<stamp>/<stamp>/...
//! manifest  {"version":1,"timestamp":ISO,"files":{path:{"hash":sha256 hex,"size":n}}}, two spaces a level
//! sealed    "B2EN" salt(32) iv(12) tag(16) ciphertext; AES-256-GCM, key = scrypt(passphrase, salt, 16384, 8, 1)
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::server::Server;

/// A bucket that a test writes.
#[derive(Debug, Clone)]
pub struct CoreBucket {
    /// Everything in it, by key.
    pub objects: BTreeMap<String, Vec<u8>>,
    prefix: String,
    passphrase: Option<String>,
}

impl CoreBucket {
    /// An empty one. With a passphrase, what is put in is sealed.
    pub fn new(prefix: &str, passphrase: Option<&str>) -> Self {
        let passphrase = passphrase.map(str::to_owned);
        Self { objects: BTreeMap::new(), prefix: prefix.to_owned(), passphrase }
    }

    /// `encrypt` is switched on or off from here on.
    pub fn encrypt(&mut self, passphrase: Option<&str>) {
        self.passphrase = passphrase.map(str::to_owned);
    }

    /// A snapshot made at `time` (ISO 8601 with milliseconds) with all of its files; returns its name, without
    /// the prefix.
    pub fn snapshot(&mut self, time: &str, files: &[(&str, &[u8])]) -> String {
        let name = stamp(time);
        self.fill(&name, time, files);
        name
    }

    /// The same with the files in `changed` only: before 0.3.0 others were not carried over.
    pub fn snapshot_of_changes(
        &mut self,
        time: &str,
        files: &[(&str, &[u8])],
        changed: &[&str],
    ) -> String {
        let name = self.snapshot(time, files);
        for (path, _) in files.iter().filter(|(path, _)| !changed.contains(path)) {
            self.objects.remove(&self.key(&name, path));
        }
        name
    }

    /// A safety snapshot.
    pub fn safety(&mut self, time: &str, files: &[(&str, &[u8])]) -> String {
        let seconds = format!("{}Z", time.split('.').next().unwrap_or_default());
        let name = format!("safety-{}/{}", stamp(&seconds), stamp(time));
        self.fill(&name, time, files);
        name
    }

    fn fill(&mut self, name: &str, time: &str, files: &[(&str, &[u8])]) {
        for (path, content) in files {
            self.put(name, path, content);
        }
        let manifest = manifest(time, files);
        self.put(name, "manifest.json", manifest.as_bytes());
    }

    /// Puts one object of a snapshot, sealed or plain as the bucket is.
    pub fn put(&mut self, name: &str, path: &str, content: &[u8]) {
        let key = self.key(name, path);
        let bytes = match &self.passphrase {
            Some(passphrase) => seal(content, passphrase, &key),
            None => content.to_vec(),
        };
        self.objects.insert(key, bytes);
    }

    /// Key of one object of a snapshot.
    pub fn key(&self, name: &str, path: &str) -> String {
        let parts = [self.prefix.as_str(), name, path];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// An object, to be changed.
    #[track_caller]
    pub fn object(&mut self, name: &str, path: &str) -> &mut Vec<u8> {
        let key = self.key(name, path);
        self.objects.get_mut(&key).expect("the object is there")
    }

    /// Writes it as files below a directory.
    pub fn write_to(&self, dir: &Path) {
        for (key, bytes) in &self.objects {
            let path = dir.join(key);
            std::fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
    }

    /// Puts it into a server's bucket.
    pub fn plant(&self, server: &Server) {
        for (key, bytes) in &self.objects {
            server.plant(key, bytes);
        }
    }
}

/// The name of a snapshot of this time.
fn stamp(time: &str) -> String {
    time.replace([':', '.'], "-")
}

/// A manifest as `JSON.stringify(manifest, null, 2)` writes it.
pub fn manifest(time: &str, files: &[(&str, &[u8])]) -> String {
    let mut text = format!("{{\n  \"version\": 1,\n  \"timestamp\": \"{time}\",\n  \"files\": {{");
    for (number, (path, content)) in files.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let hash = HEXLOWER.encode(&Sha256::digest(content));
        let path = json_text(path);
        let _ = write!(
            text,
            "{comma}\n    {path}: {{\n      \"hash\": \"{hash}\",\n      \"size\": {}\n    }}",
            content.len()
        );
    }
    text.push_str("\n  }\n}");
    text
}

fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Seals bytes; salt and iv come of `salt`, so that a test is the same every time.
pub fn seal(content: &[u8], passphrase: &str, salt: &str) -> Vec<u8> {
    let random = Sha256::digest(salt.as_bytes());
    let iv = Sha256::digest(random);
    let params = scrypt::Params::new(14, 8, 1).expect("valid");
    let mut key = [0; 32];
    scrypt::scrypt(passphrase.as_bytes(), &random, &params, &mut key).expect("valid");
    let nonce = Nonce::try_from(&iv[..12]).expect("twelve bytes");
    let mut sealed = content.to_vec();
    let cipher = Aes256Gcm::new_from_slice(&key).expect("32 bytes");
    let tag = cipher.encrypt_inout_detached(&nonce, b"", sealed.as_mut_slice().into());
    let tag = tag.expect("short enough");
    [b"B2EN", &random[..], &iv[..12], tag.as_slice(), &sealed].concat()
}
