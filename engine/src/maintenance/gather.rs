//! Puts small batches of unsealed rows together, beside the writer.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};

use crate::error::Error;
use crate::health::Health;
use crate::view::View;

/// How much longer than it worked the thread rests where nobody reads what comes in.
const REST: u32 = 32;
/// How often it looks up while it rests. Nothing comes in when nothing did for so long.
const NAP: Duration = Duration::from_millis(10);

/// Runs until there is no writer any more.
pub(crate) fn run(view: &View, health: &Arc<Health>, due: &Receiver<()>) {
    // What is due is looked for until there is none, so a word more changes nothing.
    let has_ended = || due.try_recv() == Err(TryRecvError::Disconnected);
    let mut seen = None;
    while let Ok(()) = due.recv() {
        while !has_ended() {
            let start = Instant::now();
            match gather_once(view) {
                Ok(true) => rest(view, start.elapsed() * REST, &mut seen, has_ended),
                Ok(false) => break,
                // Rows that do not fit together cannot be sealed either.
                Err(error) => {
                    health.poison(&error.to_string());
                    break;
                }
            }
        }
    }
}

/// Rests so long that appends lose little time, while they come and their rows are not read.
/// What was appended when it last looked up is `seen`.
fn rest(view: &View, time: Duration, seen: &mut Option<u64>, has_ended: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time && !view.has_read_loose() && !has_ended() {
        let before = seen.replace(view.next_sequence());
        if before == *seen {
            break;
        }
        sleep(NAP);
    }
}

/// Puts together what there is now.
///
/// # Errors
/// [`Error::Internal`] when rows do not fit together.
pub(crate) fn gather(view: &View) -> Result<(), Error> {
    while gather_once(view)? {}
    Ok(())
}

/// Puts some batches together; false when there are none to be.
fn gather_once(view: &View) -> Result<bool, Error> {
    let Some(loose) = view.loose() else {
        return Ok(false);
    };
    let batch = loose.gather();
    let batch = batch.map_err(|error| Error::internal("unsealed rows", &error))?;
    view.gathered(&loose, &batch);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hot::tests::{append, team};
    use crate::view::Erasures;

    #[test]
    fn it_rests_while_appends_come_and_no_longer() {
        let view = View::new(Vec::new(), Erasures::default(), 2, 0);
        let (mut seen, long) = (None, Duration::from_mins(1));
        let naps = |seen: &mut Option<u64>, time, appends: u64| {
            let looks = std::cell::Cell::new(0);
            rest(&view, time, seen, || {
                looks.set(looks.get() + 1);
                if looks.get() <= appends {
                    view.publish(Vec::new(), view.next_sequence() + 1);
                }
                looks.get() > 20
            });
            looks.get()
        };
        // One look more sees that nothing came.
        assert_eq!(naps(&mut seen, long, 3), 4);
        assert_eq!(naps(&mut seen, long, 0), 1);
        assert_eq!(naps(&mut seen, long, 1), 2);
        assert_eq!(naps(&mut seen, Duration::ZERO, 3), 0);
        // The writer has ended.
        assert_eq!(naps(&mut seen, long, 100), 21);
        let start = Instant::now();
        assert!(naps(&mut seen, 2 * NAP, 100) <= 3);
        assert!(start.elapsed() >= NAP);
        // Rows that wait are those of a team that is read.
        let acme = team(0);
        for number in 0..2 {
            let appended = append(&acme, 0, 1, &[number]);
            view.publish([(acme.clone(), appended)], view.next_sequence() + 1);
        }
        assert_eq!(naps(&mut seen, long, 3), 4);
        view.set_read(&acme);
        assert_eq!(naps(&mut seen, long, 3), 0);
        gather(&view).unwrap();
        assert_eq!(naps(&mut seen, long, 3), 4);
        let rows = view.snapshot(None, |hot| hot.all(&acme)).hot;
        assert_eq!((rows.len(), rows[0].rows.clone()), (1, 0..2));
    }
}
