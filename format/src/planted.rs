//! Bugs that tests plant to see that they are found. Only with the feature
//! `planted-bugs`, which no release has.

use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Bug {
            /// None.
            None,
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

bugs! {
    /// Blocks of segments are not verified.
    SkipBlockChecksum,
    /// Frames of the log are not verified.
    SkipFrameChecksum,
    /// The log is let go of before the catalog knows the segments.
    ReleaseLogEarly,
    /// How far the log reached for certain is not looked at.
    IgnoreSettled,
    /// Spans that are there already count towards the quota.
    CountDuplicate,
    /// One span more than the quota is let in.
    AdmitOneMore,
    /// What is forgotten is not written to the catalog.
    LoseErasure,
    /// Rows are seen before they are synced.
    PublishBeforeSync,
    /// Rows of a seal that failed are dropped from memory.
    DropUnfinishedSeal,
    /// What a full disk refused still counts towards the quota.
    KeepRefusedCount,
    /// A seal does not raise the counters of the catalog.
    LoseCounters,
    /// A seal does not name the file of recent appends.
    LoseRecent,
    /// What is replayed at open is not written and synced again.
    TrustTail,
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants a bug in place of the one before.
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u8, Ordering::SeqCst);
}

/// Whether a bug is planted.
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u8
}
