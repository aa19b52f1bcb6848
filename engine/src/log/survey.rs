//! Reads all files of a log without changing anything, and goes on behind
//! damage: for `check`, and for `repair`, which keeps what is still good.

use std::ops::Range;
use std::path::{Path, PathBuf};

use spanstore_format::FormatError;
use spanstore_format::log::frame::{FILE_HEADER_BYTES, FileFrames, FileHeader, FileSummary, Tail};

use super::files::{LogNames, file_path, read};
use super::open::{Each, LogBounds, PART};
use crate::error::Error;
use crate::io::{Disk, OpenMode};

/// What a read of a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogSurvey {
    /// The files that are not sealed, in order.
    pub(crate) files: Vec<SurveyedFile>,
    /// What is wrong; empty when nothing is.
    pub(crate) damage: Vec<LogDamage>,
    /// Bytes at the end that were never settled: an unfinished write, which the
    /// next open cuts off. No damage.
    pub(crate) torn_bytes: u64,
}

/// A file of a log that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SurveyedFile {
    pub(crate) path: PathBuf,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its good frames, also those that are sealed.
    pub(crate) frames: u64,
    /// From the first sequence of its good frames to the one after the last.
    pub(crate) sequences: Range<u64>,
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogDamage {
    /// The file.
    pub(crate) path: PathBuf,
    /// The place in it, what was expected there and what was found.
    pub(crate) source: FormatError,
    /// The sequences of records that are lost by it; may be empty.
    pub(crate) lost: Range<u64>,
}

/// Reads the log in a directory. Hands each good record that is not sealed to
/// `each`, in order and once, also those behind damage.
///
/// The log may be in use, as long as no file of it is released meanwhile: when
/// `first_unsealed` has changed by the end, ask again. `bounds` are to be taken
/// before the call.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be listed; what `each` answers. Files
/// that cannot be read are damage.
pub(crate) fn survey(
    disk: &dyn Disk,
    directory: &Path,
    bounds: LogBounds,
    each: &mut Each<'_>,
) -> Result<LogSurvey, Error> {
    let names = LogNames::list(disk, directory)?;
    let (_, firsts) = names.split(bounds.first_unsealed);
    let mut reading = Reading {
        survey: LogSurvey::default(),
        next: bounds.first_unsealed,
        place: (file_path(directory, bounds.first_unsealed), 0),
        before: None,
    };
    for (place, first) in firsts.iter().enumerate() {
        let path = file_path(directory, *first);
        let bytes = match read(disk, &path) {
            Ok((_, bytes)) => bytes,
            Err(error) => {
                reading.damage(path, 0, "a readable file", &error.to_string());
                reading.before = None;
                continue;
            }
        };
        let following = firsts.get(place + 1);
        let frames = match FileFrames::read(&bytes) {
            Ok(frames) => {
                reading.check_header(&path, *first, frames.header());
                frames
            }
            Err(source) => {
                reading.survey.damage.push(LogDamage {
                    path: path.clone(),
                    source,
                    lost: 0..0,
                });
                reading.before = None;
                // The file after it knows its mark, and so does its first frame.
                let mark = following
                    .and_then(|next| header(disk, &file_path(directory, *next))?.predecessor)
                    .filter(|named| named.first_sequence == *first)
                    .map(|named| named.mark);
                let Some(mark) = mark.or_else(|| FileFrames::first_mark(&bytes)) else {
                    continue;
                };
                let header = FileHeader {
                    first_sequence: *first,
                    mark,
                    predecessor: None,
                };
                FileFrames::read_behind(header, &bytes)
            }
        };
        let settled = following.map_or(bounds.settled, |next| *next);
        reading.file(path, &frames, settled, following.is_none(), each)?;
    }
    reading.gap(bounds.settled);
    Ok(reading.survey)
}

/// The header of a file, if it is good.
fn header(disk: &dyn Disk, path: &Path) -> Option<FileHeader> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = [0; FILE_HEADER_BYTES];
    file.read_at(0, &mut bytes).ok()?;
    FileHeader::decode(&bytes).ok()
}

/// The state of a survey between two files.
struct Reading {
    survey: LogSurvey,
    /// The sequence that is to come next.
    next: u64,
    /// The file and the byte where it should stand.
    place: (PathBuf, u64),
    /// The file before, if its header was good.
    before: Option<FileSummary>,
}

impl Reading {
    fn damage(&mut self, path: PathBuf, offset: u64, expected: &str, found: &str) {
        self.survey.damage.push(LogDamage {
            path,
            source: FormatError::malformed(PART, offset, expected, found),
            lost: 0..0,
        });
    }

    /// Notes that the records up to a sequence are lost, unless none is.
    fn gap(&mut self, until: u64) {
        if self.next >= until {
            return;
        }
        let (path, offset) = self.place.clone();
        let expected = format!(
            "the frames of the sequences {} to {until} (exclusive)",
            self.next
        );
        self.survey.damage.push(LogDamage {
            path,
            source: FormatError::malformed(PART, offset, expected, "none that is good"),
            lost: self.next..until,
        });
        self.next = until;
    }

    /// The header names this file, and the file before as it is.
    fn check_header(&mut self, path: &Path, first: u64, header: FileHeader) {
        if header.first_sequence != first {
            let expected = format!("sequence {first}");
            let found = format!("sequence {}", header.first_sequence);
            self.damage(path.to_path_buf(), 16, &expected, &found);
        }
        if let Some(before) = self.before
            && header.predecessor != Some(before)
        {
            let found = header.predecessor.map_or_else(
                || "no file".to_owned(),
                |predecessor| predecessor.to_string(),
            );
            self.damage(path.to_path_buf(), 32, &before.to_string(), &found);
        }
    }

    /// Takes the frames of a file. Sequences below `settled` were on disk for
    /// certain.
    fn file(
        &mut self,
        path: PathBuf,
        frames: &FileFrames<'_>,
        settled: u64,
        is_last: bool,
        each: &mut Each<'_>,
    ) -> Result<(), Error> {
        let known = self.survey.damage.len();
        let torn = frames.summary().bytes - frames.end();
        // Behind a torn write nothing counts. Behind damage all does.
        let is_damaged = match frames.tail(settled) {
            Tail::Clean => false,
            Tail::Torn { .. } => !is_last,
            Tail::Corrupt { .. } => true,
        };
        let later = if is_damaged { frames.later() } else { &[] };
        let good = || frames.frames().iter().chain(later);
        for frame in good() {
            if frame.sequence < self.next {
                continue;
            }
            if frame.sequence >= frames.end_sequence() {
                self.place = (path.clone(), frames.end());
            }
            self.gap(frame.sequence);
            self.next = frame.sequence.saturating_add(1);
            each(frame.sequence, frame.payload)?;
        }
        self.place = (path.clone(), frames.end());
        self.gap(settled);
        if is_last && !is_damaged {
            self.survey.torn_bytes = torn;
        } else if torn > 0 && self.survey.damage.len() == known {
            let found = format!("{torn} other bytes");
            self.damage(path.clone(), frames.end(), "the end of the file", &found);
        }
        let is_whole = self.survey.damage.len() == known;
        self.before = is_whole.then(|| frames.summary());
        let first = frames.header().first_sequence;
        let sequences = good().map(|frame| frame.sequence);
        self.survey.files.push(SurveyedFile {
            path,
            bytes: frames.summary().bytes,
            frames: sequences.clone().count() as u64,
            sequences: sequences.clone().min().unwrap_or(first)
                ..sequences.max().map_or(first, |last| last.saturating_add(1)),
        });
        Ok(())
    }
}
