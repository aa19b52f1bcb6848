//! Segments that are read instead of mapped: answers are the same, and a sector
//! that the medium does not hand out is an error that names its place.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use spanstore::io::{DirEntry, Disk, DiskFile, OpenMode, SimulatedDisk};
use spanstore::otlp::Span;
use spanstore::{Error, ReadBy, Store, StoreOptions, Team, TraceId};
use spanstore_test_support::spans::{request, span, trace_id};
use spanstore_test_support::{open_on, quiet, team};

/// A disk some bytes of whose segments cannot be read.
#[derive(Debug, Clone, Default)]
struct BadSectors {
    disk: SimulatedDisk,
    bad: Arc<Mutex<Range<u64>>>,
}

#[derive(Debug)]
struct BadFile {
    file: Box<dyn DiskFile>,
    bad: Arc<Mutex<Range<u64>>>,
}

impl Disk for BadSectors {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        if path.extension().is_some_and(|one| one == "parquet") {
            let bad = Arc::clone(&self.bad);
            return Ok(Box::new(BadFile { file, bad }));
        }
        Ok(file)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.disk.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

impl DiskFile for BadFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bad = self.bad.lock().unwrap().clone();
        if offset < bad.end && bad.start < offset + out.len() as u64 {
            return Err(io::Error::other("a sector of the medium is gone"));
        }
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }
}

const SPANS: u64 = 20_000;

fn options(read_by: ReadBy, cache_bytes: usize) -> StoreOptions {
    StoreOptions {
        read_by,
        cache_bytes,
        ..quiet()
    }
}

fn filled(disk: &BadSectors) {
    let store = open_on(Arc::new(disk.clone()), "/store", quiet()).unwrap();
    let acme = store.team(&team("acme"));
    for start in (0..SPANS).step_by(5_000) {
        acme.append(request((start..start + 5_000).map(span)))
            .unwrap();
    }
    store.seal().unwrap();
    store.close().unwrap();
}

fn opened(disk: &BadSectors, read_by: ReadBy, cache_bytes: usize) -> (Store, Team) {
    let options = options(read_by, cache_bytes);
    let store = open_on(Arc::new(disk.clone()), "/store", options).unwrap();
    let acme = store.team(&team("acme"));
    (store, acme)
}

/// What every kind of look-up and query answers.
async fn answers(team: &Team) -> (Vec<Vec<Span>>, Vec<u64>, u64) {
    let spans = |found: spanstore::Spans| {
        let request = found.to_otlp().unwrap();
        let resources = request.resource_spans.into_iter();
        let scopes = resources.flat_map(|one| one.scope_spans);
        scopes.flat_map(|one| one.spans).collect::<Vec<_>>()
    };
    let found = vec![
        spans(team.trace(TraceId(trace_id(7))).unwrap()),
        spans(team.trace(TraceId(trace_id(1_999))).unwrap()),
        spans(team.session_spans("session-30").unwrap()),
        spans(team.trace(TraceId([9; 16])).unwrap()),
        spans(team.query().limit(40).spans().await.unwrap()),
    ];
    let mut counts = Vec::new();
    for filter in [
        "level = 'error'",
        "name like '%3'",
        "attributes['items'] = 5",
    ] {
        counts.push(team.query().filter(filter).unwrap().count().await.unwrap());
    }
    let exported = team
        .export()
        .unwrap()
        .map(|chunk| chunk.unwrap().len() as u64);
    (found, counts, exported.sum())
}

#[tokio::test]
async fn what_is_read_is_what_is_mapped() {
    let disk = BadSectors::default();
    filled(&disk);
    let (store, acme) = opened(&disk, ReadBy::Map, 64 << 20);
    let expected = answers(&acme).await;
    assert_eq!(expected.2, SPANS);
    assert!(expected.0[..3].iter().all(|spans| !spans.is_empty()));
    drop((store, acme));
    // With room for all blocks, for few, and for none.
    for cache_bytes in [64 << 20, 100 << 10, 1] {
        let (store, acme) = opened(&disk, ReadBy::Pread, cache_bytes);
        for _ in 0..2 {
            assert!(answers(&acme).await == expected, "{cache_bytes}");
        }
        assert!(store.check().unwrap().damage.is_empty());
    }
}

#[tokio::test]
async fn an_unreadable_sector_is_an_error_that_names_its_place() {
    let disk = BadSectors::default();
    filled(&disk);
    let (store, acme) = opened(&disk, ReadBy::Pread, 64 << 20);
    let bytes = store.segments()[0].bytes;
    let block = 16 << 10;
    let all_of = |acme: &Team| acme.export()?.collect::<Result<Vec<_>, _>>().map(drop);
    assert!(all_of(&acme).is_ok());
    drop((store, acme));
    let mut errors = 0;
    for at in (0..bytes).step_by(block * 2) {
        let (store, acme) = opened(&disk, ReadBy::Pread, 1);
        *disk.bad.lock().unwrap() = at..at + 512;
        let checked = store.check().unwrap();
        assert!(!checked.damage.is_empty(), "{at}");
        // Some blocks hold nothing that an export needs.
        if let Err(error) = all_of(&acme) {
            let Error::Io { path, source, .. } = &error else {
                panic!("{error:?}");
            };
            assert!(path.contains(".parquet at byte "), "{path}");
            assert_eq!(source.to_string(), "a sector of the medium is gone");
            errors += 1;
        }
        // It is not remembered, since the medium may have recovered.
        *disk.bad.lock().unwrap() = 0..0;
        assert!(all_of(&acme).is_ok());
        assert!(store.check().unwrap().damage.is_empty());
    }
    assert!(errors > 5, "{errors}");
}
