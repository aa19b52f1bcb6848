//! Which faults met which operations of the store, over many seeds. A cell that
//! can be met and was not means that the simulation tests less than it says.

use std::fmt::Write;

use spanstore::io::{Activations, Effect, Fault};

/// The columns, with their heads.
const EFFECTS: [(Effect, &str); 10] = [
    (Effect::Fault(Fault::Crash), "power cut"),
    (Effect::Fault(Fault::Error), "I/O error"),
    (Effect::Fault(Fault::NoSpace), "disk full"),
    (Effect::Fault(Fault::ShortWrite), "short write"),
    (Effect::Fault(Fault::DroppedPages), "dropped pages"),
    (Effect::Fault(Fault::FlippedRead), "flipped read"),
    (Effect::LostWrite, "lost write"),
    (Effect::TornWrite, "torn write"),
    (Effect::Garbage, "garbage"),
    (Effect::LostName, "lost name"),
];

/// The rows, and which of the columns they must meet, in the order of
/// [`EFFECTS`]: `x` must be met, `.` need not or cannot.
const ACTIVITIES: [(&str, &str); 12] = [
    ("append", "xxxxx.xxx."),
    ("seal", "xxxxx.xxxx"),
    ("merge", "xxxxxxxxxx"),
    ("erase", "xxxxxxxxxx"),
    ("forget", "xxxxx.xxxx"),
    ("settings", "xxxxx.xxx."),
    ("retention", "xxxxx.xxx."),
    ("backup", "xxxxx.xxxx"),
    ("recovery", "xxxx..xxxx"),
    ("close", ".........."),
    ("query", "xx...x...."),
    ("check", "xx...x...."),
];

/// The table, and the cells that were to be met and were not.
pub(crate) fn table(met: &Activations) -> (String, Vec<String>) {
    let mut text = String::from("| while |");
    for (_, head) in EFFECTS {
        write!(text, " {head} |").unwrap();
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(EFFECTS.len()));
    let mut missed = Vec::new();
    for (activity, wanted) in ACTIVITIES {
        write!(text, "\n| {activity} |").expect("a text grows");
        for ((effect, head), wanted) in EFFECTS.iter().zip(wanted.chars()) {
            let count = met.get(&(*effect, activity)).copied().unwrap_or(0);
            match (count, wanted) {
                (0, 'x') => {
                    missed.push(format!("{head} while {activity}"));
                    text.push_str(" **0** |");
                }
                (0, _) => text.push_str(" |"),
                (count, _) => write!(text, " {count} |").expect("a text grows"),
            }
        }
    }
    text.push('\n');
    (text, missed)
}
