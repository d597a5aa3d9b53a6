//! Pages: links lead somewhere, and tables are tables.

use std::fs;
use std::path::Path;

use crate::root;

/// Checks one page of Markdown.
pub(super) fn check(path: &Path, text: &str, breaches: &mut Vec<String>) {
    links(path, text, breaches);
    tables(path, text, breaches);
}

/// Links between pages of the project, and to headings of them.
fn links(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let folder = root().join(path).parent().map(Path::to_owned).unwrap_or_default();
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        if file.contains("://") || file.starts_with("mailto:") {
            continue;
        }
        let full = if file.is_empty() { root().join(path) } else { folder.join(file) };
        let is_page = full.extension().is_some_and(|ending| ending == "md");
        let has_heading = || {
            let other = || fs::read_to_string(&full).unwrap_or_default();
            let page = if file.is_empty() { text.to_owned() } else { other() };
            heading.is_empty()
                || prose(&page).any(|(_, line)| anchor(line).as_deref() == Some(heading))
        };
        if !full.exists() || is_page && !has_heading() {
            breaches.push(format!("{}: the link to {target} leads nowhere", path.display()));
        }
    }
}

/// A line that begins like a table's row has one above it, or the rule of a table's head below.
fn tables(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let lines: Vec<(usize, &str)> = prose(text).collect();
    let is_row = |index: usize| lines.get(index).is_some_and(|(_, line)| line.starts_with('|'));
    let is_rule = |index: usize| lines.get(index).is_some_and(|(_, line)| line.starts_with("|-"));
    for (index, (number, _)) in lines.iter().enumerate() {
        let is_first = is_row(index) && (index == 0 || !is_row(index - 1));
        if is_first && !is_rule(index + 1) {
            breaches.push(format!("{}:{number}: a row without a table", path.display()));
        }
    }
}

/// The lines outside of examples, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_example = false;
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_example ^= is_fence;
        !in_example && !is_fence
    })
}

/// What a heading is linked to by: small letters, dashes for spaces, no other signs.
fn anchor(line: &str) -> Option<String> {
    let title = line.starts_with('#').then(|| line.trim_start_matches('#').trim())?;
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        check(Path::new("README.md"), text, &mut breaches);
        breaches
    }

    #[test]
    fn a_link_needs_its_file_and_its_heading() {
        assert!(
            told("# A `b`, c\n[x](#a-b-c) [y](CONTRIBUTING.md#set-up) [z](https://x/#y)")
                .is_empty()
        );
        assert_eq!(told("[x](#nowhere)").len(), 1);
        assert_eq!(told("[x](CONTRIBUTING.md#nowhere) [y](nowhere.md)").len(), 2);
    }

    #[test]
    fn a_row_needs_a_table() {
        assert!(told("| a |\n|---|\n| b |\n\n```\n| c |\n```\n").is_empty());
        assert_eq!(told("| a |\n|---|\n| b |\n\ntext\n\n| c |\n").len(), 1);
    }
}
