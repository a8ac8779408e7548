//! Checking the files of a durable map that nobody has open, and mending them.
//!
//! ```text
//!   store     the map's directories and manifests; manifests that have to be made again
//!   lane      one directory: its files, each segment record by record, each summary beside it
//!   ring      a map of which a killed process has left a ring: repaired once it was opened
//!   fate      what damage means: is anything lost, what must stand there instead
//!   plan      what a repair would do, and what it cannot bring back
//!   apply     the steps, each of which can be interrupted and done again
//! ```
//!
//! `segment`, `summary` and `reader` read the bytes as docs/format.md has them, with nothing of the
//! engine but the encoding of a record and of a manifest: a check that believed the engine's own
//! walk could not find its mistakes. docs/design.md, section 6, has the invariants V1..V7.
//!
//! Threads: a check runs on the caller's thread and holds no lock of the map; it reads files only.

mod apply;
mod context;
mod fate;
mod lane;
mod plan;
mod reader;
mod report;
mod ring;
mod segment;
mod store;
mod summary;

use std::path::PathBuf;

pub use context::{CheckProgress, Watch};
pub use plan::{Action, Loss, Plan, Step};
pub use report::{Finding, FindingKind, Meaning, Report, Totals};

use self::context::{Context, INTERRUPTED};
use self::lane::Lane;
use crate::diskmap::durable::Manifest;
use crate::storage::{DirLock, Storage};
use crate::{Error, Result};

const PURPOSE: &str = "repair";

/// What is checked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOptions {
    /// The map's name (setting txMapName), where a directory holds several durable maps.
    pub name: Option<String>,
    /// Bytes that telling live records from dead ones may take, at least 1 MiB. Beyond 48 bytes for
    /// each record of one directory the records are gone through several times instead. Damage
    /// takes as much again for each damaged record, and a summary that is written 40 bytes for
    /// each record of its segment.
    pub memory_bytes: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { name: None, memory_bytes: 256 << 20 }
    }
}

/// Checks every byte of a durable map that means something. `dirs` are the directories of setting
/// txMapDirs, or the map's own directories in them, in any order. Reads only.
///
/// # Errors
/// `Locked` if a living owner has the map, with who that is; `InvalidArgument` if the directories
/// are not all those of one map; `Unsupported` for files of a newer version; `WouldBlock` if the
/// map was opened meanwhile; `Directory`, `Io` where a directory cannot be read; `Corrupt` where no
/// manifest is left to go by. Damage is no error: the report has it.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use blocktier::diskmap::Wait;
/// use blocktier::diskmap::check::{CheckOptions, Meaning, verify};
/// use blocktier::runtime::Runtime;
/// use blocktier::settings::{RuntimeSettings, TxMapSettings};
/// use blocktier::storage::RealStorage;
/// use blocktier::txmap::DiskTxMap;
///
/// # let dir = tempfile::tempdir()?;
/// let runtime = Runtime::open(&RuntimeSettings::default())?;
/// let text = format!(
///     "txMapDirs = {}\ntxMapTail = 1M\ntxMapName = pool\ntxMapDurability = durable",
///     dir.path().display()
/// );
/// let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text)?)?;
/// map.set(&[7; 32], b"inpoints", 0, Wait::Allowed)?;
/// drop(map);
/// let storage = RealStorage::new(&RuntimeSettings::default());
/// let (dirs, options) = ([dir.path().to_owned()], CheckOptions::default());
/// let report = verify(&storage, &dirs, &options, &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!((report.totals.live, report.worst()), (1, Meaning::Harmless));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(
    storage: &dyn Storage,
    dirs: &[PathBuf],
    options: &CheckOptions,
    watch: Watch<'_>,
) -> Result<Report> {
    plan_repair(storage, dirs, options, watch).map(|plan| plan.report)
}

/// Checks as [`verify`] does, and says what [`repair`] would do. Reads only. An interrupted check
/// plans nothing.
///
/// # Errors
/// As for [`verify`].
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use blocktier::diskmap::check::{CheckOptions, plan_repair};
/// use blocktier::settings::RuntimeSettings;
/// use blocktier::storage::RealStorage;
///
/// let storage = RealStorage::new(&RuntimeSettings::default());
/// let dirs = ["/disk-a/maps".into(), "/disk-b/maps".into()];
/// let options = CheckOptions { name: Some("pool".to_owned()), ..CheckOptions::default() };
/// let plan = plan_repair(&storage, &dirs, &options, &mut |progress| {
///     eprintln!("{} of {} bytes", progress.done_bytes, progress.total_bytes);
///     ControlFlow::Continue(())
/// })?;
/// for loss in &plan.losses {
///     println!("lost: {loss}");
/// }
/// for step in &plan.steps {
///     println!("{step}");
/// }
/// # Ok::<(), blocktier::Error>(())
/// ```
pub fn plan_repair(
    storage: &dyn Storage,
    dirs: &[PathBuf],
    options: &CheckOptions,
    watch: Watch<'_>,
) -> Result<Plan> {
    let paths = store::resolve(storage, dirs, options.name.as_deref())?;
    store::refuse_owned(&paths)?;
    let before = revisions(storage, &paths);
    let plan = examine(storage, &paths, (options, false), watch)?;
    store::refuse_owned(&paths)?;
    if revisions(storage, &paths) != before {
        return Err(Error::WouldBlock("the map was opened while it was checked; check again"));
    }
    Ok(plan)
}

/// What [`repair`] did.
#[derive(Debug)]
pub struct Repaired {
    /// What it set out to do.
    pub plan: Plan,
    /// Steps that were done.
    pub done: usize,
    /// Nothing was done because something is lost and there was no consent to that.
    pub needs_consent: bool,
    /// It was interrupted; repairing again goes on.
    pub interrupted: bool,
}

impl Repaired {
    /// Whether everything that could be mended is.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.needs_consent && !self.interrupted && self.done == self.plan.steps.len()
    }
}

/// Mends what [`plan_repair`] says, as the map's only owner. A process map whose process was killed
/// has to be opened once before. Where something is lost it does so
/// only with `accept_loss`. Afterwards the map opens and has every intact record. What was replaced
/// is beside it, with names that end in `.aside`.
///
/// # Errors
/// As for [`verify`], and errors of writing; `Unsupported` while a killed process's ring is still
/// to be written. It can be repeated after any of them, and after a crash.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use blocktier::diskmap::Wait;
/// use blocktier::diskmap::check::{CheckOptions, repair};
/// # use blocktier::runtime::Runtime;
/// # use blocktier::settings::{RuntimeSettings, TxMapSettings};
/// # use blocktier::storage::RealStorage;
/// # use blocktier::txmap::DiskTxMap;
/// # let dir = tempfile::tempdir()?;
/// # let runtime = Runtime::open(&RuntimeSettings::default())?;
/// # let text = format!(
/// #     "txMapDirs = {}\ntxMapTail = 1M\ntxMapName = pool\ntxMapDurability = durable",
/// #     dir.path().display()
/// # );
/// # let settings = TxMapSettings::parse(&text)?;
/// # let map = DiskTxMap::open(&runtime, &settings)?;
/// # map.set(&[7; 32], b"inpoints", 0, Wait::Allowed)?;
/// # drop(map);
/// // A bit of the manifest has flipped.
/// let manifest = dir.path().join("blocktier-store-pool/MANIFEST");
/// let mut bytes = std::fs::read(&manifest)?;
/// bytes[100] ^= 4;
/// std::fs::write(&manifest, bytes)?;
/// assert!(DiskTxMap::open(&runtime, &settings).is_err());
/// let storage = RealStorage::new(&RuntimeSettings::default());
/// let (dirs, options) = ([dir.path().to_owned()], CheckOptions::default());
/// let repaired = repair(&storage, &dirs, &options, false, &mut |_| ControlFlow::Continue(()))?;
/// assert!(repaired.is_complete() && repaired.plan.losses.is_empty());
/// assert!(DiskTxMap::open(&runtime, &settings)?.exists(&[7; 32], Wait::Allowed)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn repair(
    storage: &dyn Storage,
    dirs: &[PathBuf],
    options: &CheckOptions,
    accept_loss: bool,
    watch: Watch<'_>,
) -> Result<Repaired> {
    let paths = store::resolve(storage, dirs, options.name.as_deref())?;
    let lock = |path: &PathBuf| DirLock::acquire(path, PURPOSE);
    let _locks = paths.iter().map(lock).collect::<Result<Vec<_>>>()?;
    let plan = examine(storage, &paths, (options, true), watch)?;
    let needs_consent = !accept_loss && !plan.losses.is_empty();
    let interrupted = plan.report.interrupted;
    let mut repaired = Repaired { plan, done: 0, needs_consent, interrupted };
    if needs_consent || interrupted {
        return Ok(repaired);
    }
    let total_bytes = repaired.plan.report.totals.read_bytes;
    for work in &repaired.plan.work {
        let progress = CheckProgress { done_bytes: total_bytes, total_bytes };
        if watch(progress).is_break() {
            repaired.interrupted = true;
            break;
        }
        work.apply(storage)?;
        repaired.done += 1;
    }
    Ok(repaired)
}

fn revisions(storage: &dyn Storage, paths: &[PathBuf]) -> Vec<Option<u64>> {
    let revision = |path: &PathBuf| Some(Manifest::read(storage, path).ok()??.revision);
    paths.iter().map(revision).collect()
}

/// Checks everything and plans, to look or to `mend`.
fn examine(
    storage: &dyn Storage,
    paths: &[PathBuf],
    (options, mend): (&CheckOptions, bool),
    watch: Watch<'_>,
) -> Result<Plan> {
    let mut context = Context::new(storage, options.memory_bytes, watch);
    let mut plan = Plan::default();
    let outcome = examine_all(&mut context, paths, mend, &mut plan);
    plan.report = Report {
        findings: context.findings,
        totals: context.totals,
        interrupted: matches!(outcome, Err(Error::WouldBlock(INTERRUPTED))),
    };
    if plan.report.interrupted {
        (plan.steps, plan.losses, plan.work) = (Vec::new(), Vec::new(), Vec::new());
        return Ok(plan);
    }
    outcome.map(|()| plan)
}

fn examine_all(
    context: &mut Context<'_>,
    paths: &[PathBuf],
    mend: bool,
    plan: &mut Plan,
) -> Result<()> {
    let dirs = store::load(context, paths)?;
    ring::examine(context, &dirs, mend)?;
    context.tell()?;
    for dir in &dirs {
        let (manifest, files) = (dir.manifest.clone(), dir.files.clone());
        let lane = Lane::check(context, &dir.path, manifest, files)?;
        let dangling = fate::count(context, &lane)?;
        let fates = fate::decide(context, &lane, &dangling)?;
        plan.add(dir, &lane, fates);
        context.totals.directories += 1;
        context.tell()?;
    }
    Ok(())
}
