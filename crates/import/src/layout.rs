//! From keys to snapshots. Pure: a listing in, snapshots out.

use std::collections::BTreeMap;

use store::Object;

/// Name of a manifest in its snapshot.
const MANIFEST: &str = "manifest.json";
/// How the directory of a safety snapshot begins.
const SAFETY: &str = "safety-";

/// A snapshot as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What the keys of its objects begin with, before a slash: also its name.
    pub name: String,
    /// What stands before it: the old configuration's prefix, or what is left of it. May be empty.
    pub prefix: String,
    /// It was made before a restore.
    pub safety: bool,
}

impl Listed {
    /// Key of its manifest.
    pub(crate) fn manifest(&self) -> String {
        self.key(MANIFEST)
    }

    /// Key of one of its files.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("{}/{path}", self.name)
    }

    /// The time in its name, without what makes it unique.
    pub(crate) fn stamp(&self) -> &str {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        last.split_inclusive('Z').next().unwrap_or_default()
    }
}

/// A bucket's objects, and the snapshots they make up.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Lengths by key.
    pub(crate) objects: BTreeMap<String, u64>,
    /// With a manifest, by time.
    pub(crate) whole: Vec<Listed>,
    /// Without one: their push did not finish. By time.
    pub(crate) unfinished: Vec<Listed>,
}

impl Layout {
    pub(crate) fn new(objects: Vec<Object>) -> Self {
        let mut met = BTreeMap::<String, Listed>::new();
        for object in &objects {
            if let Some(listed) = place(&object.key) {
                met.entry(listed.name.clone()).or_insert(listed);
            }
        }
        let objects: BTreeMap<String, u64> =
            objects.into_iter().map(|object| (object.key, object.size)).collect();
        let mut all: Vec<Listed> = met.into_values().collect();
        all.sort_by(|a, b| (a.stamp(), &a.name).cmp(&(b.stamp(), &b.name)));
        let (whole, unfinished) =
            all.into_iter().partition(|one| objects.contains_key(&one.manifest()));
        Self { objects, whole, unfinished }
    }
}

/// The snapshot an object belongs to. The first part of a key that is a stamp says it: what comes
/// after that is a file's path and may hold anything.
fn place(key: &str) -> Option<Listed> {
    let mut begin = 0;
    let mut before: Option<(usize, &str)> = None;
    for part in key.split('/') {
        let end = begin + part.len();
        if is_stamp(part) && end < key.len() {
            let safety = before.filter(|(_, part)| part.starts_with(SAFETY));
            let prefix = &key[..safety.map_or(begin, |(begin, _)| begin)];
            return Some(Listed {
                name: key[..end].to_owned(),
                prefix: prefix.trim_end_matches('/').to_owned(),
                safety: safety.is_some(),
            });
        }
        before = Some((begin, part));
        begin = end + 1;
    }
    None
}

/// `2026-11-22T08-45-49Z`, `2026-11-22T08-45-49-754Z`, either with `-` and eight hexadecimal digits.
fn is_stamp(part: &str) -> bool {
    let Some((time, more)) = part.split_once('Z') else { return false };
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let Some((day, hour)) = time.split_once('T') else { return false };
    let day: Vec<&str> = day.split('-').collect();
    let hour: Vec<&str> = hour.split('-').collect();
    let unique = more.strip_prefix('-').is_some_and(|hex| {
        hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    (more.is_empty() || unique)
        && matches!(day[..], [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2))
        && (3..=4).contains(&hour.len())
        && hour[..3].iter().all(|part| digits(part, 2))
        && hour.get(3).is_none_or(|fraction| (1..=9).any(|count| digits(fraction, count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(key: &str) -> (String, String, bool) {
        let one = place(key).unwrap_or_else(|| panic!("{key}"));
        (one.name, one.prefix, one.safety)
    }

    fn of(name: &str, prefix: &str, safety: bool) -> (String, String, bool) {
        (name.to_owned(), prefix.to_owned(), safety)
    }

    #[test]
    fn a_key_says_which_snapshot_it_belongs_to() {
        let stamp = "2026-11-22T08-45-49-754Z";
        assert_eq!(
            listed(&format!("p/{stamp}/manifest.json")),
            of(&format!("p/{stamp}"), "p", false)
        );
        assert_eq!(listed(&format!("{stamp}/a/b")), of(stamp, "", false));
        let name = format!("a/b/safety-2026-11-22T08-45-50Z/{stamp}");
        assert_eq!(listed(&format!("{name}/x")), of(&name, "a/b", true));
        let name = format!("safety-x/{stamp}-0123abcd");
        assert_eq!(listed(&format!("{name}/x")), of(&name, "", true));
        assert_eq!(place(&format!("{name}/x")).unwrap().stamp(), stamp);
        // the directory of a prefix that ends with a slash
        assert_eq!(listed(&format!("p//{stamp}/x")), of(&format!("p//{stamp}"), "p", false));
    }

    #[test]
    fn a_stamp_inside_of_a_snapshot_is_part_of_a_files_path() {
        let key = "p/2026-11-22T08-45-49Z/home/2025-01-01T00-00-00Z/manifest.json";
        assert_eq!(listed(key), of("p/2026-11-22T08-45-49Z", "p", false));
    }

    #[test]
    fn what_is_no_snapshot_is_none() {
        for key in [
            "manifest.json",
            "p/manifest.json",
            "2026-11-22T08-45-49Z",
            "p/2026-11-22/x",
            "p/2026-11-22T08:45:49Z/x",
            "p/2026-11-22T08-45-49Z-0123ABCD/x",
            "p/2026-11-22T08-45-49Z-0123abc/x",
            "p/2026-11-22T08-45-49Zx/x",
            "p/x2026-11-22T08-45-49Z/x",
            "p/2026-11-22T08-45Z/x",
            "p/2026-11-22T08-45-49-Z/x",
            "snap/0123456789abcdef",
        ] {
            assert_eq!(place(key), None, "{key}");
        }
    }

    #[test]
    fn snapshots_come_by_time_and_those_without_a_manifest_apart() {
        let object = |key: &str| Object { key: key.to_owned(), size: 1 };
        let layout = Layout::new(vec![
            object("b/2026-01-02T00-00-00Z/manifest.json"),
            object("a/2026-01-03T00-00-00Z/manifest.json"),
            object("a/2026-01-04T00-00-00Z/home/x"),
            object("a/safety-2026-01-01T00-00-00Z/2026-01-01T00-00-00Z/manifest.json"),
            object("other"),
        ]);
        let names = |all: &[Listed]| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&layout.whole),
            [
                "a/safety-2026-01-01T00-00-00Z/2026-01-01T00-00-00Z",
                "b/2026-01-02T00-00-00Z",
                "a/2026-01-03T00-00-00Z"
            ]
        );
        assert_eq!(names(&layout.unfinished), ["a/2026-01-04T00-00-00Z"]);
        assert_eq!(layout.objects.len(), 5);
    }
}
