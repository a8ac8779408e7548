//! Settings of maps that are as small as they can be, so that most records are on disk.

use std::path::Path;

use blocktier::settings::TxMapSettings;
use tempfile::TempDir;

/// Fresh directories.
pub fn temp_dirs(count: usize) -> Vec<TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

/// The smallest tail, blocks and segments over `dirs`, and what `more` says (lines of settings).
pub fn small_settings(dirs: &[impl AsRef<Path>], more: &str) -> TxMapSettings {
    let paths: Vec<_> = dirs.iter().map(|dir| dir.as_ref().display().to_string()).collect();
    let text = format!(
        "txMapDirs = {}\ntxMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n",
        paths.join("|")
    );
    // The last word about a setting counts; a text with one twice is refused.
    let base: String = text
        .lines()
        .filter(|line| !more.contains(line.split(' ').next().unwrap_or_default()))
        .map(|line| format!("{line}\n"))
        .collect();
    TxMapSettings::parse(&format!("{base}{more}")).unwrap()
}
