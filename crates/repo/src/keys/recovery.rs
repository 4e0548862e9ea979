//! The recovery code: a random secret to write on paper, a slot secret of its own.
//!
//! ```text
//! 32 characters   160 random bits in Crockford's base32 (no I, L, O, U)
//!  4 characters   check: the first 20 bits of BLAKE3 derive_key(check context, the 160 bits)
//! ```
//! Shown in groups of four with dashes. Reading forgives case, spaces, dashes, O for 0, and I or L
//! for 1. The check finds a typo at once, before scrypt runs.

use std::fmt;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, Result};

const SECRET_BYTES: usize = 20;
const SECRET_CHARS: usize = 32;
const CHECK_CHARS: usize = 4;
const GROUP_CHARS: usize = 4;
const CHECK_CONTEXT: &str = "agent-backup 1 recovery code check";

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    spec.encoding().expect("32 different symbols")
});

/// A recovery code: 160 random bits. Wiped when dropped, printed only by [`RecoveryCode::reveal`].
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; SECRET_BYTES]);

impl RecoveryCode {
    /// A fresh code.
    pub fn random() -> Self {
        Self(crate::random::bytes())
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret that opens the slot.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The code as people write it: nine groups of four characters.
    pub fn reveal(&self) -> Zeroizing<String> {
        // sized first: a string that grows leaves a copy behind
        let mut plain = Zeroizing::new(String::with_capacity(SECRET_CHARS + CHECK_CHARS));
        BASE32.encode_append(&self.0, &mut plain);
        plain.push_str(&self.check());
        let mut out = Zeroizing::new(String::with_capacity(plain.len() * 5 / 4));
        for (at, symbol) in plain.chars().enumerate() {
            if at > 0 && at % GROUP_CHARS == 0 {
                out.push('-');
            }
            out.push(symbol);
        }
        out
    }

    /// Reads what a person typed. [`Error::WrongKey`] says what is wrong with it.
    pub fn parse(typed: &str) -> Result<Self> {
        let wrong = |detail: String| Error::WrongKey { detail };
        let mut symbols = Zeroizing::new(String::with_capacity(typed.len()));
        for symbol in typed.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            symbols.push(match symbol.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                c if c.is_ascii_alphanumeric() && c != 'U' => c,
                _ => {
                    let at = symbols.len() + 1;
                    return Err(wrong(format!("character {at} is not one of a recovery code")));
                }
            });
        }
        if symbols.len() != SECRET_CHARS + CHECK_CHARS {
            return Err(wrong(format!(
                "a recovery code has {} characters, this one has {}",
                SECRET_CHARS + CHECK_CHARS,
                symbols.len()
            )));
        }
        let (secret, check) = symbols.split_at(SECRET_CHARS);
        let mut code = Self([0; SECRET_BYTES]);
        BASE32
            .decode_mut(secret.as_bytes(), &mut code.0)
            .map_err(|_| wrong("not a recovery code".to_owned()))?;
        if code.check() == check {
            Ok(code)
        } else {
            Err(wrong("the recovery code has a typo: its check does not match".to_owned()))
        }
    }

    /// What is wrong with a secret that is about as long as a recovery code and made of the same
    /// characters, and is none: for whoever mistyped one.
    pub(crate) fn mistake(typed: &str) -> Option<String> {
        let mut symbols = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
        let length = symbols.clone().count();
        let all = SECRET_CHARS + CHECK_CHARS;
        let is_near = length.abs_diff(all) <= GROUP_CHARS;
        if !is_near || !symbols.all(|c| c.is_ascii_alphanumeric()) {
            return None;
        }
        match Self::parse(typed) {
            Err(Error::WrongKey { detail }) => Some(detail),
            _ => None,
        }
    }

    fn check(&self) -> String {
        let hash = blake3::derive_key(CHECK_CONTEXT, &self.0);
        let mut text = BASE32.encode(&hash[..5]);
        text.truncate(CHECK_CHARS);
        text
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(..)")
    }
}
