//! A database is checked by SQLite before it takes the place of what is there.
//!
//! In: a database whose content is right by its hash, under its temporary name. Out: whether it may
//! have its own. The hash tells that it is what was stored; whether that was sound, only SQLite can
//! tell. Rules:
//!
//! | | sound | damaged |
//! |---|---|---|
//! | nothing is there | not looked at; with `verify` it is | restored; with `verify` told |
//! | something is there | replaced | stays, unless `Overwrite::Always` |
//!
//! A database that was found damaged when it was stored is in the second column before it is fetched
//! ([`refusal`]). One that SQLite cannot check, as it needs functions of its owner, is replaced and
//! that is told.

use repo::{Entry, flag};

use super::apply::Run;
use super::error::show;
use super::file::Failed;
use super::plan::{Action, Item};
use super::target::Temp;
use super::{Options, Overwrite};
use crate::capture::health::{Health, integrity};

/// What to do about a damaged database.
const ELSEWHERE: &str = "what was there stays; to get it elsewhere: pull --to DIR; to replace what is \
                         there all the same: --overwrite always";

/// Why an entry may not replace the different file that is there, if it is known beforehand.
pub(super) fn refusal(entry: &Entry, options: &Options) -> Option<String> {
    let damaged = flag::SQLITE | flag::SQLITE_DAMAGED;
    let refused = entry.flags & damaged == damaged && options.overwrite != Overwrite::Always;
    refused.then(|| format!("this database was damaged when it was stored; {ELSEWHERE}"))
}

/// Checks a file that is whole, if it is a database and that is asked for.
pub(super) fn check(run: &Run<'_>, item: &Item, temp: &Temp) -> Result<(), Failed> {
    let replaces = item.action != Action::Create;
    if !item.has_flag(run.items, flag::SQLITE) || !(replaces || run.options.verify) {
        return Ok(());
    }
    let health = match temp.path() {
        Ok(path) => integrity(&path, &|| run.is_over()),
        Err(_) => Health::Unknown,
    };
    let found = match health {
        Health::Ok => return Ok(()),
        Health::Unknown if run.is_over() => return Err(Failed::Over),
        Health::Unknown => {
            let what = "a database: SQLite could not check it; its content is what was stored";
            run.notice(item, what.into());
            return Ok(());
        }
        Health::Damaged(messages) => show(messages.join("; ").as_bytes()),
    };
    if !replaces {
        run.problem(
            item,
            format!("restored as it was stored, but SQLite finds it damaged: {found}"),
        );
    } else if run.options.overwrite == Overwrite::Always {
        run.notice(item, format!("replaced, though SQLite finds it damaged: {found}"));
    } else {
        return Err(Failed::Content(format!("SQLite finds it damaged: {found}; {ELSEWHERE}")));
    }
    Ok(())
}
