//! An adapter's rules as a scan asks them.

use std::sync::Arc;

use adapters::{Decision, FieldRules, RowRule, Rules};

use super::{Filter, Verdict};

impl Filter for Rules {
    fn decide(&self, rel: &[u8], is_dir: bool) -> Verdict {
        match Rules::decide(self, rel, is_dir) {
            Decision::Include => Verdict::Include,
            Decision::IncludeSqlite => Verdict::Sqlite,
            Decision::Walk => Verdict::Walk,
            Decision::Exclude | Decision::ExcludeSecret | Decision::PruneDir => Verdict::Skip,
        }
    }

    fn max_file_size(&self) -> Option<u64> {
        Rules::max_file_size(self)
    }

    fn group(&self, rel: &[u8]) -> Option<&str> {
        Rules::group(self, rel)
    }

    fn leads_to_group(&self, rel: &[u8]) -> bool {
        Rules::leads_to_group(self, rel)
    }

    fn volatile(&self, rel: &[u8]) -> bool {
        Rules::volatile(self, rel)
    }

    fn row_rules(&self, rel: &[u8]) -> Vec<Arc<RowRule>> {
        self.rows(rel)
    }

    fn field_rules(&self, rel: &[u8]) -> Option<FieldRules> {
        self.fields(rel)
    }
}
