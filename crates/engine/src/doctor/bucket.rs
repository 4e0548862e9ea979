//! What a bucket says of itself, judged: clock, region, rules that delete, what the key may do.

use std::time::Duration;

use jiff::Timestamp;
use store::{Inquiry, LifecycleRule, Told};

use super::Finding;

/// Amazon refuses requests whose clock is off by 15 minutes.
const SKEW_SECS_MAX: i64 = 300;
/// Without these a key cannot push (Backblaze's words).
const NEEDED: [&str; 3] = ["listFiles", "readFiles", "writeFiles"];
/// Storage classes from which nothing can be read at once.
const FROZEN: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Judges. `prefix` is where the repository's keys begin; `b2`: deletions only hide there.
/// `set_region` gives a command that puts the right region into the settings.
pub fn bucket(
    told: &Inquiry,
    now_secs: i64,
    (bucket, prefix): (&str, &str),
    b2: bool,
    set_region: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut found = vec![clock(told.date.as_deref(), now_secs)];
    found.push(match &told.region_set {
        Some(set) if *set != told.region => {
            let what = format!(
                "the settings say region {set}, and the bucket is in {}: each run asks twice",
                told.region
            );
            let finding = Finding::fault("region", what);
            match set_region(&told.region) {
                Some(command) => finding.mend(command),
                None => finding.hint(format!("set the region to {}", told.region)),
            }
        }
        _ => Finding::fine("region", format!("{} at {}", told.region, told.endpoint)),
    });
    lifecycle(&told.lifecycle, (bucket, prefix), b2, &mut found);
    found.push(match &told.object_lock {
        Told::Text(text) if text.contains("Enabled") => {
            let what = "Object Lock is on: what gc removes is really gone when its time is over";
            Finding::fine("object-lock", what)
        }
        Told::Text(_) | Told::Nothing => Finding::advice(
            "object-lock",
            "no Object Lock: whoever has a key that may delete can delete the backups for good",
        )
        .hint("use a key without deleteFiles for pushes, or a bucket with Object Lock"),
        Told::Unknown(why) => unknown("object-lock", "Object Lock", why),
    });
    match &told.versioning {
        Told::Text(text) if text.contains("Enabled") => {
            found.push(Finding::fine("versioning", "old versions are kept"));
        }
        Told::Text(_) | Told::Nothing => found.push(
            Finding::advice(
                "versioning",
                "no versions are kept: repair --undelete has nothing to look in",
            )
            .hint("switch versioning on, and let a lifecycle rule remove old versions"),
        ),
        Told::Unknown(why) => found.push(unknown("versioning", "versions", why)),
    }
    found.push(capabilities(told.capabilities.as_deref()));
    found
}

fn unknown(check: &'static str, what: &str, why: &str) -> Finding {
    Finding::unchecked(
        check,
        format!("{what}: not told by the storage, or not to this key ({why})"),
    )
}

fn clock(date: Option<&str>, now_secs: i64) -> Finding {
    let server = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(server) = server.map(|zoned| zoned.timestamp()) else {
        return Finding::unchecked("clock", "the storage did not say what time it is");
    };
    let ahead = now_secs - server.as_second();
    if ahead.abs() <= SKEW_SECS_MAX {
        return Finding::fine("clock", "the clock is that of the storage");
    }
    let by = Duration::from_secs(ahead.unsigned_abs()).as_secs() / 60;
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    let time = Timestamp::from_second(now_secs).map(|now| now.to_string()).unwrap_or_default();
    let what = format!("the clock of this machine ({time}) is {by} minutes {way} the storage's");
    Finding::fault("clock", what).mend("sudo timedatectl set-ntp true")
}

fn lifecycle(told: &Told, (bucket, prefix): (&str, &str), b2: bool, found: &mut Vec<Finding>) {
    let check = "lifecycle";
    let rules = match told {
        Told::Text(text) => match LifecycleRule::parse(text) {
            Ok(rules) => rules,
            Err(e) => {
                found.push(Finding::unchecked(check, format!("lifecycle rules: {e}")));
                return;
            }
        },
        Told::Nothing => Vec::new(),
        Told::Unknown(why) => {
            found.push(unknown(check, "lifecycle rules", why));
            return;
        }
    };
    let touches = |rule: &&LifecycleRule| {
        rule.enabled && (prefix.starts_with(&rule.prefix) || rule.prefix.starts_with(prefix))
    };
    let rules: Vec<&LifecycleRule> = rules.iter().filter(touches).collect();
    let before = found.len();
    for rule in &rules {
        if rule.expires {
            let what = "a lifecycle rule of the bucket deletes what is some days old: also packs \
                        that snapshots need";
            found.push(
                Finding::fault(check, format!("{what} (rule {:?})", rule.id))
                    .hint("remove that rule, or its expiration of current versions"),
            );
        }
        if let Some(class) = rule.moves_to.iter().find(|class| FROZEN.contains(&class.as_str())) {
            let what =
                format!("a lifecycle rule moves objects to {class}, where no restore can read");
            found.push(Finding::fault(check, what).hint("remove that transition"));
        }
    }
    let removes_old = rules.iter().any(|rule| rule.old_versions_days.is_some());
    if b2 && !removes_old {
        let what = "no lifecycle rule removes hidden versions: what gc frees is paid for for ever";
        let rule = format!(r#"{{"daysFromHidingToDeleting": 30, "fileNamePrefix": "{prefix}"}}"#);
        let command = format!(
            "b2 bucket update --lifecycle-rule {} {}",
            super::quote(&rule),
            super::quote(bucket)
        );
        found.push(Finding::advice(check, what).mend(command));
    } else if found.len() == before {
        found.push(Finding::fine(check, "no lifecycle rule touches what is needed"));
    }
}

fn capabilities(told: Option<&[String]>) -> Finding {
    let check = "key-capabilities";
    let Some(told) = told else {
        let what = "the storage does not list what the key may do; --probe tries it";
        return Finding::unchecked(check, what);
    };
    let has = |name: &str| told.iter().any(|one| one == name);
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !has(name)).collect();
    if !missing.is_empty() {
        let what = format!("the key lacks {}: it cannot push", missing.join(", "));
        return Finding::fault(check, what)
            .hint("make a key with listBuckets, listFiles, readFiles and writeFiles");
    }
    if has("deleteFiles") {
        Finding::fine(check, "the key may list, read, write and delete")
    } else {
        Finding::fine(
            check,
            "the key may list, read and write, and not delete: push works, gc does not",
        )
    }
}

/// A storage that refused the key.
pub fn key_refused(error: &store::Error) -> Option<Finding> {
    match error {
        store::Error::Denied { detail, .. } => Some(
            Finding::fault("storage-key", format!("the storage refused the key: {detail}")).hint(
                "check the key id and its secret, and that the key may list, read and write here",
            ),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn told() -> Inquiry {
        Inquiry {
            endpoint: "https://s3.example.org".to_owned(),
            region: "us-west-004".to_owned(),
            region_set: None,
            date: Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
            lifecycle: Told::Nothing,
            object_lock: Told::Text("<ObjectLockEnabled>Enabled</ObjectLockEnabled>".to_owned()),
            versioning: Told::Text("<Status>Enabled</Status>".to_owned()),
            capabilities: Some(NEEDED.map(str::to_owned).to_vec()),
        }
    }

    fn judged(told: &Inquiry, b2: bool) -> Vec<Finding> {
        let mut found =
            bucket(told, 784_111_777, ("bucket", "agents/"), b2, |r| Some(format!("set {r}")));
        found.retain(|one| one.level != Level::Fine);
        found
    }

    fn rule(inside: &str) -> Told {
        Told::Text(format!(
            "<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status>{inside}</Rule>\
             </LifecycleConfiguration>"
        ))
    }

    #[test]
    fn a_good_bucket_gives_no_reason_to_complain() {
        assert_eq!(judged(&told(), false), []);
    }

    #[test]
    fn a_rule_that_deletes_packs_is_a_fault_if_it_touches_the_repository() {
        let expiration = "<Expiration><Days>90</Days></Expiration>";
        for (prefix, level) in [
            ("<Prefix/>", Some(Level::Fault)),
            ("<Filter><Prefix>agents/packs</Prefix></Filter>", Some(Level::Fault)),
            ("<Filter><And><Prefix>agents</Prefix></And></Filter>", Some(Level::Fault)),
            ("<Filter><Prefix>photos/</Prefix></Filter>", None),
        ] {
            let told = Inquiry { lifecycle: rule(&format!("{prefix}{expiration}")), ..told() };
            assert_eq!(judged(&told, false).first().map(|one| one.level), level, "{prefix}");
        }
        let markers =
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
        assert_eq!(judged(&Inquiry { lifecycle: rule(markers), ..told() }, false), []);
        let frozen = "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>";
        assert_eq!(
            judged(&Inquiry { lifecycle: rule(frozen), ..told() }, false)[0].level,
            Level::Fault
        );
    }

    #[test]
    fn hidden_versions_that_nobody_removes_are_told_on_backblaze_only() {
        let found = judged(&told(), true);
        assert_eq!((found.len(), found[0].check), (1, "lifecycle"));
        let old = "<NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration>";
        assert_eq!(judged(&Inquiry { lifecycle: rule(old), ..told() }, true), []);
    }

    #[test]
    fn what_the_storage_does_not_tell_is_called_unchecked() {
        let no = || Told::Unknown("403 AccessDenied".to_owned());
        let told = Inquiry {
            date: None,
            lifecycle: no(),
            object_lock: no(),
            versioning: no(),
            capabilities: None,
            ..told()
        };
        let found = judged(&told, true);
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().all(|one| one.level == Level::Unchecked), "{found:?}");
    }

    #[test]
    fn clock_region_and_key_are_compared() {
        let late = Inquiry { date: Some("Sun, 06 Nov 1994 08:59:37 GMT".to_owned()), ..told() };
        assert_eq!(judged(&late, false)[0].check, "clock");
        let set = Inquiry { region_set: Some("eu-central-003".to_owned()), ..told() };
        assert_eq!(judged(&set, false)[0].mend.as_deref(), Some("set us-west-004"));
        let weak = Inquiry { capabilities: Some(vec!["listFiles".to_owned()]), ..told() };
        let found = judged(&weak, false);
        assert!(found[0].what.contains("readFiles, writeFiles"), "{found:?}");
    }
}
