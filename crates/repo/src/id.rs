//! Ids: one type per kind of id, so that the compiler keeps them apart.

use std::fmt;

use data_encoding::HEXLOWER;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// From exactly `LEN` bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Lower-case hexadecimal.
            pub fn hex(&self) -> String {
                HEXLOWER.encode(&self.0)
            }

            /// From lower-case hexadecimal of the full length.
            pub fn from_hex(text: &str) -> Option<Self> {
                Self::from_slice(&HEXLOWER.decode(text.as_bytes()).ok()?)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.hex()[..8])
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let at = d.position();
                Self::from_slice(d.bytes()?).ok_or_else(|| {
                    minicbor::decode::Error::message(concat!("wrong length of ", stringify!($name)))
                        .at(at)
                })
            }
        }
    };
}

id_type!(
    /// Id of a repository: random, made at `init`, bound into every sealed object.
    RepoId,
    16
);
id_type!(
    /// Id of an operation (one push, gc or pinned read) and of the snapshot it may commit: random.
    OpId,
    16
);
id_type!(
    /// Id of a chunk: keyed BLAKE3 of its plaintext, cut to 128 bits. Only in chunk tables.
    ChunkId,
    16
);
id_type!(
    /// Id of a block: keyed BLAKE3 of its plaintext and type, 256 bits.
    BlockId,
    32
);
id_type!(
    /// Id of a machine: random, made at its first push and kept in its state directory.
    MachineId,
    16
);
id_type!(
    /// Id of a key slot: random.
    SlotId,
    16
);

impl OpId {
    /// A fresh id from the operating system's random numbers.
    pub fn random() -> Self {
        Self(crate::random::bytes())
    }
}

/// Name of a pack: the operation that wrote it and a counter. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId {
    /// The operation that wrote it: the owner of its index entries.
    pub op: OpId,
    /// Counts the packs of the operation from 0.
    pub n: u32,
}

impl PackId {
    /// Object name in the store.
    pub fn object_name(&self) -> String {
        format!("packs/{}-{}", self.op, self.n)
    }

    /// From an object name.
    pub fn from_object_name(name: &str) -> Option<Self> {
        let (op, n) = name.strip_prefix("packs/")?.split_once('-')?;
        let id = Self { op: OpId::from_hex(op)?, n: n.parse().ok()? };
        (id.object_name() == name).then_some(id)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object_name())
    }
}
