//! Running the binary.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The binary on a store.
pub(crate) fn spanstore(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanstore"));
    command
        .env("SPANSTORE_DIR", store)
        .env_remove("RUST_BACKTRACE");
    command
}

/// Runs a command that has to end well and gives its output.
pub(crate) fn run(store: &Path, arguments: &[&str]) -> String {
    let output = output(store, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command, however it ends.
pub(crate) fn output(store: &Path, arguments: &[&str]) -> Output {
    spanstore(store).args(arguments).output().unwrap()
}

/// A store with the sample application's spans.
pub(crate) fn sample(spans: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let generated = run(
        directory.path(),
        &["generate", "--spans", &spans.to_string(), "--seed", "3"],
    );
    let report = ingest(
        directory.path(),
        &["ingest", "-", "--format", "json"],
        generated.as_bytes(),
    );
    assert_eq!(report["accepted"], spans);
    directory
}

/// Runs `ingest` on this input and gives its report.
pub(crate) fn ingest(store: &Path, arguments: &[&str], input: &[u8]) -> Value {
    let mut child = spanstore(store)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
