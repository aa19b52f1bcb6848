//! The layout is the architecture: modules use each other only as the table in
//! ARCHITECTURE.md says, and files stay short.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// All Rust files below a folder.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if is_rust(&path) {
            files.push(path);
        }
    }
    files
}

/// The table under "`engine/src`, and the arrows": module to those it uses.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, table) = text.split_once("| module | what it is | uses |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let module = cells.first().unwrap().trim_matches('`').to_owned();
        (
            module,
            cells
                .last()
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        )
    })
    .collect()
}

#[test]
fn modules_of_the_engine_use_those_that_the_table_names() {
    let arrows = arrows();
    assert!(arrows.len() > 15, "{arrows:?}");
    let source = root().join("engine/src");
    for file in rust_files(&source) {
        let place = file
            .strip_prefix(&source)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let module = place.split(['/', '.']).next().unwrap().to_owned();
        if module == "lib" || place.contains("tests") {
            continue;
        }
        let allowed = arrows
            .get(&module)
            .unwrap_or_else(|| panic!("{module} is not in the table"));
        for line in fs::read_to_string(&file).unwrap().lines() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (_, rest) in line
                .match_indices("crate::")
                .map(|(at, _)| line.split_at(at + 7))
            {
                let used: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                let is_type = used.starts_with(char::is_uppercase);
                let is_fine =
                    used.is_empty() || is_type || used == module || allowed.contains(&used);
                assert!(
                    is_fine,
                    "{place} uses {used}, which the table does not name: {line}"
                );
            }
        }
    }
}

#[test]
fn only_the_query_module_knows_datafusion() {
    let source = root().join("engine/src");
    for file in rust_files(&source) {
        let place = file
            .strip_prefix(&source)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let knows = fs::read_to_string(&file).unwrap().contains("datafusion::");
        assert!(
            !knows || place.starts_with("query") || place == "error.rs",
            "{place}"
        );
    }
}

#[test]
fn files_have_one_subject() {
    for folder in ["format/src", "engine/src", "cli/src", "benches", "tests"] {
        for file in rust_files(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 650, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn files_that_the_architecture_names_are_there() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut found = 0;
    for name in text.split('`').filter(|name| is_rust(Path::new(name))) {
        let is_there = ["", "engine/src", "format/src"]
            .iter()
            .any(|folder| root().join(folder).join(name).is_file());
        assert!(is_there, "{name}");
        found += 1;
    }
    assert!(found > 15);
}
