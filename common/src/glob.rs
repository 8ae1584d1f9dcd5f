//! Expands file patterns with `*`, `?` and `[...]` inside path components, as Go's `filepath.Glob` does.

use std::path::{Path, PathBuf};

/// Returns the files that match `pattern`, in ascending order. A pattern without wildcards returns itself, even if no
/// such file exists; see [`is_pattern`].
#[must_use]
pub fn expand(pattern: &Path) -> Vec<PathBuf> {
    if !is_pattern(&pattern.to_string_lossy()) {
        return vec![pattern.to_path_buf()];
    }
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        if is_pattern(&text) {
            found = found
                .iter()
                .flat_map(|folder| matching(folder, &text))
                .collect();
        } else {
            for path in &mut found {
                path.push(component);
            }
        }
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

/// Reports whether `text` has a wildcard.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let pattern: Vec<char> = pattern.chars().collect();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| is_match(&pattern, &name.chars().collect::<Vec<char>>()))
        .map(|name| folder.join(name))
        .collect()
}

fn is_match(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skip| is_match(rest, &name[skip..])),
        Some(('?', rest)) => !name.is_empty() && is_match(rest, &name[1..]),
        Some(('[', rest)) => {
            let Some(end) = rest.iter().position(|&c| c == ']') else {
                return false;
            };
            let (class, after) = (&rest[..end], &rest[end + 1..]);
            name.first().is_some_and(|&c| in_class(class, c)) && is_match(after, &name[1..])
        }
        Some((c, rest)) => name.first() == Some(c) && is_match(rest, &name[1..]),
    }
}

fn in_class(class: &[char], c: char) -> bool {
    let (negated, class) = match class.split_first() {
        Some(('^', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    let mut index = 0;
    while let Some(&start) = class.get(index) {
        let is_range = class.get(index + 1) == Some(&'-') && class.get(index + 2).is_some();
        let end = if is_range { class[index + 2] } else { start };
        found |= (start..=end).contains(&c);
        index += if is_range { 3 } else { 1 };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_components() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.yml", "b.yml", "c.txt", "d1.yml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = expand(&folder.path().join(pattern));
            found
                .iter()
                .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(names("*.yml"), ["a.yml", "b.yml", "d1.yml"]);
        assert_eq!(names("?.[^x-z]*"), ["c.txt"]);
        assert_eq!(names("[a-b]*"), ["a.yml", "b.yml"]);
        assert_eq!(names("gone.yml"), ["gone.yml"]);
        assert!(names("x*").is_empty());
    }
}
