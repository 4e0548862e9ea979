//! The probe: is there anything to do? A scan against the cache that writes nothing.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use repo::keys::BlockKind;
use repo::{BlockId, PushStats, TreeBuilder};

use super::rows::Rows;
use super::run::{Companions, Decide, decide, has_ruled_rows, is_bare_root, part_names};
use super::{PushOptions, PushRoot};
use crate::error::Result;
use crate::monitor::{Monitor, Problem, Progress};
use crate::scan::{self, Owners, ScanRoot};
use crate::session::Session;

/// What a probe that found every file unchanged knows.
pub(super) struct Probed {
    /// Id of the tree as it is now.
    pub(super) tree: BlockId,
    pub(super) stats: PushStats,
}

/// `None` if some file must be read.
pub(super) fn probe(
    session: &Session,
    roots: &[PushRoot],
    options: &PushOptions,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Option<Probed>> {
    if session.cache.is_none() {
        return Ok(None);
    }
    let keys = session.repo.keys();
    let scan_roots: Vec<ScanRoot> = roots.iter().map(|r| r.scan.clone()).collect();
    let mut tree = TreeBuilder::new(keys.tree_key());
    let mut sink = |plain: Vec<u8>| Ok(keys.block_id(BlockKind::Node, &plain));
    let (mut clean, mut failed, mut problems) = (true, None, Vec::new());
    let mut progress = Progress::default();
    let marking = options.marking(session);
    std::thread::scope(|scope| -> Result<()> {
        let mut rows = Rows::start(scope, session, false);
        let mut owners = Owners::new();
        let companions = RefCell::new(Companions::default());
        scan::scan(
            &scan_roots,
            &options.scan,
            cancel,
            &mut |mut found| {
                part_names(&mut found, &scan_roots);
                let mut companions = companions.borrow_mut();
                if companions.is_left_out(&found)
                    || has_ruled_rows(&found, &scan_roots)
                    || is_bare_root(&found, &scan_roots)
                {
                    return ControlFlow::Continue(());
                }
                let row = rows.find(&found.path);
                let entry = match decide(&found, row, &scan_roots, marking.as_deref(), &mut owners)
                {
                    Decide::Ready(entry) => *entry,
                    Decide::Same(row) => row.entry,
                    Decide::Read(_) => {
                        clean = false;
                        return ControlFlow::Break(());
                    }
                };
                companions.note(&found.path, entry.flags);
                progress.files_found += 1;
                progress.bytes_found += entry.size;
                (progress.files_done, progress.bytes_done) =
                    (progress.files_found, progress.bytes_found);
                if progress.files_found.is_multiple_of(4096) {
                    monitor.progress(&progress);
                }
                match tree.push(&found.path, &entry, &mut sink) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(e) => {
                        failed = Some(e);
                        ControlFlow::Break(())
                    }
                }
            },
            &mut |problem| {
                if !companions.borrow().expects(&problem) {
                    problems.push(problem);
                }
            },
        )?;
        Ok(())
    })?;
    if let Some(e) = failed {
        return Err(e.into());
    }
    if !clean {
        return Ok(None);
    }
    progress.scanned = true;
    monitor.progress(&progress);
    let mut stats = PushStats::default();
    for problem in &problems {
        stats.problems += u64::from(!problem.is_notice());
        monitor.problem(&Problem {
            path: problem.path.clone(),
            what: problem.to_string(),
            notice: problem.is_notice(),
        });
    }
    let root = tree.finish(&mut sink)?;
    (stats.entries, stats.bytes) = (root.entries, root.bytes);
    Ok(Some(Probed { tree: root.id, stats }))
}
