//! Tests of runtime, disks, budget and events.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Weak, mpsc};
use std::time::{Duration, Instant};

use super::*;
use crate::Error;
use crate::storage::CreateOptions;

/// Longest that a test waits for something that happens at once.
const SOON: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Runtime::open(&RuntimeSettings::default()).unwrap()
}

/// Runs a job that says which thread runs it, and waits for the answer.
fn writer_of(disk: &Disk) -> std::thread::ThreadId {
    let (sender, receiver) = mpsc::channel();
    disk.submit(Box::new(move || sender.send(std::thread::current().id()).unwrap()));
    receiver.recv_timeout(SOON).unwrap()
}

/// Holds the disk's writer until the returned sender is dropped.
fn hold(disk: &Disk) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel::<()>();
    let (started, starting) = mpsc::channel();
    disk.submit(Box::new(move || {
        started.send(()).unwrap();
        let _ = wait.recv();
    }));
    starting.recv_timeout(SOON).unwrap();
    release
}

#[test]
fn jobs_run_in_order_on_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let disk = runtime.disk(dir.path()).unwrap();
    let release = hold(&disk);
    let (sender, receiver) = mpsc::channel();
    for i in 0..100 {
        let sender = sender.clone();
        disk.submit(Box::new(move || sender.send((i, std::thread::current().id())).unwrap()));
    }
    assert_eq!(disk.queue_depth(), 100);
    assert_eq!(disk.stats().snapshot().queued_jobs, 100);
    drop((release, sender));
    let ran: Vec<_> = receiver.iter().collect();
    assert!(ran.iter().enumerate().all(|(i, job)| job.0 == i && job.1 == ran[0].1));
    assert_eq!(ran.len(), 100);
    assert_ne!(ran[0].1, std::thread::current().id());
    writer_of(&disk);
    let stats = disk.stats().snapshot();
    assert_eq!(stats.queued_jobs, 0);
    assert!(stats.busy_nanos > 0);
}

#[test]
fn two_runtimes_and_two_spellings_share_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let link = other.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let (first, second) = (runtime(), runtime());
    let disk = first.disk(dir.path()).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("sub/.."), link] {
        let same = second.disk(&path).unwrap();
        assert!(Arc::ptr_eq(&disk, &same), "{}", path.display());
    }
    let different = second.disk(other.path()).unwrap();
    assert_ne!(writer_of(&disk), writer_of(&different));
    assert_eq!(first.disks().len(), 1);
    let dirs: Vec<PathBuf> = second.disks().iter().map(|disk| disk.dir().to_owned()).collect();
    let canonical = |dir: &tempfile::TempDir| dir.path().canonicalize().unwrap();
    assert_eq!(dirs, [canonical(&dir), canonical(&other)]);
}

#[test]
fn last_handle_waits_for_queued_jobs_and_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let disk = runtime.disk(dir.path()).unwrap();
    drop(runtime);
    let ran = Arc::new(AtomicUsize::new(0));
    let release = hold(&disk);
    for _ in 0..10 {
        let ran = Arc::clone(&ran);
        disk.submit(Box::new(move || {
            ran.fetch_add(1, Ordering::SeqCst);
        }));
    }
    let watch = Arc::downgrade(&disk);
    drop(release);
    drop(disk);
    assert_eq!(ran.load(Ordering::SeqCst), 10);
    assert!(watch.upgrade().is_none());
    assert!(!registry::is_known(&dir.path().canonicalize().unwrap()));
}

#[test]
fn ending_disk_is_brought_back_instead_of_getting_a_second_writer() {
    let dir = tempfile::tempdir().unwrap();
    let first = runtime();
    let disk = first.disk(dir.path()).unwrap();
    let writer = writer_of(&disk);
    drop(first);
    let release = hold(&disk);
    let dropper = std::thread::spawn(move || drop(disk));
    // The handle is gone as soon as its drop has begun; the thread is still held.
    let second = runtime();
    let canonical = dir.path().canonicalize().unwrap();
    while registry::handle_is_alive(&canonical) {
        std::thread::yield_now();
    }
    let disk = second.disk(dir.path()).unwrap();
    drop(release);
    dropper.join().unwrap();
    assert_eq!(writer_of(&disk), writer);
}

#[test]
fn disks_come_and_go_under_contention_with_one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let busy = Arc::new(AtomicBool::new(false));
    let ran = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let disk = runtime().disk(dir.path()).unwrap();
                    let (busy, ran) = (Arc::clone(&busy), Arc::clone(&ran));
                    disk.submit(Box::new(move || {
                        assert!(!busy.swap(true, Ordering::SeqCst), "two writers at once");
                        ran.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        busy.store(false, Ordering::SeqCst);
                    }));
                }
            });
        }
    });
    assert_eq!(ran.load(Ordering::SeqCst), 200);
    assert!(!registry::is_known(&dir.path().canonicalize().unwrap()));
}

#[test]
fn handle_dropped_by_its_own_job_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let disk = runtime.disk(dir.path()).unwrap();
    drop(runtime);
    let submitter = Arc::downgrade(&disk);
    let (sender, receiver) = mpsc::channel();
    let owned = Arc::clone(&disk);
    let release = hold(&disk);
    disk.submit(Box::new(move || {
        drop(owned);
        sender.send(()).unwrap();
    }));
    drop(disk);
    assert!(submitter.upgrade().is_some(), "the queued job holds the disk");
    drop(release);
    receiver.recv_timeout(SOON).unwrap();
    assert!(submitter.upgrade().is_none());
    let canonical = dir.path().canonicalize().unwrap();
    while registry::is_known(&canonical) {
        std::thread::yield_now();
    }
}

#[test]
fn panicking_job_is_counted_and_reported_and_the_next_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (runtime(), runtime());
    let disk = first.disk(dir.path()).unwrap();
    let writer = writer_of(&disk);
    second.disk(dir.path()).unwrap();
    disk.submit(Box::new(|| panic!("the block is {}", "gone")));
    disk.submit(Box::new(|| panic!("plain")));
    assert_eq!(writer_of(&disk), writer);
    assert_eq!(disk.stats().snapshot().job_panics, 2);
    for runtime in [first, second] {
        let event = runtime.events().pop().unwrap();
        assert_eq!(event.level, EventLevel::Error);
        assert!(event.text.ends_with("panicked: the block is gone"), "{}", event.text);
        assert!(event.text.contains(dir.path().to_str().unwrap()), "{}", event.text);
        assert!(runtime.events().pop().unwrap().text.ends_with("panicked: plain"));
    }
}

struct Ticker {
    ticks: mpsc::SyncSender<Instant>,
    panics: AtomicBool,
}

impl Tick for Ticker {
    fn tick(&self, now: Instant) {
        // A full channel means that nobody waits for this one.
        let _ = self.ticks.try_send(now);
        assert!(!self.panics.load(Ordering::SeqCst), "tick");
    }
}

fn ticker(panics: bool) -> (Arc<Ticker>, mpsc::Receiver<Instant>) {
    let (ticks, receiver) = mpsc::sync_channel(1);
    (Arc::new(Ticker { ticks, panics: AtomicBool::new(panics) }), receiver)
}

#[test]
fn ticker_is_called_while_idle_and_between_jobs_until_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let disk = runtime.disk(dir.path()).unwrap();
    let (owner, ticks) = ticker(false);
    let weak: Weak<dyn Tick> = Arc::downgrade(&(Arc::clone(&owner) as Arc<dyn Tick>));
    disk.register_ticker(weak.clone());
    let first = ticks.recv_timeout(SOON).unwrap();
    let second = ticks.recv_timeout(SOON).unwrap();
    assert!(second > first);
    // A queue that is never empty does not keep ticks away.
    let stop = Arc::new(AtomicBool::new(false));
    resubmit(Arc::downgrade(&disk), Arc::clone(&stop));
    for _ in 0..3 {
        ticks.recv_timeout(SOON).unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    drop(owner);
    while weak.strong_count() > 0 {
        std::thread::yield_now();
    }
    while ticks.try_recv().is_ok() {}
    assert!(ticks.recv_timeout(SOON).is_err(), "the channel's sender is gone with its owner");
    writer_of(&disk);
}

/// A job that submits itself until told to stop.
fn resubmit(disk: Weak<Disk>, stop: Arc<AtomicBool>) {
    let Some(strong) = disk.upgrade() else { return };
    strong.submit(Box::new(move || {
        if !stop.load(Ordering::SeqCst) {
            resubmit(disk, stop);
        }
    }));
}

#[test]
fn panicking_ticker_is_called_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let disk = runtime.disk(dir.path()).unwrap();
    let (bad, bad_ticks) = ticker(true);
    let (good, good_ticks) = ticker(false);
    for owner in [&bad, &good] {
        disk.register_ticker(Arc::downgrade(&(Arc::clone(owner) as Arc<dyn Tick>)));
    }
    bad_ticks.recv_timeout(SOON).unwrap();
    for _ in 0..3 {
        good_ticks.recv_timeout(SOON).unwrap();
    }
    assert!(bad_ticks.try_recv().is_err());
    assert_eq!(disk.stats().snapshot().job_panics, 1);
    assert!(runtime.events().pop().unwrap().text.contains("a timer of the writer of"));
}

#[test]
fn wrong_directories_are_errors_and_start_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let runtime = runtime();
    for path in [file, dir.path().join("missing")] {
        let error = runtime.disk(&path).unwrap_err();
        assert!(matches!(error, Error::Directory { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert!(!registry::is_known(&path));
    }
    assert!(runtime.disks().is_empty());
}

#[test]
fn settings_reach_storage_budget_and_mappings() {
    let dir = tempfile::tempdir().unwrap();
    let text = "directIo = off\noTmpfile = off\nmemoryBudget = 32M";
    let runtime = Runtime::open(&RuntimeSettings::parse(text).unwrap()).unwrap();
    assert_eq!(runtime.budget().limit(), 32 << 20);
    let file = dir.path().join("file");
    let file = runtime.storage().create(&file, &CreateOptions::default()).unwrap();
    assert!(!file.is_direct());
    assert!(!runtime.map_unlinked_file(dir.path(), 4096).unwrap().used_o_tmpfile());
    assert!(runtime.events().is_empty(), "what was switched off is no fallback");
    let automatic = Runtime::open(&RuntimeSettings::default()).unwrap();
    assert_eq!(automatic.budget().limit(), memory_limit() / 5 * 4);
    let bad = RuntimeSettings { memory_budget: Some(1), ..RuntimeSettings::default() };
    assert!(matches!(Runtime::open(&bad), Err(Error::Setting { .. })));
}

/// Only this test of the library's own selects a kernel.
#[test]
fn the_hash_kernel_is_the_process_s_and_one_that_is_missing_is_refused() {
    let open = |kernel: &str| {
        let text = format!("hashKernel = {kernel}");
        Runtime::open(&RuntimeSettings::parse(&text).unwrap())
    };
    for kernel in Sha256dKernel::ALL {
        let before = Sha256d::selected();
        match (Sha256d::new(kernel), open(kernel.name())) {
            (Ok(there), Ok(_)) => assert_eq!(Sha256d::selected(), there),
            (Err(_), Err(Error::Unsupported(text))) => {
                assert!(text.contains(kernel.name()), "{text}");
                assert_eq!(Sha256d::selected(), before);
            }
            (there, opened) => panic!("{kernel:?}: {there:?}, {opened:?}"),
        }
    }
    assert_eq!(Sha256d::selected().kernel(), Sha256dKernel::Portable, "the last of them");
    open("auto").unwrap();
    assert_eq!(Sha256d::selected().kernel(), Sha256dKernel::Portable, "auto changes nothing");
    Sha256d::new(Sha256dKernel::Auto).unwrap().select();
}
