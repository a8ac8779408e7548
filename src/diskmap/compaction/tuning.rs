//! What compaction goes by: settings and strategy, which may change while a map is open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::backpressure::Thresholds;
use super::size_tiered::SizeTiered;
use super::strategy::{Choice, CompactionStrategy, Offer, TARGET_BYTES};
use crate::Result;
use crate::events::{EventLevel, EventRing};
use crate::settings::CompactionSettings;

#[derive(Debug)]
pub(super) struct Tuning {
    current: RwLock<Current>,
    /// Of `current`, for those who ask often.
    enabled: AtomicBool,
    rate_bytes: AtomicU64,
    thresholds_off: AtomicBool,
}

#[derive(Debug)]
struct Current {
    settings: CompactionSettings,
    /// The strategy is the embedder's; otherwise the settings say what it is.
    is_own: bool,
    strategy: Arc<dyn CompactionStrategy>,
}

impl Tuning {
    pub(super) fn new(
        settings: CompactionSettings,
        own: Option<Arc<dyn CompactionStrategy>>,
        events: &Arc<EventRing>,
    ) -> Self {
        let is_own = own.is_some();
        let strategy = in_force(&settings, own, events);
        Self {
            current: RwLock::new(Current { settings, is_own, strategy }),
            enabled: AtomicBool::new(settings.enabled),
            rate_bytes: AtomicU64::new(settings.rate_bytes),
            thresholds_off: AtomicBool::new(Thresholds::of(&settings).is_off()),
        }
    }

    pub(super) fn settings(&self) -> CompactionSettings {
        self.current.read().settings
    }

    pub(super) fn strategy(&self) -> Arc<dyn CompactionStrategy> {
        Arc::clone(&self.current.read().strategy)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub(super) fn rate_bytes(&self) -> u64 {
        self.rate_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds::of(&self.current.read().settings)
    }

    pub(super) fn is_thresholds_off(&self) -> bool {
        self.thresholds_off.load(Ordering::Acquire)
    }

    /// Replaces the settings by what `change` makes of them; nobody else changes them meanwhile.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&CompactionSettings) -> Result<CompactionSettings>,
    ) -> Result<()> {
        let mut current = self.current.write();
        let settings = change(&current.settings)?;
        settings.validate()?;
        current.settings = settings;
        if !current.is_own {
            current.strategy = Arc::new(size_tiered(&settings));
        }
        self.enabled.store(settings.enabled, Ordering::Release);
        self.rate_bytes.store(settings.rate_bytes, Ordering::Relaxed);
        self.thresholds_off.store(Thresholds::of(&settings).is_off(), Ordering::Release);
        Ok(())
    }

    /// Another strategy; without one, what the settings say.
    pub(super) fn set_strategy(
        &self,
        own: Option<Arc<dyn CompactionStrategy>>,
        events: &Arc<EventRing>,
    ) {
        let mut current = self.current.write();
        current.is_own = own.is_some();
        let strategy = in_force(&current.settings, own, events);
        let old = std::mem::replace(&mut current.strategy, strategy);
        drop(current);
        // It may run code of the embedder's.
        drop(old);
    }
}

fn in_force(
    settings: &CompactionSettings,
    own: Option<Arc<dyn CompactionStrategy>>,
    events: &Arc<EventRing>,
) -> Arc<dyn CompactionStrategy> {
    match own {
        Some(_) => Arc::new(Contained { strategy: own, events: Arc::clone(events) }),
        None => Arc::new(size_tiered(settings)),
    }
}

fn size_tiered(settings: &CompactionSettings) -> SizeTiered {
    let width = |width| usize::try_from(width).unwrap_or(usize::MAX);
    SizeTiered::default()
        .with_size_ratio(settings.size_ratio_percent as f64 / 100.0)
        .with_min_merge_width(width(settings.min_width))
        .with_max_merge_width(match settings.max_width {
            0 => usize::MAX,
            limit => width(limit),
        })
        .with_space_percent(settings.space_percent)
        .with_target_bytes(settings.target_bytes)
}

impl Thresholds {
    /// What the settings say of backpressure.
    fn of(settings: &CompactionSettings) -> Self {
        let set = |bytes| Some(bytes).filter(|bytes| *bytes > 0);
        Self {
            slowdown: set(settings.slowdown_bytes),
            stop: set(settings.stop_bytes),
            max_delay: Duration::from_millis(settings.max_delay_ms),
        }
    }

    /// The same in `settings`, where 0 is never: a threshold of 0 becomes 1. No delay gets shorter.
    pub(super) fn over(&self, settings: &CompactionSettings) -> CompactionSettings {
        let bytes = |threshold: Option<u64>| threshold.map_or(0, |bytes| bytes.max(1));
        let max_delay_ms = self.max_delay.as_nanos().div_ceil(1_000_000);
        CompactionSettings {
            slowdown_bytes: bytes(self.slowdown),
            stop_bytes: bytes(self.stop),
            max_delay_ms: u64::try_from(max_delay_ms).unwrap_or(u64::MAX),
            ..*settings
        }
    }
}

/// An embedder's strategy, whose panics are its own: a writer that asks for the pending bytes must
/// not end by one.
#[derive(Debug)]
struct Contained {
    /// None only while it is dropped.
    strategy: Option<Arc<dyn CompactionStrategy>>,
    events: Arc<EventRing>,
}

impl Contained {
    fn ask<R>(&self, otherwise: R, ask: impl FnOnce(&dyn CompactionStrategy) -> R) -> R {
        let asked = || self.strategy.as_deref().map(ask);
        let answer = catch_unwind(AssertUnwindSafe(asked)).inspect_err(|_| self.report());
        answer.ok().flatten().unwrap_or(otherwise)
    }

    fn report(&self) {
        let text = "the compaction strategy panicked: it counts as choosing nothing";
        self.events.push_once(text, EventLevel::Error, text);
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let strategy = self.strategy.take();
        if catch_unwind(AssertUnwindSafe(|| drop(strategy))).is_err() {
            self.report();
        }
    }
}

impl CompactionStrategy for Contained {
    fn name(&self) -> &'static str {
        self.ask("", |strategy| strategy.name())
    }

    fn wants_space(&self, total: u64, largest: u64) -> bool {
        self.ask(false, |strategy| strategy.wants_space(total, largest))
    }

    fn choose(&self, offer: &Offer<'_>) -> Choice {
        self.ask(Choice::Nothing, |strategy| strategy.choose(offer))
    }

    fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64 {
        self.ask(0, |strategy| strategy.pending_compaction_bytes(offer))
    }

    fn target_bytes(&self) -> u64 {
        // A merge that takes no segment would be chosen again and again.
        self.ask(TARGET_BYTES, |strategy| strategy.target_bytes()).max(1)
    }
}
