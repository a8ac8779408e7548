//! A map whose manifest names a ring: a killed process has left there what it had not written.
//!
//! The ring is not read here. Opening holds it against its checksums and puts its blocks between
//! those that are in the segments (docs/design.md, K5 to K8); until then the log behind the last
//! sync has gaps, and a repair would take the first one for its end.

use std::path::PathBuf;

use super::context::Context;
use super::report::{FindingKind, Meaning};
use super::store::{Dir, Origin};
use crate::diskmap::durable::Manifest;
use crate::diskmap::ring;
use crate::{Error, Result};

/// The ring that counts: that of the first directory, or, if its manifest is lost, of any. With
/// the file if it lies in the directory, otherwise the manifest that names it.
fn named(dirs: &[Dir]) -> Option<PathBuf> {
    let first = dirs.first().filter(|dir| dir.origin != Origin::Segments);
    let mut counting: Vec<&Dir> = dirs.iter().collect();
    counting.retain(|dir| first.is_none_or(|first| first.path == dir.path));
    let dir = counting.into_iter().find(|dir| dir.manifest.ring != 0)?;
    let file = file(dir);
    Some(if dir.files.contains(&file) { file } else { dir.path.join("MANIFEST") })
}

fn file(dir: &Dir) -> PathBuf {
    dir.path.join(name(&dir.manifest))
}

/// What the ring of a manifest is called.
pub(super) fn name(manifest: &Manifest) -> String {
    ring::file_name(manifest.identity.store_id, manifest.ring)
}

/// Says that there is a ring. Nobody may `mend` a map with one.
pub(super) fn examine(context: &mut Context<'_>, dirs: &[Dir], mend: bool) -> Result<()> {
    let Some(path) = named(dirs) else { return Ok(()) };
    if mend {
        return Err(Error::Unsupported(format!(
            "repair of a process map after a kill: {} is or names the ring with what was not \
             written yet. Open the map once first, which writes it, and close it; if it is then \
             still to be repaired, repair it. If opening is refused, its error says what to put \
             back",
            path.display()
        )));
    }
    let text = "a killed process has left a ring with what it had not written yet; opening writes \
                it, or, if the machine was restarted since, has what was synced";
    context.find(&path, 0..0, FindingKind::RingPending, Meaning::Harmless, text);
    Ok(())
}
