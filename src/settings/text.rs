//! From `key = value` text to checked values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::table::{Kind, SETTINGS, SettingSpec, Value};
use crate::{Error, Result};

/// The checked values of one settings text; what is not set has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    set: BTreeMap<&'static str, Value>,
}

impl Values {
    /// Reads lines of `key = value`. Empty lines and lines that start with `#` say nothing.
    ///
    /// # Errors
    /// [`Error::Setting`] for a line of another form, an unknown key (naming the nearest), a key
    /// given twice, a value that is malformed or out of range.
    pub fn parse(text: &str) -> Result<Self> {
        let mut set = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                let reason = format!("line {} is not of the form key = value", number + 1);
                return Err(error(line, reason));
            };
            let spec = find(key.trim())?;
            let value = parse_value(spec, value.trim())?;
            if set.insert(spec.key, value).is_some() {
                return Err(error(spec.key, format!("set a second time in line {}", number + 1)));
            }
        }
        Ok(Self { set })
    }

    /// These values, and of what they do not set, those of `base`.
    pub(super) fn over(mut self, base: Self) -> Self {
        for (key, value) in base.set {
            self.set.entry(key).or_insert(value);
        }
        self
    }

    /// Whether only these settings are set; the first other one otherwise.
    pub(super) fn only(&self, specs: &[&SettingSpec]) -> std::result::Result<(), &'static str> {
        let known = |key: &&&str| specs.iter().any(|spec| spec.key == **key);
        self.set.keys().find(|key| !known(key)).map_or(Ok(()), |key| Err(*key))
    }

    /// The number of a setting whose kind is a number; otherwise 0.
    #[must_use]
    pub fn number(&self, spec: &'static SettingSpec) -> u64 {
        match self.value(spec) {
            Value::Number(number) => *number,
            Value::Word(_) | Value::Text(_) => 0,
        }
    }

    /// The word of a setting whose kind is a word; otherwise empty.
    #[must_use]
    pub fn word(&self, spec: &'static SettingSpec) -> &'static str {
        match self.value(spec) {
            Value::Word(word) => word,
            Value::Number(_) | Value::Text(_) => "",
        }
    }

    /// The text of a setting whose kind is a directory or a list of them; otherwise empty.
    #[must_use]
    pub fn text(&self, spec: &'static SettingSpec) -> &str {
        match self.value(spec) {
            Value::Text(text) => text,
            Value::Number(_) | Value::Word(_) => "",
        }
    }

    /// The numbers of a setting with one for each directory; otherwise none.
    #[must_use]
    pub fn each(&self, spec: &'static SettingSpec) -> Vec<u64> {
        // Checked when it was parsed.
        parse_each(spec, self.text(spec)).unwrap_or_default()
    }

    fn value(&self, spec: &'static SettingSpec) -> &Value {
        self.set.get(spec.key).unwrap_or(&spec.default)
    }
}

pub(super) fn error(key: &str, reason: impl Into<String>) -> Error {
    Error::Setting { key: key.to_owned(), reason: reason.into() }
}

fn find(key: &str) -> Result<&'static SettingSpec> {
    if let Some(spec) = SETTINGS.iter().find(|spec| spec.key == key) {
        return Ok(spec);
    }
    let lower = key.to_lowercase();
    let distance = |spec: &&&SettingSpec| strsim::osa_distance(&spec.key.to_lowercase(), &lower);
    let nearest = SETTINGS.iter().min_by_key(distance).map_or("", |spec| spec.key);
    Err(error(key, format!("there is no such setting; the nearest is {nearest}")))
}

fn parse_value(spec: &'static SettingSpec, text: &str) -> Result<Value> {
    match spec.kind {
        Kind::Word(words) => {
            let word = words.iter().find(|&&word| word == text).copied();
            return word.map(Value::Word).ok_or_else(|| {
                error(spec.key, format!("{text:?} is not one of {}", words.join(", ")))
            });
        }
        Kind::Directory => {}
        Kind::Name => check_name(spec.key, text)?,
        Kind::Directories => check_directories(spec.key, split_directories(text))?,
        Kind::Each(_) => {
            let _ = parse_each(spec, text)?;
        }
        Kind::Bytes { .. } | Kind::Count { .. } | Kind::Millis { .. } => {
            return parse_number(spec.key, spec.kind, text).map(Value::Number);
        }
    }
    Ok(Value::Text(Cow::Owned(text.to_owned())))
}

fn parse_number(key: &'static str, kind: Kind, text: &str) -> Result<u64> {
    let number = match kind {
        Kind::Bytes { .. } => parse_bytes(key, text)?,
        Kind::Millis { .. } => parse_millis(key, text)?,
        _ => text
            .parse()
            .map_err(|_| error(key, format!("{text:?} is not a number; write digits only")))?,
    };
    check_range(key, kind, number)?;
    Ok(number)
}

fn parse_each(spec: &'static SettingSpec, text: &str) -> Result<Vec<u64>> {
    let Kind::Each(kind) = spec.kind else { return Ok(Vec::new()) };
    split_directories(text).map(|number| parse_number(spec.key, *kind, number)).collect()
}

/// Checks numbers of a setting with one for each of `directories`, or one for all, or none.
pub(super) fn check_each(spec: &SettingSpec, numbers: &[u64], directories: usize) -> Result<()> {
    let Kind::Each(kind) = spec.kind else { return Ok(()) };
    if numbers.len() > 1 && numbers.len() != directories {
        let reason = format!(
            "{} numbers for {directories} directories; give one for each, or one for all",
            numbers.len()
        );
        return Err(error(spec.key, reason));
    }
    numbers.iter().try_for_each(|&number| check_range(spec.key, *kind, number))
}

/// Checks a name that becomes part of a path.
pub(super) fn check_name(key: &'static str, text: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.len() <= 64 && text.chars().all(plain) {
        return Ok(());
    }
    let rule = "may have up to 64 letters, digits, dots, hyphens and underscores";
    Err(error(key, format!("{text:?} {rule}")))
}

/// Checks a number against the range of its setting.
pub(super) fn check_number(spec: &SettingSpec, number: u64) -> Result<()> {
    check_range(spec.key, spec.kind, number)
}

fn check_range(key: &'static str, kind: Kind, number: u64) -> Result<()> {
    let (min, max, zero) = match kind {
        Kind::Bytes { min, max, zero, .. }
        | Kind::Count { min, max, zero }
        | Kind::Millis { min, max, zero } => (min, max, zero),
        _ => return Ok(()),
    };
    if number == 0 && zero.is_some() {
        return Ok(());
    }
    let shown = format_as(kind, number);
    if !(min..=max).contains(&number) {
        let range = describe_kind(kind);
        return Err(error(key, format!("{shown} is out of range; it may be {range}")));
    }
    let power_of_two = matches!(kind, Kind::Bytes { power_of_two: true, .. });
    if power_of_two && !number.is_power_of_two() {
        let near = format_bytes(below(number));
        return Err(error(key, format!("{shown} is not a power of two; {near} is")));
    }
    Ok(())
}

/// The directories of a `|`-separated list; none for an empty text.
pub(super) fn split_directories(text: &str) -> impl Iterator<Item = &str> {
    text.split('|').map(str::trim).filter(move |_| !text.is_empty())
}

/// Refuses empty names and names given twice.
pub(super) fn check_directories<'a>(
    key: &str,
    directories: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut seen = Vec::new();
    for directory in directories {
        if directory.is_empty() {
            return Err(error(key, "an empty name between two |; remove one of them"));
        }
        if seen.contains(&directory) {
            return Err(error(key, format!("{directory} is named twice; name each disk once")));
        }
        seen.push(directory);
    }
    Ok(())
}

/// Splits digits from their unit.
fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (&text[..digits], text[digits..].trim_start())
}

fn parse_bytes(key: &str, text: &str) -> Result<u64> {
    let malformed =
        || error(key, format!("{text:?} is not a size; write digits and K, M, G or T: 256M"));
    let (digits, unit) = split_unit(text);
    let number: u64 = digits.parse().map_err(|_| malformed())?;
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err(malformed()),
    };
    number.checked_mul(1 << shift).ok_or_else(malformed)
}

fn parse_millis(key: &str, text: &str) -> Result<u64> {
    let malformed =
        || error(key, format!("{text:?} is not a duration; write digits and ms, s, m or h: 500ms"));
    let (digits, unit) = split_unit(text);
    let number: u64 = digits.parse().map_err(|_| malformed())?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if number == 0 => 0,
        _ => return Err(malformed()),
    };
    number.checked_mul(factor).ok_or_else(malformed)
}

/// The range of a setting as people read it: `256K to 4T`, `auto, off`.
pub(super) fn describe_range(spec: &SettingSpec) -> String {
    describe_kind(spec.kind)
}

fn describe_kind(kind: Kind) -> String {
    let (min, max, zero) = match kind {
        Kind::Bytes { min, max, zero, .. }
        | Kind::Count { min, max, zero }
        | Kind::Millis { min, max, zero } => (min, max, zero),
        Kind::Word(words) => return words.join(", "),
        Kind::Directory => return "a directory".to_owned(),
        Kind::Name => return "a file name of letters, digits, `.`, `-`, `_`".to_owned(),
        Kind::Directories => return "directories, separated by `|`".to_owned(),
        Kind::Each(kind) => {
            let range = describe_kind(*kind);
            return format!("one for each directory, separated by `|`, or one for all: {range}");
        }
    };
    let mut range = format!("{} to {}", format_as(kind, min), format_as(kind, max));
    if matches!(kind, Kind::Bytes { power_of_two: true, .. }) {
        range.push_str(", a power of two");
    }
    if let Some(meaning) = zero {
        range = format!("{range}; 0: {meaning}");
    }
    range
}

/// A number in the units of its setting.
pub(super) fn format_number(spec: &SettingSpec, number: u64) -> String {
    format_as(spec.kind, number)
}

fn format_as(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Bytes { .. } => format_bytes(number),
        Kind::Millis { .. } => format_millis(number),
        _ => number.to_string(),
    }
}

fn format_bytes(number: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if number != 0 && number.is_multiple_of(1 << shift) {
            return format!("{}{unit}", number >> shift);
        }
    }
    number.to_string()
}

fn format_millis(number: u64) -> String {
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if number != 0 && number.is_multiple_of(factor) {
            return format!("{}{unit}", number / factor);
        }
    }
    if number == 0 { "0".to_owned() } else { format!("{number}ms") }
}

/// The largest power of two that is not above `number`; 1 for 0.
pub(super) const fn below(number: u64) -> u64 {
    match number.checked_ilog2() {
        Some(bits) => 1 << bits,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn reason(text: &str) -> String {
        Values::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn sizes_durations_words_and_comments() {
        let values = Values::parse(
            "# a node\n\n txMapTail = 2G \r\nmemoryBudget=100MiB\ntxMapFlushAge = 500ms\n\
             txMapWriteTimeout=2m\nhugePages = off\ntxMapDirs = /a#1 | /b\nreadRingDepth = 7",
        )
        .unwrap();
        assert_eq!(values.number(&table::TX_MAP_TAIL), 2 << 30);
        assert_eq!(values.number(&table::MEMORY_BUDGET), 100 << 20);
        assert_eq!(values.number(&table::TX_MAP_FLUSH_AGE), 500);
        assert_eq!(values.number(&table::TX_MAP_WRITE_TIMEOUT), 120_000);
        assert_eq!(values.word(&table::HUGE_PAGES), "off");
        assert_eq!(values.text(&table::TX_MAP_DIRS), "/a#1 | /b");
        assert_eq!(values.number(&table::READ_RING_DEPTH), 7);
        assert_eq!(values.number(&table::TX_MAP_SEGMENT), 256 << 20);
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        assert_eq!(
            reason("txmaptial = 1G"),
            "setting txmaptial: there is no such setting; the nearest is txMapTail"
        );
        assert!(reason("dir = /x").contains("nearest is"));
        assert!(reason("directIO = off").ends_with("nearest is directIo"));
    }

    #[test]
    fn malformed_values_say_what_is_right() {
        assert!(reason("txMapTail = 1.5G").contains("write digits and K, M, G or T"));
        assert!(reason("txMapTail = G").contains("not a size"));
        assert!(reason("txMapTail = -1").contains("not a size"));
        assert!(reason("txMapTail = 99999999999999T").contains("not a size"));
        assert!(reason("txMapFlushAge = 500").contains("write digits and ms, s, m or h"));
        assert!(reason("txMapExpectedEntries = 1e9").contains("write digits only"));
        assert!(reason("directIo = yes").contains("not one of auto, off"));
        assert!(reason("txMapTail").contains("line 1 is not of the form key = value"));
        assert!(reason("txMapTail=1G\ntxMapTail=2G").contains("second time in line 2"));
    }

    #[test]
    fn ranges_are_checked_with_their_ends() {
        for good in ["txMapTail=256K", "txMapSegment=64K", "txMapSegment=16G", "txMapBlock=0"] {
            assert!(Values::parse(good).is_ok(), "{good}");
        }
        assert_eq!(
            reason("txMapTail = 255K"),
            "setting txMapTail: 255K is out of range; it may be 256K to 4T"
        );
        assert!(reason("txMapSegment = 32G").contains("64K to 16G, a power of two"));
        assert!(reason("txMapSegment = 96M").contains("not a power of two; 64M is"));
        assert!(reason("txMapTail = 0").contains("out of range"));
        assert!(reason("readRingDepth = 0").contains("1 to 4096"));
        assert!(Values::parse("txMapFlushAge = 0").is_ok());
    }

    #[test]
    fn directory_lists() {
        assert!(reason("txMapDirs = /a||/b").contains("empty name"));
        assert!(reason("txMapDirs = /a|").contains("empty name"));
        assert!(reason("txMapDirs = /a| /a").contains("named twice"));
        assert_eq!(split_directories("").count(), 0);
        let text = "txMapDirWeights = 2 | 1\ntxMapDirQuotas=10G\ntxMapDirFloors = 0|1M";
        let values = Values::parse(text).unwrap();
        assert_eq!(values.each(&table::TX_MAP_DIR_WEIGHTS), [2, 1]);
        assert_eq!(values.each(&table::TX_MAP_DIR_QUOTAS), [10 << 30]);
        assert_eq!(values.each(&table::TX_MAP_DIR_FLOORS), [0, 1 << 20]);
        assert!(values.each(&table::TX_MAP_DIRS).is_empty());
        assert!(reason("txMapDirWeights = 2|0").contains("0 is out of range; it may be 1 to 1000"));
        assert!(reason("txMapDirWeights = 2||1").contains("not a number"));
        assert!(reason("txMapDirQuotas = 1K").contains("1K is out of range"));
        assert_eq!(split_directories("/a | /b").collect::<Vec<_>>(), ["/a", "/b"]);
    }
}
