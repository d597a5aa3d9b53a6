//! Running other programs: the tests, and all that has to pass.

use std::process::Command;

use crate::{generate, root, tidy};

/// Every test. The Rust ones start what they need themselves; those of real clients are driven by
/// a Python script that installs the clients beside the build.
pub(crate) fn test(args: &[String]) -> Result<(), String> {
    let only = match args {
        [] => None,
        [flag, what] if flag == "--only" => Some(what.as_str()),
        _ => return Err(String::from("usage: cargo xtask test [--only clients|rust]")),
    };
    if !matches!(only, None | Some("clients" | "rust")) {
        return Err(String::from("--only takes clients or rust"));
    }
    if only != Some("clients") {
        install_parts();
        call("cargo", &["test", "--locked", "--workspace"])?;
    }
    if only != Some("rust") {
        clients()?;
    }
    Ok(())
}

/// Programs that tests run against, from Debian. Without one of them its tests say so, and test
/// nothing: `pebble` is the ACME server, `strace` shows in which order things are written.
const PARTS: [&str; 2] = ["pebble", "strace"];

/// Installs what is missing of [`PARTS`], where that is possible without asking anybody.
fn install_parts() {
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let missing: Vec<&str> = PARTS.into_iter().filter(|part| !is_there(part)).collect();
    if missing.is_empty() {
        return;
    }
    // Whether it worked shows in the tests.
    let quiet = ["-qq", "-o", "Acquire::Retries=2", "-o", "DPkg::Lock::Timeout=60"];
    let install = ["install", "-y", "--no-install-recommends"];
    for arguments in [vec!["update"], [&install[..], &missing].concat()] {
        let arguments = [&quiet[..], &arguments].concat();
        if let Err(why) = call("apt-get", &arguments) {
            println!("xtask: without {}: {why}", missing.join(" and "));
            return;
        }
    }
}

fn clients() -> Result<(), String> {
    call("cargo", &["build", "--locked", "-p", "magpie", "-p", "testkit"])?;
    let built = root().join("target/debug");
    let path = |name: &str| built.join(name).to_string_lossy().into_owned();
    let (magpie, upstream) = (path("magpie"), path("scripted-upstream"));
    let script = root().join("tests/clients/run.py").to_string_lossy().into_owned();
    call("python3", &[&script, "--magpie", &magpie, "--upstream", &upstream])
}

/// What may come in and from where, as deny.toml has it: licences, sources, bans, and known
/// advisories if their database can be fetched. Installs cargo-deny, which takes some minutes.
pub(crate) fn deny() -> Result<(), String> {
    if !has_deny() {
        call("cargo", &["install", "cargo-deny", "--locked", "--debug"])?;
    }
    call("cargo", &["deny", "check", "bans", "licenses", "sources"])?;
    match call("cargo", &["deny", "fetch", "db"]) {
        Ok(()) => call("cargo", &["deny", "check", "--disable-fetch", "advisories"]),
        Err(why) => {
            println!("xtask: advisories are not looked at: {why}");
            Ok(())
        }
    }
}

fn has_deny() -> bool {
    let asked = Command::new("cargo").args(["deny", "--version"]).output();
    asked.is_ok_and(|output| output.status.success())
}

/// What has to pass before a change lands.
pub(crate) fn ci() -> Result<(), String> {
    call("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    match has_deny() {
        true => deny()?,
        false => println!("xtask: cargo-deny is not installed: `cargo xtask deny` gets it"),
    }
    generate::run(true)?;
    call("cargo", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    test(&[])
}

/// Runs a program in the checkout and waits for it.
pub(crate) fn call(program: &str, args: &[&str]) -> Result<(), String> {
    println!("xtask: {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .current_dir(root())
        .status()
        .map_err(|fault| format!("{program} cannot be run: {fault}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {}: {status}", args.join(" "))) }
}
