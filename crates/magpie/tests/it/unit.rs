//! The systemd unit, as systemd itself reads it.

use std::process::{Command, Output};

use tempfile::TempDir;

const UNIT: &str = include_str!("../../../../deploy/magpie.service");
const PROGRAM: &str = "/usr/local/bin/magpie";
/// The most that systemd may find a service of ours exposed to, of 100.
const EXPOSED: u32 = 15;

/// Runs `systemd-analyze`; `None` where that is not there.
fn analyze(arguments: &[&str], unit: &str) -> Option<Output> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("magpie.service");
    std::fs::write(&path, unit).unwrap();
    let asked = Command::new("systemd-analyze").args(arguments).arg(&path).output();
    if asked.is_err() {
        eprintln!("SKIPPED: systemd-analyze is not installed: this test has tested nothing");
    }
    asked.ok()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    // Where it is verified, the program is not installed.
    assert_eq!(UNIT.matches(PROGRAM).count(), 1);
    let unit = UNIT.replace(PROGRAM, env!("CARGO_BIN_EXE_magpie"));
    let Some(output) = analyze(&["verify"], &unit) else { return };
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    // Or it looks at nothing.
    let wrong = unit.replace("NoNewPrivileges=yes", "NoNewPrivilege=yes");
    let output = analyze(&["verify"], &wrong).unwrap();
    assert!(said(&output).contains("NoNewPrivilege"), "{}", said(&output));
}

#[test]
fn a_service_of_ours_can_do_little_beyond_its_work() {
    let threshold = format!("--threshold={EXPOSED}");
    let arguments = ["security", "--offline=true", "--no-pager", &threshold];
    let Some(output) = analyze(&arguments, UNIT) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let open = UNIT.lines().filter(|line| !line.starts_with("Restrict")).collect::<Vec<_>>();
    assert!(!analyze(&arguments, &open.join("\n")).unwrap().status.success());
}
