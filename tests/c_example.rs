//! The program that README.md shows compiles without a warning, links with the static library, and
//! does what it says. The system libraries come from the Makefile's list, so that list is enough.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo puts the libraries that it builds along with this test.
fn archive() -> PathBuf {
    let archive = std::env::current_exe().unwrap().with_file_name("libblocktier.a");
    assert!(archive.is_file(), "{} was not built", archive.display());
    archive
}

/// The libraries in the Makefile's list, which `make install` writes into the pkg-config file.
fn native_libraries() -> Vec<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let line = makefile.lines().find_map(|line| line.strip_prefix("NATIVE_LIBS := ")).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn example_compiles_links_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("example");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let built = Command::new(&compiler)
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root().join("include"))
        .arg(root().join("tests/c/example.c"))
        .arg(archive())
        .args(native_libraries())
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}, a C compiler, is needed: {error}"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let run = Command::new(&program).arg(dir.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout), "first time: new, second time: there\n");

    // A directory that is not there is an error with a text, not a crash.
    let refused = Command::new(&program).arg(dir.path().join("missing")).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.starts_with("open map: ") && text.contains("does not exist"), "{text}");
}
