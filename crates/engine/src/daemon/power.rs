//! What jobs wait for: mains, and a line that costs nothing.
//!
//! Linux: `/sys/class/power_supply`; whether the line is metered says NetworkManager (`nmcli`), where it is.
//! Elsewhere nothing is known, and [`Power::unknown`] says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use schedule::Pause;

use super::Job;

/// Jobs that were put off are looked at again after this.
pub(super) const PAUSE: Pause = Pause::secs(300, 300);

/// What to wait for.
#[derive(Debug, Clone)]
pub struct Power {
    /// Not on battery.
    pub mains: bool,
    /// Not over a metered line.
    pub unmetered: bool,
    /// Where the system tells of power supplies.
    pub supplies: PathBuf,
    /// The search path for `nmcli`.
    pub path: std::ffi::OsString,
}

impl Power {
    /// Waits for nothing.
    pub fn any() -> Self {
        Self {
            mains: false,
            unmetered: false,
            supplies: PathBuf::from("/sys/class/power_supply"),
            path: "/usr/bin:/bin".into(),
        }
    }

    /// What is asked for and cannot be known here.
    pub fn unknown(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        if self.mains && !self.supplies.is_dir() {
            unknown.push(
                "not checked: whether this machine runs on battery (only Linux tells)".to_owned(),
            );
        }
        if self.unmetered && self.metered().is_none() {
            unknown.push(
                "not checked: whether the network is metered (only NetworkManager's nmcli tells)"
                    .to_owned(),
            );
        }
        unknown
    }

    /// Why a job does not run now. A restore does in any case: somebody waits for it.
    pub(super) fn hinders(&self, job: Job) -> Option<String> {
        if job == Job::Restore {
            return None;
        }
        if self.mains && on_battery(&self.supplies) == Some(true) {
            return Some("this machine runs on battery".to_owned());
        }
        if self.unmetered && self.metered() == Some(true) {
            return Some("the network is metered".to_owned());
        }
        None
    }

    fn metered(&self) -> Option<bool> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let mut nmcli = Command::new("nmcli");
        nmcli.args(["-t", "-f", "METERED", "general"]).env_clear().env("PATH", &self.path);
        let output = nmcli.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        if !output.status.success() {
            return None;
        }
        metered_word(&String::from_utf8_lossy(&output.stdout))
    }
}

/// `yes`, `no`, either with `(guessed)`, or `unknown`.
fn metered_word(text: &str) -> Option<bool> {
    match text.split_whitespace().next()? {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Whether the machine runs on battery; none if the system does not say. A battery of a mouse is not the
/// machine's.
fn on_battery(supplies: &Path) -> Option<bool> {
    let read = |dir: &Path, name: &str| {
        std::fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned()).ok()
    };
    let (mut discharging, mut plugged) = (false, false);
    for entry in std::fs::read_dir(supplies).ok()?.flatten() {
        let dir = entry.path();
        if read(&dir, "scope").as_deref() == Some("Device") {
            continue;
        }
        match read(&dir, "type").as_deref() {
            Some("Battery") => {
                discharging |= read(&dir, "status").as_deref() == Some("Discharging");
            }
            Some("Mains" | "USB" | "Wireless") => {
                plugged |= read(&dir, "online").as_deref() == Some("1");
            }
            _ => {}
        }
    }
    Some(discharging && !plugged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(dir: &Path, name: &str, files: &[(&str, &str)]) {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            std::fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn a_laptop_without_its_cable_waits_and_one_with_it_or_a_desktop_with_a_mouse_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let power = Power { mains: true, supplies: dir.path().to_owned(), ..Power::any() };
        assert_eq!(power.hinders(Job::Push), None, "a desktop");
        supply(
            dir.path(),
            "hidpp_battery_0",
            &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")],
        );
        assert_eq!(power.hinders(Job::Push), None, "a mouse");
        supply(dir.path(), "BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        supply(dir.path(), "AC", &[("type", "Mains"), ("online", "0")]);
        assert_eq!(power.hinders(Job::Push).as_deref(), Some("this machine runs on battery"));
        assert_eq!(power.hinders(Job::Restore), None);
        supply(dir.path(), "AC", &[("online", "1")]);
        assert_eq!(power.hinders(Job::Push), None, "a second battery drains while the cable is in");
        let unasked = Power { mains: false, ..power };
        supply(dir.path(), "AC", &[("online", "0")]);
        assert_eq!(unasked.hinders(Job::Push), None);
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let nowhere = Power { mains: true, supplies: "/nonexistent".into(), ..Power::any() };
        assert_eq!(nowhere.hinders(Job::Push), None);
        assert_eq!(nowhere.unknown().len(), 1);
        assert_eq!(Power { mains: false, ..nowhere }.unknown(), Vec::<String>::new());
        let no_tool = Power { unmetered: true, path: "/nonexistent".into(), ..Power::any() };
        assert_eq!((no_tool.hinders(Job::Push), no_tool.unknown().len()), (None, 1));
    }

    #[test]
    fn words_of_network_manager_are_read() {
        for (text, metered) in [
            ("yes\n", Some(true)),
            ("yes (guessed)\n", Some(true)),
            ("no (guessed)", Some(false)),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(metered_word(text), metered, "{text}");
        }
    }
}
