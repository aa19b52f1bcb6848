//! Where figures are taken: the directory, and the machine, which is printed before them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::milliseconds;

/// The environment variable that names the directory in which benchmarks make their stores.
/// Without it they lie where the system has its temporary files, which may be memory.
const DIRECTORY: &str = "SPANSTORE_BENCH_DIR";

/// How many times the time to sync is taken.
const SYNCS: usize = 21;

/// A directory for the stores of a benchmark, gone when it is dropped.
///
/// # Panics
/// When it cannot be made.
pub fn directory() -> TempDir {
    let made = match std::env::var_os(DIRECTORY) {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    };
    made.expect("a directory for the stores")
}

/// Prints what figures taken in a directory depend on.
///
/// # Panics
/// When the directory cannot be written to.
pub fn print(directory: &Path) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("processor: {}, {threads} threads", processor());
    println!(
        "versions: spanstore {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        output(Command::new("rustc").arg("--version")),
        output(Command::new("uname").arg("-sr")),
    );
    let system = output(Command::new("df").arg("--output=fstype").arg(directory));
    let system = system.lines().last().unwrap_or_default().trim().to_owned();
    let sync = milliseconds(sync(directory));
    println!("file system: {system}, {sync:.3} ms to append 4 KiB and sync (median)");
}

fn processor() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": "));
    model.map_or("unknown", |(_, model)| model).to_owned()
}

/// What a command prints; nothing where there is no such command.
fn output(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout);
    String::from_utf8_lossy(&output.unwrap_or_default())
        .trim()
        .to_owned()
}

fn sync(directory: &Path) -> Duration {
    let path = directory.join("sync");
    let mut file = File::create(&path).expect("a file is made");
    let mut taken = [Duration::ZERO; SYNCS];
    for taken in &mut taken {
        let start = Instant::now();
        file.write_all(&[7; 4_096]).expect("a file is written");
        file.sync_data().expect("a file is synced");
        *taken = start.elapsed();
    }
    fs::remove_file(path).expect("a file is removed");
    taken.sort_unstable();
    taken.get(SYNCS / 2).copied().unwrap_or_default()
}
