//! Names that copies of a file usually have: an editor's, a user's, an agent's before it writes.
//!
//! A copy of a file with secrets has the secrets, and no list of an adapter names all that people do.

/// What comes behind the name of the file.
const MARKS: [&[u8]; 8] =
    [b".bak", b".backup", b".old", b".orig", b".save", b".tmp", b".temp", b".copy"];

/// The path of which this is a copy by its name, if it is one.
pub(crate) fn original(rel: &[u8]) -> Option<Vec<u8>> {
    let at = rel.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (dir, name) = rel.split_at(at);
    let of = of_name(name)?;
    (!of.is_empty()).then(|| [dir, of].concat())
}

fn of_name(name: &[u8]) -> Option<&[u8]> {
    // vim: .settings.json.swp, and .swo, .swn for further ones
    if let Some(of) = name.strip_prefix(b".")
        && let [of @ .., b'.', b's', b'w', b'a'..=b'z'] = of
    {
        return Some(of);
    }
    if let Some(of) = name.strip_suffix(b"~") {
        return Some(of);
    }
    // emacs: #settings.json#
    if let [b'#', of @ .., b'#'] = name {
        return Some(of);
    }
    // settings.json.bak, settings.json.bak2, settings.json.tmp.1234, but not settings.json.tmpl
    let ends = |rest: &[u8]| !rest.first().is_some_and(u8::is_ascii_alphabetic);
    let marked = |mark: &[u8]| {
        let found = name.windows(mark.len()).position(|part| part == mark);
        found.filter(|at| ends(&name[at + mark.len()..]))
    };
    if let Some(at) = MARKS.into_iter().filter_map(marked).min() {
        return Some(&name[..at]);
    }
    // settings.json.1, settings.json.20261128
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    name[..name.len() - digits].strip_suffix(b".").filter(|_| digits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_known_by_their_names_and_other_files_are_none() {
        for copy in [
            "s.json.bak",
            "s.json~",
            "s.json.old",
            "s.json.orig",
            "s.json.2026",
            "s.json.bak.3",
            "s.json.bak2",
            "s.json.tmp.123",
            "s.json.backup-2026",
            ".s.json.swp",
            "#s.json#",
            "s.json.save",
            "s.json.temp",
        ] {
            assert_eq!(original(copy.as_bytes()).as_deref(), Some(&b"s.json"[..]), "{copy}");
            let below = format!("a.bak/b/{copy}");
            assert_eq!(
                original(below.as_bytes()).as_deref(),
                Some(&b"a.bak/b/s.json"[..]),
                "{below}"
            );
        }
        let others = [
            "s.json",
            "s.json.tmpl",
            "a.bak/s.json",
            ".bak",
            "~",
            "2026",
            "s.backups",
            "s.oldest",
            "",
            ".swp",
            ".1",
        ];
        for other in others {
            assert_eq!(original(other.as_bytes()), None, "{other}");
        }
    }
}
