//! A task for the Windows Task Scheduler: at log-on of the user, or at boot, and again after a failure.

use std::fmt::Write as _;

use super::{Manager, Owner, Plan, Service, Step, text, xml};

pub(super) fn service(owner: &Owner) -> Service {
    let name = owner.tool;
    let path = owner.home.join(format!("{name}-task.xml"));
    let step = |verb: &str| Step::new(&format!("schtasks /{verb} /TN {name}"), &[]);
    let create =
        Step::new(&format!("schtasks /Create /F /TN {name} /XML"), &[&path.to_string_lossy()]);
    Service {
        manager: Manager::TaskScheduler,
        start: vec![step("End").or_not(), create.clone(), step("Run")],
        stop: vec![
            step("End").or_not(),
            Step::new(&format!("schtasks /Delete /F /TN {name}"), &[]).or_not(),
        ],
        forget: Vec::new(),
        look: step("Query"),
        enable: vec![create, step("Run")],
        restart: vec![step("Run")],
        log: None,
        path,
    }
}

pub(super) fn task(plan: &Plan) -> String {
    let user = xml(&plan.owner.user);
    let mut arguments: Vec<String> = plan.flags.iter().map(|flag| quote(flag)).collect();
    arguments.push("daemon".to_owned());
    let (trigger, log_on) = if plan.owner.system {
        ("    <BootTrigger>\n      <Enabled>true</Enabled>\n    </BootTrigger>\n".to_owned(), "S4U")
    } else {
        let trigger = format!(
            "    <LogonTrigger>\n      <Enabled>true</Enabled>\n      <UserId>{user}</UserId>\n    </LogonTrigger>\n"
        );
        (trigger, "InteractiveToken")
    };
    // no encoding is named: the scheduler reads the text as UTF-16, whatever the file was
    let mut out = format!(
        "<?xml version=\"1.0\"?>\n<!-- Written by `{} service install`. -->\n\
         <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\n",
        plan.owner.tool
    );
    let _ = writeln!(
        out,
        "  <RegistrationInfo>\n    <Description>Backups of the agents of {user}</Description>\n  </RegistrationInfo>"
    );
    let _ = writeln!(out, "  <Triggers>\n{trigger}  </Triggers>");
    let _ = writeln!(
        out,
        "  <Principals>\n    <Principal id=\"Author\">\n      <UserId>{user}</UserId>\n      \
         <LogonType>{log_on}</LogonType>\n      <RunLevel>LeastPrivilege</RunLevel>\n    </Principal>\n  </Principals>"
    );
    // it ends a task after three days, and at battery, unless it is told not to
    out.push_str(
        "  <Settings>\n    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\n    \
         <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\n    \
         <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\n    <StartWhenAvailable>true</StartWhenAvailable>\n    \
         <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>\n    <Priority>8</Priority>\n    <RestartOnFailure>\n      \
         <Interval>PT1M</Interval>\n      <Count>255</Count>\n    </RestartOnFailure>\n  </Settings>\n",
    );
    let _ = writeln!(
        out,
        "  <Actions Context=\"Author\">\n    <Exec>\n      <Command>{}</Command>\n      <Arguments>{}</Arguments>\n    \
         </Exec>\n  </Actions>\n</Task>",
        xml(text(&plan.program)),
        xml(&arguments.join(" "))
    );
    out
}

/// One argument by the rules of `CommandLineToArgvW`.
fn quote(text: &str) -> String {
    if !text.is_empty() && !text.contains([' ', '\t', '"']) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    let mut slashes = 0;
    for c in text.chars() {
        match c {
            '\\' => slashes += 1,
            '"' => {
                out.push_str(&"\\".repeat(slashes * 2 + 1));
                slashes = 0;
            }
            _ => {
                out.push_str(&"\\".repeat(slashes));
                slashes = 0;
            }
        }
        if c != '\\' {
            out.push(c);
        }
    }
    out.push_str(&"\\".repeat(slashes * 2));
    out.push('"');
    out
}
