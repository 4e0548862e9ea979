//! The other repository: the one that is copied to, or mended from.
//!
//! It is reached and opened as ours is, unless variables `AGENT_BACKUP_OTHER_...` say something
//! else (a place that another program wrote never gets the passphrase of ours): `PASSWORD`, `PASSWORD_FILE`, `PASSWORD_COMMAND`, `KEY_ID`, `SECRET_KEY`, `REGION`,
//! `ENDPOINT`. Region and endpoint of ours are never those of another storage.

use std::ffi::OsString;

use super::environment::Environment;
use super::secret::Source;
use super::{Password, Result, Settings};
use crate::args::Global;

const PREFIX: &str = "AGENT_BACKUP_OTHER_";
const PASSWORDS: [&str; 3] = ["PASSWORD", "PASSWORD_FILE", "PASSWORD_COMMAND"];

impl Settings {
    /// Settings of the repository at `address`.
    pub(crate) fn other(flags: &Global, env: &Environment, address: &str) -> Result<Self> {
        let mut flags = Global { repo: Some(address.to_owned()), ..flags.clone() };
        let mut env = env.clone();
        let said =
            |name: &str, env: &Environment| env.vars.get(&format!("{PREFIX}{name}")).cloned();
        if PASSWORDS.iter().any(|name| said(name, &env).is_some()) {
            (flags.password_file, flags.password_command) = (None, None);
            for name in PASSWORDS {
                env.vars.remove(&format!("AGENT_BACKUP_{name}"));
            }
            env.vars.remove("B2_ENCRYPTION_KEY");
        }
        for name in ["REGION", "ENDPOINT"] {
            env.vars.remove(&format!("AGENT_BACKUP_{name}"));
        }
        let others: Vec<(String, OsString)> = env
            .vars
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix(PREFIX)?.to_owned(), value.clone()))
            })
            .collect();
        for (name, value) in others {
            env.vars.insert(format!("AGENT_BACKUP_{name}"), value);
        }
        let mut settings = Self::resolve(&flags, &env)?;
        for (name, value) in
            [("REGION", &mut settings.region), ("ENDPOINT", &mut settings.endpoint)]
        {
            if said(name, &env).is_none() {
                *value = None;
            }
        }
        Ok(settings)
    }

    /// Settings of a place that another program wrote. Its passphrase is what was given for it, what
    /// `AGENT_BACKUP_OTHER_PASSWORD...` say, or `B2_ENCRYPTION_KEY`, which that program reads itself.
    pub(crate) fn foreign(
        flags: &Global,
        env: &Environment,
        address: &str,
        given: Option<Source>,
    ) -> Result<Self> {
        let flags = Global { password_file: None, password_command: None, ..flags.clone() };
        let mut env = env.clone();
        for name in PASSWORDS {
            env.vars.remove(&format!("AGENT_BACKUP_{name}"));
        }
        let mut settings = Self::other(&flags, &env, address)?;
        let given = given.map(|source| Password { source, explicit: true });
        // that of the configuration file is ours
        settings.password = given.or(settings.password).filter(|password| password.explicit);
        Ok(settings)
    }
}
