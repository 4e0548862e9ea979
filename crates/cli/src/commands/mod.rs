//! One command per file: arguments and settings in, an exit code out.

mod agents;
mod cat;
mod completions;
mod copy;
mod daemon;
mod damaged;
mod diff;
mod doctor;
mod find;
mod forget;
mod gc;
mod grep;
mod import;
mod init;
mod key;
mod ls;
mod man;
mod named;
mod pin;
mod pull;
mod push;
mod repair;
mod roots;
mod scan;
mod service;
mod sessions;
mod snapshots;
mod stats;
mod status;
mod undelete;
mod verify;

use anyhow::Result;

use crate::args::{Args, Command, Global, Import, Push};
use crate::connect::{self, Connection, Wanted};
use crate::exit::Exit;
use crate::settings::secret::{How, Source};
use crate::settings::{Daemon, Environment, Settings};
use crate::signals::Signals;
use crate::ui::Screen;

/// What every command that needs settings gets.
pub(crate) struct Context<'a> {
    pub(crate) settings: Settings,
    pub(crate) signals: Signals,
    pub(crate) screen: &'a Screen,
    flags: &'a Global,
    env: &'a Environment,
}

impl Context<'_> {
    /// Opens the repository for work that may take long.
    fn open_patiently(&self) -> Result<Connection> {
        let cancel = self.signals.flag();
        let wanted = Wanted { patient: true, cancel, ..Wanted::default() };
        connect::open(&self.settings, wanted, self.screen)
    }

    /// What a daemon does, by the configuration and the environment.
    fn daemon(&self) -> Result<Daemon> {
        Ok(self.settings.daemon.clone().with_environment(self.env)?)
    }

    /// Settings of another repository.
    fn other(&self, address: &str) -> Result<Settings> {
        Ok(Settings::other(self.flags, self.env, address)?)
    }

    /// Settings of a place that another program wrote.
    fn foreign(&self, args: &Import) -> Result<Settings> {
        let Import { source_password_file, source_password_command, address, .. } = args;
        let given = match (source_password_file, source_password_command) {
            (Some(file), _) => Some(Source::new("--source-password-file", How::File(file.clone()))),
            (None, Some(command)) => {
                Some(Source::new("--source-password-command", How::Command(command.clone())))
            }
            (None, None) => None,
        };
        Ok(Settings::foreign(self.flags, self.env, address, given)?)
    }

    /// Opens another repository, for work that may take long.
    fn open_other(&self, other: &Settings, limit_upload: Option<u64>) -> Result<Connection> {
        let cancel = self.signals.flag();
        let wanted = Wanted { patient: true, limit_upload, cancel, ..Wanted::default() };
        connect::open(other, wanted, self.screen)
    }

    /// Opens the repository for somebody who waits.
    fn open(&self) -> Result<Connection> {
        let wanted = Wanted { cancel: self.signals.flag(), ..Wanted::default() };
        connect::open(&self.settings, wanted, self.screen)
    }
}

/// Runs the command that was asked for.
pub(crate) fn run(args: &Args, env: &Environment, screen: &Screen) -> Result<Exit> {
    match &args.command {
        Command::Completions(args) => return completions::run(args, &env.tool, screen),
        Command::Man(args) => return man::run(args, &env.tool, screen),
        // also where no settings can be made of what is there
        Command::Doctor(doctor) => return doctor::run(doctor, &args.global, env, screen),
        // what counts is what the service will see, not this shell
        Command::Service(service) => {
            return service::run(&service.command, &args.global, env, screen);
        }
        _ => {}
    }
    // a daemon hears of signals in its own way
    let is_daemon = matches!(args.command, Command::Daemon(_));
    let signals = if is_daemon { Signals::default() } else { Signals::install()? };
    let mut settings = Settings::resolve(&args.global, env)?;
    if let Command::Push(Push { host: Some(host), .. }) = &args.command {
        settings.machine.host.clone_from(host);
    }
    let context = Context { settings, signals, screen, flags: &args.global, env };
    match &args.command {
        Command::Init(args) => init::run(args, &context),
        Command::Push(args) => push::run(args, &context),
        Command::Pull(args) => pull::run(args, &context),
        Command::Snapshots(args) => snapshots::run(args, &context),
        Command::Sessions(args) => sessions::run(args, &context),
        Command::Ls(args) => ls::run(args, &context),
        Command::Cat(args) => cat::run(args, &context),
        Command::Find(args) => find::run(args, &context),
        Command::Grep(args) => grep::run(args, &context),
        Command::Diff(args) => diff::run(args, &context),
        Command::Stats => stats::run(&context),
        Command::Status(args) => status::run(args, &context),
        Command::Daemon(args) => daemon::run(args, &context),
        Command::Verify(args) => verify::run(args, &context),
        Command::Repair(args) => repair::run(args, &context),
        Command::Forget(args) => forget::run(args, &context),
        Command::Undelete(args) => undelete::run(args, &context),
        Command::Pin(args) => pin::run(args, &context),
        Command::Gc(args) => gc::run(args, &context),
        Command::Copy(args) => copy::run(args, &context),
        Command::Import(args) => import::run(args, &context),
        Command::Scan(args) => scan::run(args, &context),
        Command::Agents(args) => agents::run(args, &context),
        Command::Key(args) => key::run(args, &context),
        Command::Completions(_) | Command::Man(_) | Command::Doctor(_) | Command::Service(_) => {
            Ok(Exit::Done)
        }
    }
}
