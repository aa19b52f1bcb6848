//! The only code that touches files.
//!
//! Everything goes through [`Disk`]: [`RealDisk`] is the file system,
//! [`SimulatedDisk`] keeps files in memory and can lose power. Copies of files that another
//! process may be writing are a disk too (`copied`).

mod copied;
mod disk;
mod real;
mod simulated;

pub use disk::{DirEntry, Disk, DiskFile, EntryKind, OpenMode};
pub use real::RealDisk;
pub use simulated::{
    Activations, Effect, Fault, FileKind, Operation, PlannedFault, PowerCut, Sabotage,
    SimulatedDisk,
};

pub(crate) use copied::CopiedFiles;
pub(crate) use disk::{FileWriter, is_no_space};
