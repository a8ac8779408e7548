//! Checking and repairing a durable map that nobody has open: a job on a thread of its own, asked
//! from time to time how far it is.

use std::ffi::{OsStr, c_char};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::guard::{self, Guarded, HandleKind, OK};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::diskmap::check::{
    CheckOptions, CheckProgress, Repaired, Report, Totals, plan_repair, repair,
};
use crate::settings::RuntimeSettings;
use crate::storage::RealStorage;
use crate::{Error, Result};

/// Do what the check finds to be done. Without it nothing is changed.
pub const BLOCKTIER_CHECK_REPAIR: u32 = 1;
/// With BLOCKTIER_CHECK_REPAIR: do so also where something acknowledged and synced is lost.
pub const BLOCKTIER_CHECK_ACCEPT_LOSS: u32 = 2;

/// In a result: the job was cancelled.
pub const BLOCKTIER_CHECK_INTERRUPTED: u32 = 1;
/// In a result: nothing was repaired because something is lost and there was no consent to that.
pub const BLOCKTIER_CHECK_NEEDS_CONSENT: u32 = 2;

/// A check of a durable map's directories, or a repair of them.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_check_t(Guarded<Job>);

guard::handle!(blocktier_check_t, Job);

/// How far a job is.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_check_progress_t {
    /// Bytes read.
    pub done_bytes: u64,
    /// Bytes to read, about.
    pub total_bytes: u64,
    /// 1 if the job has ended.
    pub finished: u32,
    /// 0.
    pub reserved: u32,
}

/// What came of a job.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_check_result_t {
    /// Directories of the map.
    pub directories: u64,
    /// Segments that are part of the log.
    pub segments: u64,
    /// Of those, the ones with a summary that agrees with them.
    pub summaries: u64,
    /// Intact records of every kind.
    pub records: u64,
    /// Keys that the map has when it is opened.
    pub live: u64,
    /// Intact records that the map does not need.
    pub dead: u64,
    /// Bytes of the records that hold the live keys.
    pub live_bytes: u64,
    /// Bytes of all other intact records.
    pub dead_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Items of list 0.
    pub findings: u64,
    /// Items of list 1.
    pub steps: u64,
    /// Items of list 2.
    pub losses: u64,
    /// Steps that were done.
    pub steps_done: u64,
    /// The gravest meaning of a finding.
    pub worst: u32,
    /// BLOCKTIER_CHECK_INTERRUPTED, BLOCKTIER_CHECK_NEEDS_CONSENT.
    pub flags: u32,
}

/// A finding, a step of the plan, or a loss.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_check_item_t {
    /// Where in the file, in bytes; 0 for a step.
    pub offset: u64,
    /// How many bytes it is about, 0 for the file as a whole.
    pub length: u64,
    /// Of a loss: keys that lose their value, all ones if that is not known; otherwise 0.
    pub keys: u64,
    /// Of a finding: its kind. Of a step: what it does. Otherwise 0.
    pub kind: u32,
    /// Of a finding: 0 harmless, 1 can be repaired without loss, 2 something is lost. Otherwise 0.
    pub meaning: u32,
    /// Bytes of the path.
    pub path_length: u32,
    /// Bytes of the text, UTF-8.
    pub text_length: u32,
}

/// The thread and what it shares with its handle.
#[derive(Debug)]
pub(super) struct Job {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
    outcome: OnceLock<Option<Repaired>>,
    /// Why there is no outcome; told once.
    error: Mutex<Option<Error>>,
}

/// What a job is to do.
struct Request {
    dirs: Vec<PathBuf>,
    options: CheckOptions,
    flags: u32,
}

impl Job {
    fn start(request: Request) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("blocktier-check".to_owned())
            .spawn(move || of_thread.run(&request))
            .map_err(|error| Error::io("start a thread for", Path::new("check"), None, error))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, request: &Request) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work(request)));
        let outcome =
            outcome.unwrap_or_else(|panic| Err(Error::Panic(guard::panic_message(panic.as_ref()))));
        let outcome = outcome.map_err(|error| *self.error.lock() = Some(error)).ok();
        let _ = self.outcome.set(outcome);
    }

    fn work(&self, request: &Request) -> Result<Repaired> {
        let mut watch = |progress: CheckProgress| {
            self.done_bytes.store(progress.done_bytes, Ordering::Relaxed);
            self.total_bytes.store(progress.total_bytes, Ordering::Relaxed);
            if self.cancelled.load(Ordering::Acquire) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let storage = RealStorage::new(&RuntimeSettings::default());
        let Request { dirs, options, flags } = request;
        if flags & BLOCKTIER_CHECK_REPAIR != 0 {
            let accept_loss = flags & BLOCKTIER_CHECK_ACCEPT_LOSS != 0;
            return repair(&storage, dirs, options, accept_loss, &mut watch);
        }
        let plan = plan_repair(&storage, dirs, options, &mut watch)?;
        let interrupted = plan.report.interrupted;
        Ok(Repaired { plan, done: 0, needs_consent: false, interrupted })
    }

    fn repaired(&self) -> Result<&Repaired> {
        match self.outcome.get() {
            None => Err(Error::WouldBlock("the check is not finished")),
            Some(Some(repaired)) => Ok(repaired),
            Some(None) => Err(self.error.lock().take().unwrap_or(Error::Closed("check"))),
        }
    }
}

fn result_of(repaired: &Repaired) -> blocktier_check_result_t {
    let report: &Report = &repaired.plan.report;
    let totals: Totals = report.totals;
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    blocktier_check_result_t {
        directories: totals.directories,
        segments: totals.segments,
        summaries: totals.summaries,
        records: totals.records,
        live: totals.live,
        dead: totals.dead,
        live_bytes: totals.live_bytes,
        dead_bytes: totals.dead_bytes,
        read_bytes: totals.read_bytes,
        findings: report.findings.len() as u64,
        steps: repaired.plan.steps.len() as u64,
        losses: repaired.plan.losses.len() as u64,
        steps_done: repaired.done as u64,
        worst: report.worst() as u32,
        flags: flag(repaired.interrupted, BLOCKTIER_CHECK_INTERRUPTED)
            | flag(repaired.needs_consent, BLOCKTIER_CHECK_NEEDS_CONSENT),
    }
}

/// An item of a list, with its path and text; `None` behind the end.
fn item_of(
    repaired: &Repaired,
    list: u32,
    index: usize,
) -> Result<Option<(blocktier_check_item_t, &Path, &str)>> {
    let make = |path: &Path, text: &str| blocktier_check_item_t {
        offset: 0,
        length: 0,
        keys: 0,
        kind: 0,
        meaning: 0,
        path_length: path.as_os_str().len() as u32,
        text_length: text.len() as u32,
    };
    let plan = &repaired.plan;
    Ok(match list {
        0 => plan.report.findings.get(index).map(|finding| {
            let item = blocktier_check_item_t {
                offset: finding.offset,
                length: finding.length,
                kind: finding.kind as u32,
                meaning: finding.meaning as u32,
                ..make(&finding.path, &finding.text)
            };
            (item, finding.path.as_path(), finding.text.as_str())
        }),
        1 => plan.steps.get(index).map(|step| {
            let kind = step.action as u32;
            let item = blocktier_check_item_t { kind, ..make(&step.path, &step.text) };
            (item, step.path.as_path(), step.text.as_str())
        }),
        2 => plan.losses.get(index).map(|loss| {
            let item = blocktier_check_item_t {
                offset: loss.offset,
                length: loss.length,
                keys: loss.keys.unwrap_or(u64::MAX),
                ..make(&loss.path, &loss.text)
            };
            (item, loss.path.as_path(), loss.text.as_str())
        }),
        _ => return Err(Error::InvalidArgument(format!("there is no list {list}"))),
    })
}

/// Begins to check a durable map; with BLOCKTIER_CHECK_REPAIR also to repair it. `dirs` are the
/// directories of setting txMapDirs, or the map's own directories in them, in any order, one a
/// line. `name`, which may have length 0, is the map's name where a directory holds several.
/// `memory_bytes` bounds what telling live records from dead ones takes; 0 is 256 MiB. The job runs
/// on a thread of its own; `*out` must be given to blocktier_check_free.
///
/// What goes wrong, such as LOCKED for a map that somebody has open, is told by
/// blocktier_check_result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_check_start(
    dirs: *const c_char,
    dirs_length: usize,
    name: *const c_char,
    name_length: usize,
    memory_bytes: u64,
    flags: u32,
    out: *mut *mut blocktier_check_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        guard::not_null(out, "out")?;
        // SAFETY: the caller's promises for pointers and lengths.
        let (dirs, name) = unsafe {
            let dirs = guard::slice(dirs.cast::<u8>(), dirs_length, "dirs")?;
            (dirs, guard::text(name, name_length, "name")?)
        };
        if flags & !(BLOCKTIER_CHECK_REPAIR | BLOCKTIER_CHECK_ACCEPT_LOSS) != 0 {
            return Err(Error::InvalidArgument(format!("unknown flags {flags:#x}")));
        }
        let lines = dirs.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut options = CheckOptions {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            ..CheckOptions::default()
        };
        if memory_bytes != 0 {
            options.memory_bytes = memory_bytes;
        }
        let dirs = lines.map(|line| PathBuf::from(OsStr::from_bytes(line))).collect();
        let job = Job::start(Request { dirs, options, flags })?;
        let handle = blocktier_check_t(Guarded::new(HandleKind::Check, job));
        // SAFETY: not null, aligned, and the caller gave memory for one handle.
        unsafe { out.write(Box::into_raw(Box::new(handle))) };
        OK
    })
}

/// How far a job is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_check_poll(
    check: *const blocktier_check_t,
    out: *mut blocktier_check_progress_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one.
    unsafe {
        guard::call_on(check, error, |job| {
            let shared = &job.shared;
            // First: what is finished has told all of its progress.
            let finished = u32::from(shared.outcome.get().is_some());
            let progress = blocktier_check_progress_t {
                done_bytes: shared.done_bytes.load(Ordering::Relaxed),
                total_bytes: shared.total_bytes.load(Ordering::Relaxed),
                finished,
                reserved: 0,
            };
            guard::output(out, "out", progress)?;
            OK
        })
    }
}

/// Asks a job to end early. What it found until then can be had; a repair ends between two steps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_check_cancel(
    check: *const blocktier_check_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        guard::call_on(check, error, |job| {
            job.shared.cancelled.store(true, Ordering::Release);
            OK
        })
    }
}

/// What came of a job. WOULD_BLOCK until it has ended; the error that ended it is told once, CLOSED
/// from then on. Damage is no error: it is in the lists.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_check_result(
    check: *const blocktier_check_t,
    out: *mut blocktier_check_result_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one.
    unsafe {
        guard::call_on(check, error, |job| {
            guard::not_null(out, "out")?;
            out.write(result_of(job.shared.repaired()?));
            OK
        })
    }
}

/// Item `index` of a list: 0 the findings, 1 the steps of the repair, 2 the losses. Its path goes
/// to `path`, its text to `text`; neither ends with NUL. NOT_FOUND behind the end. BUFFER_TOO_SMALL
/// where they do not fit: then only `*out`, which has their lengths, is filled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_check_item(
    check: *const blocktier_check_t,
    list: u32,
    index: usize,
    out: *mut blocktier_check_item_t,
    path: *mut c_char,
    path_capacity: usize,
    text: *mut c_char,
    text_capacity: usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        guard::call_on(check, error, |job| {
            guard::not_null(out, "out")?;
            let path_room = guard::slice_mut(path.cast::<u8>(), path_capacity, "path")?;
            let text_room = guard::slice_mut(text.cast::<u8>(), text_capacity, "text")?;
            let Some((item, path, text)) = item_of(job.shared.repaired()?, list, index)? else {
                return Ok(blocktier_status_t::BLOCKTIER_NOT_FOUND);
            };
            out.write(item);
            let (path, text) = (path.as_os_str().as_bytes(), text.as_bytes());
            let rooms = (path_room.get_mut(..path.len()), text_room.get_mut(..text.len()));
            let (Some(path_room), Some(text_room)) = rooms else {
                return Ok(blocktier_status_t::BLOCKTIER_BUFFER_TOO_SMALL);
            };
            path_room.copy_from_slice(path);
            text_room.copy_from_slice(text);
            OK
        })
    }
}

/// Frees a job; one that still runs is cancelled and waited for. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_check_free(
    check: *mut blocktier_check_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(check, error, |_| OK) }
}
