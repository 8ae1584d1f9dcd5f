//! A disk that fails on demand, and records what a power loss would leave of it.
//!
//! Calls go to the real file system, so a store under test runs as it always does. A [`Disk`] installed over a
//! directory records each call that changes something below it. From these records, [`Disk::lay_out`] builds what the
//! directory would hold after a power loss at any point. Bytes that were not synced may survive or not, in units of 512
//! bytes and in any combination. The same is true of names that were created, moved or removed since their directory
//! was synced.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::sync::{Rank, RankedMutex, RankedRwLock, lock, read, write};

/// Bytes that reach the disk together or not at all.
const SECTOR: usize = 512;

/// The number of a file.
type Inode = usize;

/// A recorded call.
#[derive(Debug, Clone)]
enum Op {
    Write(Inode, u64, Vec<u8>),
    SetLen(Inode, u64),
    Sync(Inode),
    /// The kernel forgets that the pages were dirty: a later sync does not write them.
    SyncFailed(Inode),
    Name(NameOp),
    SyncDirectory(PathBuf),
}

/// A change of a directory.
#[derive(Debug, Clone)]
enum NameOp {
    Make(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(Inode),
    Directory,
}

/// When calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// The number of the first call that fails, counted from 0 over the calls that change something.
    pub(crate) first: u64,
    /// The number of calls that fail.
    pub(crate) calls: u64,
    /// The error number of the failure.
    pub(crate) errno: i32,
}

#[derive(Debug, Default)]
struct State {
    ops: Vec<Op>,
    names: BTreeMap<PathBuf, Node>,
    inodes: usize,
    calls: u64,
    fault: Option<Fault>,
}

/// A watched directory.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    state: RankedMutex<State>,
}

static DISKS: RankedRwLock<Vec<Weak<Disk>>> = RankedRwLock::new(Rank::Disks, Vec::new());

fn disk_of(path: &Path) -> Option<Arc<Disk>> {
    let disks = read(&DISKS);
    let mut all = disks.iter().filter_map(Weak::upgrade);
    all.find(|disk| path.starts_with(&disk.root))
}

/// How much of the unsynced data survives.
#[derive(Debug)]
pub(crate) enum Luck {
    /// Nothing.
    None,
    /// All of it.
    All,
    /// Anything.
    Any(Box<StdRng>),
}

impl Luck {
    fn keeps(&mut self) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Any(random) => random.random_bool(0.5),
        }
    }
}

/// A change of a file, and whether it is on disk.
struct Change {
    op: Op,
    durable: bool,
    /// A sync of it failed, so no later sync writes it to disk.
    forgotten: bool,
}

impl Disk {
    /// Watches the directory `root` until this is dropped. Its present content counts as durable.
    pub(crate) fn install(root: &Path) -> Arc<Self> {
        let disk = Arc::new(Self {
            root: root.to_path_buf(),
            state: RankedMutex::new(Rank::Disk, Default::default()),
        });
        let mut disks = write(&DISKS);
        disks.retain(|disk| disk.strong_count() > 0);
        disks.push(Arc::downgrade(&disk));
        disk
    }

    /// Sets which calls fail; `None`: no call fails.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        lock(&self.state).fault = fault;
    }

    /// Returns the number of calls that changed something.
    pub(crate) fn calls(&self) -> u64 {
        lock(&self.state).calls
    }

    /// Returns the number of recorded calls: the present point in time, for [`Self::lay_out`].
    pub(crate) fn now(&self) -> usize {
        lock(&self.state).ops.len()
    }

    /// Returns the points in time before and after each sync.
    pub(crate) fn sync_points(&self) -> Vec<usize> {
        let state = lock(&self.state);
        let is_sync =
            |op: &Op| matches!(op, Op::Sync(_) | Op::SyncFailed(_) | Op::SyncDirectory(_));
        let at = state.ops.iter().enumerate();
        let syncs = at.filter(|(_, op)| is_sync(op));
        syncs.flat_map(|(index, _)| [index, index + 1]).collect()
    }

    /// Writes to `target` what the directory would hold after a power loss at `moment`.
    pub(crate) fn lay_out(&self, moment: usize, luck: &mut Luck, target: &Path) {
        let state = lock(&self.state);
        let ops = &state.ops[..moment.min(state.ops.len())];
        let mut files: Vec<Vec<Change>> = Vec::new();
        files.resize_with(state.inodes, Vec::new);
        let mut names: Vec<(NameOp, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Write(inode, ..) | Op::SetLen(inode, _) => files[*inode].push(Change {
                    op: op.clone(),
                    durable: false,
                    forgotten: false,
                }),
                Op::Sync(inode) => {
                    let changes = files[*inode].iter_mut();
                    changes.for_each(|one| one.durable |= !one.forgotten);
                }
                Op::SyncFailed(inode) => {
                    let changes = files[*inode].iter_mut();
                    changes.for_each(|one| one.forgotten |= !one.durable);
                }
                Op::Name(name) => names.push((name.clone(), false)),
                Op::SyncDirectory(directory) => {
                    for (name, durable) in &mut names {
                        *durable |= name.touches(directory);
                    }
                }
            }
        }
        let names = settle_names(&names, luck);
        for (path, node) in &names {
            let at = target.join(path);
            // An entry is lost if its directory did not survive.
            if !at.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Directory => fs::create_dir(at).unwrap(),
                Node::File(inode) => fs::write(at, settle_file(&files[*inode], luck)).unwrap(),
            }
        }
    }

    /// Writes to `target` what the directory holds now, as after a kill of the process.
    pub(crate) fn lay_out_all(&self, target: &Path) {
        self.lay_out(usize::MAX, &mut Luck::All, target);
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap().to_path_buf()
    }

    /// Counts a call, and fails it if a fault is set for it.
    fn call(state: &mut State) -> io::Result<()> {
        let number = state.calls;
        state.calls += 1;
        match state.fault {
            Some(fault) if number >= fault.first && number - fault.first < fault.calls => {
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => Ok(()),
        }
    }

    fn name(&self, real: impl FnOnce() -> io::Result<()>, op: NameOp) -> io::Result<()> {
        let mut state = lock(&self.state);
        Self::call(&mut state)?;
        real()?;
        op.apply(&mut state.names);
        state.ops.push(Op::Name(op));
        Ok(())
    }
}

impl NameOp {
    fn touches(&self, directory: &Path) -> bool {
        let is_in = |path: &Path| path.parent() == Some(directory);
        match self {
            Self::Make(path, _) | Self::Remove(path) => is_in(path),
            // A rename is one journal entry of the file system, whichever directory is synced.
            Self::Rename(from, to) => is_in(from) || is_in(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Make(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            Self::Remove(path) => {
                names.retain(|name, _| !name.starts_with(path));
            }
        }
    }
}

fn settle_names(ops: &[(NameOp, bool)], luck: &mut Luck) -> BTreeMap<PathBuf, Node> {
    let mut names = BTreeMap::new();
    for (op, durable) in ops {
        if *durable || luck.keeps() {
            op.apply(&mut names);
        }
    }
    names
}

fn settle_file(changes: &[Change], luck: &mut Luck) -> Vec<u8> {
    let mut content = Vec::new();
    for change in changes {
        match &change.op {
            Op::SetLen(_, length) if change.durable || luck.keeps() => {
                content.resize(*length as usize, 0);
            }
            Op::Write(_, offset, bytes) => {
                let mut at = *offset as usize;
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (piece, tail) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    if change.durable || luck.keeps() {
                        content.resize(content.len().max(at + piece.len()), 0);
                        content[at..at + piece.len()].copy_from_slice(piece);
                    }
                    at += piece.len();
                    rest = tail;
                }
            }
            _ => {}
        }
    }
    content
}

/// A file that may be in a watched directory.
#[derive(Debug)]
pub(crate) struct File {
    file: fs::File,
    watched: Option<(Arc<Disk>, Inode)>,
    position: u64,
}

impl File {
    /// Like `std::fs::File::create`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let Some(disk) = disk_of(path) else {
            return Ok(Self::unwatched(fs::File::create(path)?));
        };
        let mut state = lock(&disk.state);
        Disk::call(&mut state)?;
        let file = fs::File::create(path)?;
        let name = disk.relative(path);
        let inode = match state.names.get(&name) {
            Some(&Node::File(inode)) => {
                state.ops.push(Op::SetLen(inode, 0));
                inode
            }
            _ => {
                let inode = state.inodes;
                state.inodes += 1;
                let op = NameOp::Make(name, Node::File(inode));
                op.apply(&mut state.names);
                state.ops.push(Op::Name(op));
                inode
            }
        };
        drop(state);
        Ok(Self {
            file,
            watched: Some((disk, inode)),
            position: 0,
        })
    }

    /// Like `std::fs::File::open`.
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::unwatched(fs::File::open(path)?))
    }

    fn unwatched(file: fs::File) -> Self {
        Self {
            file,
            watched: None,
            position: 0,
        }
    }

    /// Like the method of [`fs::File`].
    pub(crate) fn metadata(&self) -> io::Result<fs::Metadata> {
        self.file.metadata()
    }

    /// Like the method of [`fs::File`].
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    /// Like the method of [`fs::File`].
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        let Some((disk, inode)) = &self.watched else {
            return self.file.sync_data();
        };
        let mut state = lock(&disk.state);
        let called = Disk::call(&mut state);
        state.ops.push(match called {
            Ok(()) => Op::Sync(*inode),
            Err(_) => Op::SyncFailed(*inode),
        });
        called
    }

    /// Like the method of [`fs::File`].
    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        if let Some((disk, inode)) = &self.watched {
            let mut state = lock(&disk.state);
            Disk::call(&mut state)?;
            self.file.set_len(length)?;
            state.ops.push(Op::SetLen(*inode, length));
            return Ok(());
        }
        self.file.set_len(length)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some((disk, inode)) = &self.watched else {
            return self.file.write(bytes);
        };
        let mut state = lock(&disk.state);
        let called = Disk::call(&mut state);
        // A failed write may have written a part of the bytes.
        let written = match called {
            Ok(()) => bytes,
            Err(_) => &bytes[..bytes.len() / 2],
        };
        self.file.write_all_at(written, self.position)?;
        let op = Op::Write(*inode, self.position, written.to_vec());
        state.ops.push(op);
        self.position += written.len() as u64;
        called.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens an existing file for writing.
pub(crate) fn open_for_writing(path: &Path) -> io::Result<File> {
    let file = fs::File::options().write(true).open(path)?;
    let Some(disk) = disk_of(path) else {
        return Ok(File::unwatched(file));
    };
    let node = lock(&disk.state).names.get(&disk.relative(path)).copied();
    let Some(Node::File(inode)) = node else {
        return Ok(File::unwatched(file));
    };
    Ok(File {
        file,
        watched: Some((disk, inode)),
        position: 0,
    })
}

/// Like `FileExt::read_exact_at`.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.file.read_exact_at(buffer, offset)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    let Some(disk) = disk_of(directory) else {
        return fs::File::open(directory)?.sync_all();
    };
    let mut state = lock(&disk.state);
    Disk::call(&mut state)?;
    let op = Op::SyncDirectory(disk.relative(directory));
    state.ops.push(op);
    Ok(())
}

fn with_name(
    path: &Path,
    real: impl FnOnce() -> io::Result<()>,
    op: fn(PathBuf) -> NameOp,
) -> io::Result<()> {
    match disk_of(path) {
        Some(disk) => disk.name(real, op(disk.relative(path))),
        None => real(),
    }
}

/// Like `std::fs::remove_file`.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    with_name(path, || fs::remove_file(path), NameOp::Remove)
}

/// Like `std::fs::remove_dir_all`.
pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    with_name(path, || fs::remove_dir_all(path), NameOp::Remove)
}

/// Like `std::fs::create_dir`.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    let make = |name| NameOp::Make(name, Node::Directory);
    with_name(path, || fs::create_dir(path), make)
}

/// Like `std::fs::create_dir_all`.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent)?;
    }
    create_dir(path)
}

/// Like `std::fs::rename`.
pub(crate) fn rename(from: &Path, to: impl AsRef<Path>) -> io::Result<()> {
    let to = to.as_ref();
    let real = || fs::rename(from, to);
    match disk_of(from) {
        Some(disk) => disk.name(real, NameOp::Rename(disk.relative(from), disk.relative(to))),
        None => real(),
    }
}

/// Like `std::fs::hard_link`.
pub(crate) fn hard_link(from: &Path, to: impl AsRef<Path>) -> io::Result<()> {
    let to = to.as_ref();
    let real = || fs::hard_link(from, to);
    let Some(disk) = disk_of(from) else {
        return real();
    };
    let node = lock(&disk.state).names.get(&disk.relative(from)).copied();
    match node {
        Some(node) => disk.name(real, NameOp::Make(disk.relative(to), node)),
        None => real(),
    }
}

/// Like `std::fs::copy`.
pub(crate) fn copy(from: &Path, to: impl AsRef<Path>) -> io::Result<u64> {
    let bytes = fs::read(from)?;
    File::create(to.as_ref())?.write_all(&bytes)?;
    Ok(bytes.len() as u64)
}
