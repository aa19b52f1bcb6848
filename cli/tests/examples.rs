//! The help of each command has examples, and they work as they are written.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by a panic"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A directory in which a person tries things out, with a store at the usual place.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self { directory };
        place.done("spanstore generate --spans 2000 --seed 1 > traces.jsonl.gz");
        place.done("spanstore ingest traces.jsonl.gz && spanstore seal");
        place.done("spanstore ingest traces.jsonl.gz --team acme");
        place
            .done("mkdir -p ~/.local/share/bash-completion/completions ~/.config/fish/completions");
        place
    }

    /// Runs a line in a shell.
    fn shell(&self, line: &str) -> Output {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_spanstore"));
        let path = std::env::var_os("PATH").unwrap();
        let mut paths = vec![binary.parent().unwrap().to_path_buf()];
        paths.extend(std::env::split_paths(&path));
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("set -o pipefail; {line}")]);
        shell.current_dir(self.directory.path());
        shell.env("HOME", self.directory.path());
        shell.env("PATH", std::env::join_paths(paths).unwrap());
        shell.env_remove("SPANSTORE_DIR").output().unwrap()
    }

    /// Runs a line that has to end well.
    fn done(&self, line: &str) -> String {
        let output = self.shell(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A value of the first, or of the last, line of JSON that a line gives.
    fn value(&self, line: &str, name: &str) -> String {
        let text = self.done(&format!("{line} --format json"));
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let found = lines.find_map(|line: Value| line[name].as_str().map(str::to_owned));
        found.unwrap()
    }

    /// The example with what its placeholders stand for, and with less work.
    fn filled(&self, example: &str) -> String {
        let mut line = example.replace("1000000", "1000").replace("100000", "1000");
        let is_of = |command: &str| example.starts_with(&format!("spanstore {command}"));
        if line.contains("SESSION_ID") {
            let started = is_of("session stop") || is_of("session restart");
            let id = if started {
                let start = "spanstore session start --user ada --environment preview";
                self.value(start, "session_id")
            } else {
                let spans = "spanstore query --filter 'session_id is not null' --limit 1";
                self.value(spans, "session_id")
            };
            line = line.replace("SESSION_ID", &id);
        }
        if line.contains("TRACE_ID") {
            let id = self.value("spanstore query --limit 1", "trace_id");
            line = line.replace("TRACE_ID", &id);
        }
        if line.contains("SEGMENT") {
            line = line.replace("SEGMENT", &self.value("spanstore inspect", "segment"));
        }
        if line.contains("01a3…") {
            let list = if is_of("tail") {
                "spanstore tail --requests --timeout 0"
            } else {
                "spanstore requests --limit 100"
            };
            line = line.replace("01a3…", &self.value(list, "next_cursor"));
        }
        if is_of("tail") {
            line = format!("{} --timeout 0", line.replace(" --timeout 60", ""));
        }
        if is_of("demo") {
            line = format!("rm -rf spanstore-demo another && {line}");
        }
        if is_of("forget") && !line.contains("--yes") {
            line.push_str(" --yes");
        }
        line
    }
}

fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
    let examples = lines.filter(|line| line.starts_with("spanstore "));
    examples.map(str::to_owned).collect()
}

#[test]
fn the_examples_of_each_command_work() {
    let place = Place::new();
    let help = place.done("spanstore --help");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    assert!(commands.len() > 30, "{commands:?}");
    for example in examples(&help) {
        place.done(
            &place
                .filled(&example)
                .replace(" traces.json.gz more.pb.zst", " traces.jsonl.gz"),
        );
    }
    for command in commands {
        let examples = examples(&place.done(&format!("spanstore {command} --help")));
        let is_own = |one: &String| one.contains(&format!("spanstore {command}"));
        assert!(examples.iter().any(is_own), "{command}");
        for example in examples {
            place.done(&place.filled(&example));
        }
    }
    let pages = Path::new(".local/share/man/man1/spanstore-session.1");
    assert!(place.directory.path().join(pages).exists());
    place.done("bash -n ~/.local/share/bash-completion/completions/spanstore");
}

#[test]
fn the_demo_fits_narrow_and_wide_terminals() {
    let place = Place::new();
    for columns in [80, 200] {
        let text = place.done(&format!(
            "COLUMNS={columns} spanstore demo --store ./{columns}"
        ));
        let is_typed = |line: &&str| line.starts_with("$ ") || line.contains("sample application");
        let mut lines = text.lines().filter(|line| !is_typed(line));
        let wide = lines.find(|line| line.chars().count() > columns);
        assert_eq!(wide, None);
    }
    for list in ["query", "requests", "sessions"] {
        let lines = |columns: usize| {
            let list = format!("COLUMNS={columns} spanstore {list} --limit 9 2>&1 >/dev/null");
            let told = place.done(&list);
            (place.done(&list.replace("2>&1 >/dev/null", "")), told)
        };
        let (narrow, told) = lines(80);
        assert!(
            narrow.lines().all(|line| line.chars().count() <= 80),
            "{narrow}"
        );
        let room = "has no room for";
        assert!(told.contains(room), "{told}");
        let (wide, told) = lines(200);
        assert!(
            wide.lines().all(|line| line.chars().count() <= 200),
            "{wide}"
        );
        assert!(!told.contains(room), "{told}");
        if list == "query" {
            // Columns that were asked for are there.
            let asked = "start_time,level,origin,status_code,name,duration,service,trace_id";
            let line = format!("COLUMNS=80 spanstore query --columns {asked} 2>&1");
            let text = place.done(&line);
            assert!(text.contains("origin") && !text.contains(room), "{text}");
        }
        // Ids are whole in both.
        let id = |text: &str| {
            text.lines()
                .nth(3)
                .unwrap()
                .rsplit(' ')
                .nth(1)
                .map(str::to_owned)
        };
        assert_eq!(id(&narrow), id(&wide));
    }
    let list = "COLUMNS=80 spanstore query --columns start_time,name,trace_id";
    let text = place.done(list);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(text.contains('…'), "{text}");
    let piped = place.done("spanstore query --columns start_time,name,trace_id");
    assert!(
        piped.lines().all(|line| line.chars().count() > 80),
        "{piped}"
    );
}
