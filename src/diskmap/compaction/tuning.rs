//! What compaction goes by: settings and strategy, which may change while a map is open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::backpressure::Thresholds;
use super::size_tiered::SizeTiered;
use super::strategy::{Choice, CompactionStrategy, Offer};
use crate::events::{EventLevel, EventRing};
use crate::settings::CompactionSettings;

#[derive(Debug)]
pub(super) struct Tuning {
    current: RwLock<Current>,
    /// Of `current`, for those who ask often.
    enabled: AtomicBool,
    rate_bytes: AtomicU64,
}

#[derive(Debug)]
struct Current {
    settings: CompactionSettings,
    /// The embedder's strategy; otherwise the settings say what it is.
    own: Option<Arc<dyn CompactionStrategy>>,
    strategy: Arc<dyn CompactionStrategy>,
}

impl Tuning {
    pub(super) fn new(settings: CompactionSettings) -> Self {
        let current = Current { settings, own: None, strategy: Arc::new(size_tiered(&settings)) };
        Self {
            current: RwLock::new(current),
            enabled: AtomicBool::new(settings.enabled),
            rate_bytes: AtomicU64::new(settings.rate_bytes),
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

    pub(super) fn set(&self, settings: CompactionSettings) {
        let mut current = self.current.write();
        current.settings = settings;
        if current.own.is_none() {
            current.strategy = Arc::new(size_tiered(&settings));
        }
        self.enabled.store(settings.enabled, Ordering::Release);
        self.rate_bytes.store(settings.rate_bytes, Ordering::Relaxed);
    }

    /// Another strategy; without one, what the settings say.
    pub(super) fn set_strategy(
        &self,
        own: Option<Arc<dyn CompactionStrategy>>,
        events: &Arc<EventRing>,
    ) {
        let mut current = self.current.write();
        current.strategy = match own.clone() {
            Some(strategy) => Arc::new(Contained { strategy, events: Arc::clone(events) }),
            None => Arc::new(size_tiered(&current.settings)),
        };
        current.own = own;
    }

    /// Keeps what the settings say of backpressure in step with what is in force.
    pub(super) fn note_thresholds(&self, thresholds: Thresholds) {
        let settings = &mut self.current.write().settings;
        settings.slowdown_bytes = thresholds.slowdown.unwrap_or(0);
        settings.stop_bytes = thresholds.stop.unwrap_or(0);
        let delay = thresholds.max_delay.as_millis();
        settings.max_delay_ms = u64::try_from(delay).unwrap_or(u64::MAX);
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

/// What the settings say of backpressure.
pub(super) fn thresholds(settings: &CompactionSettings) -> Thresholds {
    let set = |bytes| Some(bytes).filter(|bytes| *bytes > 0);
    Thresholds {
        slowdown: set(settings.slowdown_bytes),
        stop: set(settings.stop_bytes),
        max_delay: Duration::from_millis(settings.max_delay_ms),
    }
}

/// An embedder's strategy, whose panics are its own: a writer that asks for the pending bytes must
/// not end by one.
#[derive(Debug)]
struct Contained {
    strategy: Arc<dyn CompactionStrategy>,
    events: Arc<EventRing>,
}

impl Contained {
    fn ask<R>(&self, otherwise: R, ask: impl FnOnce(&dyn CompactionStrategy) -> R) -> R {
        let asked = catch_unwind(AssertUnwindSafe(|| ask(self.strategy.as_ref())));
        asked.unwrap_or_else(|_| {
            let text = "the compaction strategy panicked: it counts as choosing nothing";
            self.events.push_once(text, EventLevel::Error, text);
            otherwise
        })
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
        self.ask(64 << 20, |strategy| strategy.target_bytes())
    }
}
