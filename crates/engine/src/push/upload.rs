//! Packs to the store, and the index objects that make them count.
//!
//! Invariant: an index object names only packs whose PUT was acknowledged; one is written at least
//! every [`repo::limits::PACKS_PER_INDEX`] packs, so a killed push loses no more than those.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use repo::limits::PACKS_PER_INDEX;
use repo::{Cache, Operation, PackTable, Repository};

use super::collect::Message;
use crate::clock::Clock;
use crate::error::Result;
use crate::session::Session;

/// A finished pack on its way.
pub(super) struct Pack {
    pub(super) table: PackTable,
    pub(super) object: Bytes,
}

/// What uploaders share.
pub(super) struct Uploads<'a> {
    pub(super) repo: &'a Repository,
    pub(super) op: &'a Operation<'a>,
    pub(super) clock: Arc<dyn Clock>,
    cache: Option<&'a Cache>,
    acknowledged: Mutex<Vec<PackTable>>,
    /// Bytes the store acknowledged.
    pub(super) bytes_stored: AtomicU64,
}

impl<'a> Uploads<'a> {
    pub(super) fn new(session: &'a Session, op: &'a Operation<'a>) -> Self {
        Self {
            repo: &session.repo,
            op,
            clock: session.clock.clone(),
            cache: session.cache.as_ref(),
            acknowledged: Mutex::new(Vec::new()),
            bytes_stored: AtomicU64::new(0),
        }
    }

    /// Uploads packs until there are no more. The first error goes to the collector and ends it.
    pub(super) fn run(&self, packs: &Receiver<Pack>, out: &Sender<Message>) {
        while let Ok(pack) = packs.recv() {
            if let Err(e) = self.upload(pack) {
                // a collector that is gone has failed already and says why
                drop(out.send(Message::Failed(e)));
                return;
            }
        }
    }

    fn upload(&self, pack: Pack) -> Result<()> {
        self.op.beat(self.clock.now_secs())?;
        self.repo.store().put(&pack.table.pack().object_name(), vec![pack.object])?;
        self.bytes_stored.fetch_add(pack.table.bytes, Ordering::Relaxed);
        let full = {
            let mut tables = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            tables.push(pack.table);
            (tables.len() >= PACKS_PER_INDEX).then(|| std::mem::take(&mut *tables))
        };
        full.map_or(Ok(()), |tables| self.put_index(tables))
    }

    fn put_index(&self, tables: Vec<PackTable>) -> Result<()> {
        let bytes = self.op.put_index(tables, self.cache)?;
        self.bytes_stored.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the index of the last packs; every uploader has ended.
    pub(super) fn finish(&self) -> Result<()> {
        let rest =
            std::mem::take(&mut *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
        if rest.is_empty() { Ok(()) } else { self.put_index(rest) }
    }
}
