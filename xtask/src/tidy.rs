//! The house rules that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

mod pages;

/// Lines of a source file.
const MAX_LINES: usize = 500;
/// Crates that must not come in: a second TLS or crypto provider, or an unkept parser.
/// They stand in deny.toml too.
const BANNED: [&str; 6] = ["ring", "openssl", "openssl-sys", "native-tls", "serde_yaml", "reqwest"];
/// Where crates may come from.
const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
/// What a crate may not depend on, by layer: the invariants of ARCHITECTURE.md.
const LAYERS: [(&str, &[&str]); 5] = [
    ("wire", &["tokio", "hyper", "http", "providers", "policy", "relay"]),
    ("providers", &["tokio", "hyper", "http", "policy", "relay"]),
    ("policy", &["tokio", "hyper", "relay"]),
    ("metrics", &["tokio", "hyper", "http", "policy", "relay", "console"]),
    ("relay", &["hyper", "hyper-util", "rustls", "magpie"]),
];

/// Checks every rule; all breaches at once.
pub(crate) fn run() -> Result<(), String> {
    let breaches = breaches()?;
    match breaches.is_empty() {
        true => Ok(()),
        false => Err(format!("tidy:\n{}", breaches.join("\n"))),
    }
}

fn breaches() -> Result<Vec<String>, String> {
    let mut breaches = Vec::new();
    for path in tracked()? {
        let full = root().join(&path);
        let Ok(text) = fs::read_to_string(&full) else { continue };
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => source(&path, &text, &mut breaches),
            Some("md") => pages::check(&path, &text, &mut breaches),
            _ => {}
        }
    }
    layers(&mut breaches)?;
    banned(&mut breaches)?;
    sources(&mut breaches)?;
    image(&mut breaches)?;
    Ok(breaches)
}

/// The files under version control, and those about to be.
fn tracked() -> Result<Vec<PathBuf>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .map_err(|fault| format!("git: {fault}"))?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(PathBuf::from).collect())
}

fn source(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let shown = path.display();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        breaches.push(format!("{shown}: {lines} lines; a file has at most {MAX_LINES}"));
    }
    if !text.starts_with("//!") {
        breaches.push(format!("{shown}: a file opens with //! and what it is for"));
    }
    if path.ends_with("tidy.rs") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        for unwanted in ["#[ignore", "todo!(", "unimplemented!(", "TODO", "FIXME"] {
            if line.contains(unwanted) {
                breaches.push(format!("{shown}:{}: {unwanted} is not left behind", number + 1));
            }
        }
    }
}

fn layers(breaches: &mut Vec<String>) -> Result<(), String> {
    for (name, forbidden) in LAYERS {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(|fault| format!("{name}: {fault}"))?;
        let dependencies = text.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if forbidden.contains(&dependency) {
                breaches.push(format!("crates/{name} may not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

/// Looks at what is really built: the lock file also names what no feature asks for.
fn banned(breaches: &mut Vec<String>) -> Result<(), String> {
    let listed = Command::new("cargo")
        .args(["tree", "--locked", "--workspace", "--target", "all", "--prefix", "none"])
        .args(["-e", "normal,build,dev", "--format", "{p}"])
        .current_dir(root())
        .output()
        .map_err(|fault| format!("cargo tree: {fault}"))?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    let packages: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    for name in BANNED {
        if packages.iter().any(|(known, _)| *known == name) {
            breaches.push(format!("{name} has come in, which is banned"));
        }
    }
    for single in ["rustls", "hyper", "h2", "tokio"] {
        if packages.iter().filter(|(known, _)| *known == single).count() > 1 {
            breaches.push(format!("{single} is there in several versions"));
        }
    }
    Ok(())
}

/// Every crate is of the registry, and what is banned here is banned in deny.toml.
fn sources(breaches: &mut Vec<String>) -> Result<(), String> {
    let lock = read("Cargo.lock")?;
    for line in lock.lines().filter(|line| line.starts_with("source = ") && *line != REGISTRY) {
        breaches.push(format!("Cargo.lock: {line} is not the registry"));
    }
    let deny = read("deny.toml")?;
    for name in BANNED.iter().filter(|name| !deny.contains(&format!("\"{name}\""))) {
        breaches.push(format!("deny.toml: {name} is not denied"));
    }
    Ok(())
}

/// The container image is built by the toolchain that all else is built by.
fn image(breaches: &mut Vec<String>) -> Result<(), String> {
    let (image, toolchain) = (read("Dockerfile")?, read("rust-toolchain.toml")?);
    let of_image = image.split("FROM rust:").nth(1).and_then(|rest| rest.split('-').next());
    let channel = toolchain.split("channel = \"").nth(1).and_then(|rest| rest.split('"').next());
    let is_same =
        |image: &str, channel: &str| format!("{channel}.").starts_with(&format!("{image}."));
    if !of_image.zip(channel).is_some_and(|(image, channel)| is_same(image, channel)) {
        breaches.push(format!("Dockerfile: rust:{of_image:?} is not the toolchain {channel:?}"));
    }
    Ok(())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(root().join(path)).map_err(|fault| format!("{path}: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        assert_eq!(breaches().unwrap(), Vec::<String>::new());
    }
}
