//! A property list for launchd: an agent of the user, or a daemon of the machine that runs as that user.

use std::fmt::Write as _;
use std::path::Path;

use super::{Manager, Owner, Plan, Service, State, Step, text, xml};

pub(super) fn service(owner: &Owner) -> Service {
    let label = label(owner);
    let file = format!("{label}.plist");
    let (path, domain) = if owner.system {
        (Path::new("/Library/LaunchDaemons").join(file), "system".to_owned())
    } else {
        (owner.home.join("Library/LaunchAgents").join(file), format!("gui/{}", owner.uid))
    };
    let step = |verb: &str| Step::new(&format!("launchctl {verb} {domain}/{label}"), &[]);
    // the path is one word, whatever is in it
    let load = Step::new(&format!("launchctl bootstrap {domain}"), &[&path.to_string_lossy()]);
    Service {
        manager: Manager::Launchd,
        start: vec![step("bootout").or_not(), step("enable"), load.clone()],
        stop: vec![step("bootout").or_not()],
        forget: Vec::new(),
        look: step("print"),
        enable: vec![step("enable"), load],
        restart: vec![step("kickstart -k")],
        log: Some(format!("tail {}", log(owner))),
        path,
    }
}

fn label(owner: &Owner) -> String {
    if owner.system {
        format!("dev.agent-backup.{}.{}", owner.tool, owner.user)
    } else {
        format!("dev.agent-backup.{}", owner.tool)
    }
}

fn log(owner: &Owner) -> String {
    owner.home.join(format!("Library/Logs/{}.log", owner.tool)).to_string_lossy().into_owned()
}

/// What `launchctl print` says; it fails for what is not loaded.
pub(super) fn state(success: bool, printed: &str) -> State {
    let told = |key: &str| {
        let of = |line: &str| Some(line.trim().strip_prefix(key)?.strip_prefix(" = ")?.to_owned());
        printed.lines().find_map(of)
    };
    let running = success && told("state").as_deref() == Some("running");
    let code = told("last exit code").filter(|code| code != "0" && !code.starts_with("(never"));
    let failed = code.filter(|_| success && !running);
    State {
        enabled: success,
        running: Some(running),
        failed: failed.map(|code| format!("it ended with code {code}")),
    }
}

pub(super) fn plist(plan: &Plan) -> String {
    let owner = &plan.owner;
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- Written by `{} service install`. -->\n<plist version=\"1.0\">\n<dict>\n",
        owner.tool
    );
    let entry = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "  <key>{name}</key>\n  {value}");
    };
    let string = |text: &str| format!("<string>{}</string>", xml(text));
    entry(&mut out, "Label", &string(&label(owner)));
    let flags = plan.flags.iter().map(String::as_str);
    let words: Vec<String> = [text(&plan.program)]
        .into_iter()
        .chain(flags)
        .chain(["daemon"])
        .map(|word| format!("    {}\n", string(word)))
        .collect();
    entry(&mut out, "ProgramArguments", &format!("<array>\n{}  </array>", words.concat()));
    if owner.system {
        entry(&mut out, "UserName", &string(&owner.user));
    }
    let home = ("HOME".to_owned(), text(&owner.home).to_owned());
    let variables: Vec<String> = [&home]
        .into_iter()
        .chain(&plan.variables)
        .map(|(name, value)| format!("    <key>{}</key>\n    {}\n", xml(name), string(value)))
        .collect();
    entry(&mut out, "EnvironmentVariables", &format!("<dict>\n{}  </dict>", variables.concat()));
    entry(&mut out, "RunAtLoad", "<true/>");
    // a crash starts it again; an end with code 0 is an end
    entry(&mut out, "KeepAlive", "<dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>");
    for (name, number) in
        [("ThrottleInterval", 60), ("ExitTimeOut", plan.stop_secs), ("Umask", 0o077)]
    {
        entry(&mut out, name, &format!("<integer>{number}</integer>"));
    }
    entry(&mut out, "LowPriorityIO", "<true/>");
    entry(&mut out, "ProcessType", &string("Background"));
    entry(&mut out, "StandardErrorPath", &string(&log(owner)));
    out.push_str("</dict>\n</plist>\n");
    out
}
