//! Arguments of `service`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::service::Manager;

/// `service`
#[derive(Debug, Args)]
pub(crate) struct Service {
    /// What to do with the service.
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

/// What `service` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the file of the service and start it
    Install(InstallService),
    /// Stop the service and remove its file; backups stay
    Uninstall(Whose),
    /// Show how the service stands; code 1 if it does not run
    Status(Whose),
}

/// `service install`
#[derive(Debug, Args)]
pub(crate) struct InstallService {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Only print the file
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// The passphrase in a file that `systemd-creds encrypt --name=agent-backup-password` made
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) encrypted_password_file: Option<PathBuf>,
    /// The secret half of the storage key in a file that `systemd-creds encrypt
    /// --name=agent-backup-storage-key` made
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) encrypted_secret_key_file: Option<PathBuf>,
}

/// Which service.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// That of the whole machine: it starts at boot, whoever is logged in
    #[arg(long)]
    pub(crate) system: bool,
    /// Service manager; default: this system's
    #[arg(long, value_enum, value_name = "MANAGER")]
    pub(crate) manager: Option<Manager>,
}
