//! The committed C header is exactly what the sources give.
//!
//! `UPDATE_HEADER=1 cargo test --test header` writes it anew.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which a reader meets them.
    for part in [
        "status",
        "layout",
        "runtime",
        "txmap",
        "txmap_batch",
        "txmap_cursor",
        "txmap_rotate",
        "txmap_compaction",
        "check",
        "node_array",
        "merkle",
        "merkle_changes",
        "subtree",
        "subtree_directory",
    ] {
        builder = builder.with_src(root.join(format!("src/ffi/{part}.rs")));
    }
    let bindings = builder.generate().expect("cbindgen reads src/ffi");
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn header_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/blocktier.h");
    let generated = generated();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "include/blocktier.h is stale: UPDATE_HEADER=1 cargo test --test header"
    );
}

#[test]
fn every_entry_and_status_is_in_the_header() {
    let header = generated();
    let ffi = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut entries = 0;
    for file in std::fs::read_dir(ffi).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in source.lines().filter(|line| line.contains("extern \"C\" fn ")) {
            let name = line.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            assert!(header.contains(&format!("{name}(")), "{name} is not in the header");
            entries += 1;
        }
    }
    assert!(entries > 30, "only {entries} entries were found");
    for status in ["BLOCKTIER_OK = 0", "BLOCKTIER_WOULD_BLOCK = 5", "BLOCKTIER_FORMAT = 19"] {
        assert!(header.contains(status), "{status}");
    }
}
