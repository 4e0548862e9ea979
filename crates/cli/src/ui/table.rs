//! Tables: columns as wide as their widest cell, two spaces between, the last one ragged.

/// Which side a column's cells keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of text under a heading. Cells must be safe to show.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for every column");
        self.rows.push(cells);
    }

    /// The lines, heading first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let heading: Vec<String> =
            self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows: Vec<&Vec<String>> = std::iter::once(&heading).chain(&self.rows).collect();
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &&Vec<String>| {
            let mut out = String::new();
            for (at, cell) in row.iter().enumerate() {
                let fill = " ".repeat(widths[at] - cell.chars().count());
                let gap = if at == 0 { "" } else { "  " };
                out.push_str(gap);
                match self.columns[at].1 {
                    Align::Left => out.extend([cell.as_str(), fill.as_str()]),
                    Align::Right => out.extend([fill.as_str(), cell.as_str()]),
                }
            }
            out.truncate(out.trim_end().len());
            out
        };
        rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table =
            Table::new(&[("ID", Align::Left), ("SIZE", Align::Right), ("NAME", Align::Left)]);
        table.row(vec!["1".into(), "10 B".into(), "a".into()]);
        table.row(vec!["\u{e9}\u{e9}\u{e9}".into(), "1.0 KiB".into(), String::new()]);
        assert_eq!(
            table.lines(),
            ["ID      SIZE  NAME", "1       10 B  a", "\u{e9}\u{e9}\u{e9}  1.0 KiB"]
        );
    }
}
