//! The tables of an adapter file, with typed access to their keys.
//!
//! In: a TOML table with the places of its parts. Out: values, or an error that names file, line and key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::AdapterError;

#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) text: &'a str,
    pub(super) origin: &'a str,
}

impl File<'_> {
    pub(super) fn error(
        self,
        at: Range<usize>,
        key: &str,
        what: impl Into<String>,
    ) -> AdapterError {
        AdapterError::Invalid {
            origin: self.origin.to_owned(),
            line: 1 + self.text.get(..at.start).unwrap_or_default().matches('\n').count(),
            key: key.to_owned(),
            what: what.into(),
        }
    }
}

/// A table of the file, with typed access to its keys.
pub(super) struct Table<'a> {
    pub(super) file: File<'a>,
    pub(super) keys: &'a DeTable<'a>,
    pub(super) at: Range<usize>,
    pub(super) prefix: &'static str,
}

pub(super) type Found<T> = (T, Range<usize>);

impl<'a> Table<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.keys.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn error(
        &self,
        at: Range<usize>,
        key: &str,
        what: impl Into<String>,
    ) -> AdapterError {
        self.file.error(at, &format!("{}{key}", self.prefix), what)
    }

    pub(super) fn error_at(&self, key: &str, what: impl Into<String>) -> AdapterError {
        let at = self.get(key).map_or(self.at.clone(), Spanned::span);
        self.error(at, key, what)
    }

    pub(super) fn missing(&self, key: &str, what: &str) -> AdapterError {
        self.error(self.at.clone(), key, format!("is missing: {what}"))
    }

    /// Refuses keys that are not known, the first in the file first.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), AdapterError> {
        let unknown = |key: &&Spanned<_>| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            !known.contains(&name.as_ref())
        };
        match self.keys.keys().filter(unknown).min_by_key(|key| key.span().start) {
            None => Ok(()),
            Some(key) => {
                let what = format!("unknown key; known here: {}", known.join(", "));
                Err(self.error(key.span(), key.get_ref(), what))
            }
        }
    }

    pub(super) fn not_with(&self, key: &str, others: &[&str]) -> Result<(), AdapterError> {
        match others.iter().find(|other| self.has(other)) {
            None => Ok(()),
            Some(other) => Err(self.error_at(other, format!("does not go together with {key}"))),
        }
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<String>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.error(value.span(), key, "must be a string")),
        }
    }

    pub(super) fn required(&self, key: &str, why: &str) -> Result<String, AdapterError> {
        self.string(key)?.filter(|text| !text.is_empty()).ok_or_else(|| self.missing(key, why))
    }

    /// An id or label.
    pub(super) fn name(&self, key: &str) -> Result<String, AdapterError> {
        let name = self.required(key, "a short name of a-z, 0-9, '.', '_' and '-'")?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if name.starts_with(['.', '-']) || !name.chars().all(plain) {
            let what = format!(
                "'{name}' may have only a-z, 0-9, '.', '_' and '-', and no '.' or '-' first"
            );
            return Err(self.error_at(key, what));
        }
        Ok(name)
    }

    /// A list of strings; a single string is a list of one.
    pub(super) fn strings(&self, key: &str) -> Result<Vec<Found<String>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        if let Some(text) = value.get_ref().as_str() {
            return Ok(vec![(text.to_owned(), value.span())]);
        }
        let wrong = |at| self.error(at, key, "must be a string or a list of strings");
        let items = value.get_ref().as_array().ok_or_else(|| wrong(value.span()))?;
        let text = |item: &Spanned<DeValue<'_>>| match item.get_ref().as_str() {
            Some(text) => Ok((text.to_owned(), item.span())),
            None => Err(wrong(item.span())),
        };
        items.iter().map(text).collect()
    }

    pub(super) fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, AdapterError> {
        let one = |(text, at): Found<String>| parse(&text).map_err(|e| self.error(at, key, e));
        self.strings(key)?.into_iter().map(one).collect()
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(false) };
        let wrong = || self.error(value.span(), key, "must be true or false");
        value.get_ref().as_bool().ok_or_else(wrong)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, AdapterError> {
        let Some(said) = self.string(key)? else { return Ok(None) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == said) {
            return Ok(Some(*meaning));
        }
        let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(self.error_at(key, format!("'{said}' is not one of {}", list.join(", "))))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<Found<u64>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        match number {
            Some(number) => Ok(Some((number, value.span()))),
            None => Err(self.error(value.span(), key, "must be a whole number")),
        }
    }

    /// A size: a number of bytes, or a string such as `"4 GiB"`.
    pub(super) fn bytes(&self, key: &str) -> Result<Option<u64>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(text) = value.get_ref().as_str() else {
            return Ok(self.number(key)?.map(|(bytes, _)| bytes));
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim() {
            "B" => Some(1_u64),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "TiB" => Some(1 << 40),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
        let wrong =
            || self.error(value.span(), key, format!("'{text}' is not a size such as \"4 GiB\""));
        bytes.map(Some).ok_or_else(wrong)
    }

    pub(super) fn tables(
        &self,
        key: &str,
        prefix: &'static str,
        what: &str,
    ) -> Result<Vec<Table<'a>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = |at| self.error(at, key, what);
        let items = value.get_ref().as_array().ok_or_else(|| wrong(value.span()))?;
        let table = |item: &'a Spanned<DeValue<'a>>| {
            let keys = item.get_ref().as_table().ok_or_else(|| wrong(item.span()))?;
            Ok(Table { file: self.file, keys, at: item.span(), prefix })
        };
        items.iter().map(table).collect()
    }

    pub(super) fn table(
        &self,
        key: &str,
        prefix: &'static str,
    ) -> Result<Option<Table<'a>>, AdapterError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.error(value.span(), key, "must be a table: { column = \"name\", ... }");
        let keys = value.get_ref().as_table().ok_or_else(wrong)?;
        Ok(Some(Table { file: self.file, keys, at: value.span(), prefix }))
    }
}
