//! House rules that no other tool checks: lengths, where C may be spoken, words that do not belong,
//! and documents that agree with what they describe.
//!
//! Each rule is a test that lists all violations with file and line. Exceptions stand at the top.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;

/// Files whose lines may be longer, and why.
const LONG_LINES: &[(&str, &str)] = &[
    ("go/settings/settings.go", "a struct tag cannot be broken"),
    ("go/internal/ffi/blocktier.h", "made by cbindgen"),
];

/// Functions that may be longer, and why.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[
    ("tests/diskmap_compaction.rs", "one subject, a test after the other"),
    ("tests/diskmap_concurrent.rs", "one subject, a test after the other"),
    ("tests/diskmap_durable_compaction.rs", "one subject, a test after the other"),
    ("tests/diskmap_model.rs", "one subject, a test after the other"),
];

/// Folders and files that are not ours to look at.
const SKIPPED: &[&str] = &["target", "build", ".git", "tests/data", "Cargo.lock"];

/// Words that must not appear anywhere: paths of somebody's machine, and notes to self. Taken apart
/// here so that this file passes.
const BANNED: &[[&str; 2]] = &[
    ["/wo", "rk/"],
    ["/ro", "ot/"],
    ["/ho", "me/"],
    ["/tmp/", "bt"],
    ["TO", "DO"],
    ["FIX", "ME"],
    ["XX", "X "],
];

struct Source {
    /// From the root, with `/`.
    name: String,
    text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.name).extension().is_some_and(|found| found == extension)
    }

    fn is_code(&self) -> bool {
        self.is("rs") || self.is("go")
    }

    fn is_test(&self) -> bool {
        let name = &self.name;
        name.starts_with("tests/") || name.ends_with("_test.go") || name.ends_with("tests.rs")
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every text file of the project.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = path.to_str().unwrap().replace('\\', "/");
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                sources.push(Source { name, text });
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    sources
}

/// Fails with all violations of a rule.
fn report(rule: &str, violations: &[String]) {
    let mut text = String::new();
    for violation in violations {
        writeln!(text, "  {violation}").unwrap();
    }
    assert!(violations.is_empty(), "{rule}; {} violations:\n{text}", violations.len());
}

fn is_listed(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(listed, _)| *listed == name)
}

#[test]
fn exceptions_are_still_there() {
    let names: Vec<_> = LONG_LINES.iter().chain(LONG_FILES).map(|(name, _)| *name).collect();
    let gone: Vec<_> = names.iter().filter(|name| !root().join(name).is_file()).collect();
    assert!(gone.is_empty(), "exceptions for files that are gone: {gone:?}");
}

#[test]
fn lines_are_short() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.is_code()) {
        if is_listed(LONG_LINES, &source.name) {
            continue;
        }
        for (number, line) in source.lines() {
            let columns = line.chars().count();
            // An address cannot be broken.
            if columns > COLUMNS_MAX && !line.contains("://") {
                violations.push(format!("{}:{number}: {columns}", source.name));
            }
        }
    }
    report(&format!("a line has at most {COLUMNS_MAX} columns"), &violations);
}

#[test]
fn files_are_short() {
    let violations: Vec<_> = sources()
        .iter()
        .filter(|source| source.is_code() && !is_listed(LONG_FILES, &source.name))
        .map(|source| (source.text.lines().count(), &source.name))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, name)| format!("{name}: {lines}"))
        .collect();
    report(&format!("a file has at most {FILE_LINES_MAX} lines"), &violations);
}

/// The name of the function that a line begins, for code as rustfmt and gofmt leave it.
fn function_start(line: &str, go: bool) -> Option<String> {
    let trimmed = line.trim_start();
    if go {
        return line.strip_prefix("func ").map(|rest| rest.chars().take(60).collect());
    }
    let (before, after) = trimmed.split_once("fn ")?;
    let modifiers = ["pub", "pub(crate)", "pub(super)", "const", "unsafe", "extern", "\"C\""];
    if !before.split_whitespace().all(|word| modifiers.contains(&word)) {
        return None;
    }
    Some(after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn functions_are_short() {
    let mut violations = Vec::new();
    let mut functions = 0;
    for source in sources().iter().filter(|source| source.is_code() && !source.is_test()) {
        let mut open: Option<(usize, String, String)> = None;
        for (number, line) in source.lines() {
            if let Some((start, name, end)) = &open {
                if line == end {
                    let lines = number - start + 1;
                    functions += 1;
                    if lines > FUNCTION_LINES_MAX && !is_listed(LONG_FUNCTIONS, name) {
                        violations.push(format!("{}:{start}: {name}: {lines}", source.name));
                    }
                    open = None;
                }
            } else if let Some(name) = function_start(line, source.is("go")) {
                let indent = &line[..line.len() - line.trim_start().len()];
                // Declarations and one-liners end where they begin.
                if !line.trim_end().ends_with([';', '}']) {
                    open = Some((number, name, format!("{indent}}}")));
                }
            }
        }
    }
    assert!(functions > 300, "only {functions} functions were found");
    report(&format!("a function has at most {FUNCTION_LINES_MAX} lines"), &violations);
}

#[test]
fn c_is_spoken_at_the_border_alone() {
    let (foreign, import) = (concat!("extern ", "\"C\" fn"), concat!("import ", "\"C\""));
    let violations: Vec<_> = sources()
        .iter()
        .filter(|source| {
            let rust = source.is("rs") && source.text.contains(foreign);
            let go = source.is("go") && source.text.contains(import);
            let name = &source.name;
            // The test of the header reads the border's sources and names it.
            rust && !name.starts_with("src/ffi/") && name != "tests/header.rs"
                || go && !name.starts_with("go/internal/ffi/")
        })
        .map(|source| source.name.clone())
        .collect();
    report("only src/ffi exports to C, only go/internal/ffi calls it", &violations);
}

#[test]
fn banned_words_are_absent() {
    let words: Vec<String> = BANNED.iter().map(|parts| parts.concat()).collect();
    let mut violations = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                violations.push(format!("{}:{number}: {word}", source.name));
            }
        }
    }
    report("these words do not belong here", &violations);
}

#[test]
fn modules_say_what_they_are() {
    let violations: Vec<_> = sources()
        .iter()
        .filter(|source| source.is("rs") && !source.text.starts_with("//!"))
        .map(|source| source.name.clone())
        .collect();
    report("a Rust file begins with //! and what it is", &violations);
}

#[test]
fn go_has_the_header_of_the_library() {
    let (ours, theirs) = (read("include/blocktier.h"), read("go/internal/ffi/blocktier.h"));
    assert!(ours == theirs, "go/internal/ffi/blocktier.h is stale: make build copies the header");
}

#[test]
fn readme_shows_the_go_example() {
    let readme = read("README.md");
    let shown = readme.split("```go\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(shown.lines().count() > 20, "README.md shows no Go example");
    assert!(
        read("go/example_test.go").ends_with(shown),
        "README.md and go/example_test.go differ; the test's end is what README shows"
    );
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.is("md")) {
        let folder = Path::new(&source.name).parent().unwrap();
        let mut is_code = false;
        for (number, line) in source.lines() {
            is_code ^= line.starts_with("```");
            if is_code {
                continue;
            }
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path =
                    if file.is_empty() { source.name.clone().into() } else { folder.join(file) };
                let there = target.contains("://") || root().join(&path).exists();
                if !there || !has_heading(&path, anchor) {
                    violations.push(format!("{}:{number}: {target}", source.name));
                }
            }
        }
    }
    report("a link leads to a file and heading that exist", &violations);
}

/// Whether a document has the heading that an anchor names.
fn has_heading(path: &Path, anchor: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(root().join(path)) else { return anchor.is_empty() };
    let slug = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    anchor.is_empty() || text.lines().any(|line| line.starts_with('#') && slug(line) == anchor)
}

/// The names of the entries of a section of a TOML file that is written one entry per line.
fn toml_names<'a>(text: &'a str, section: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|line| *line != section).skip(1);
    let entries = lines.take_while(|line| !line.starts_with('['));
    entries.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect()
}

#[test]
fn each_dependency_has_a_reason() {
    let cargo = read("Cargo.toml");
    let mut wanted: Vec<String> = Vec::new();
    let linux = "[target.'cfg(target_os = \"linux\")'.dependencies]";
    for section in ["[dependencies]", linux, "[dev-dependencies]"] {
        wanted.extend(toml_names(&cargo, section).into_iter().map(str::to_owned));
    }
    assert!(wanted.len() > 10, "{wanted:?}");
    for source in sources().iter().filter(|source| source.name.ends_with("go.mod")) {
        let own = "github.com/blocktier/";
        let required = source.lines().map(|(_, line)| line.trim_start_matches("require ").trim());
        let direct = required.filter(|line| !line.contains("// indirect"));
        let names = direct.filter_map(|line| line.split_once(" v")).map(|(name, _)| name);
        wanted.extend(
            names.filter(|name| !name.contains(' ') && !name.starts_with(own)).map(str::to_owned),
        );
    }
    let text = read("docs/dependencies.md");
    let listed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let missing: Vec<_> =
        wanted.iter().filter(|name| !listed.contains(&name.as_str())).cloned().collect();
    report("docs/dependencies.md says why a dependency is there", &missing);
}

/// Numbers and names of the variants of a Rust enum with explicit numbers.
fn variants(file: &str, start: &str) -> Vec<(u32, String)> {
    let text = read(file);
    let body = text.split(start).nth(1).unwrap().split("\n}").next().unwrap().to_owned();
    let pairs = body.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    pairs.map(|(name, number)| (number.parse().unwrap(), name.to_owned())).collect()
}

#[test]
fn contract_lists_every_status_and_format_kind() {
    let text = read("docs/abi.md");
    let statuses = variants("src/ffi/status.rs", "pub enum blocktier_status_t {");
    assert!(statuses.len() >= 20, "{statuses:?}");
    let mut missing: Vec<String> = Vec::new();
    for (number, name) in &statuses {
        let row = format!("| {number} | `{}` |", name.trim_start_matches("BLOCKTIER_"));
        if !text.contains(&row) {
            missing.push(row);
        }
    }
    let kinds = variants("src/subtree/formats/format_error.rs", "pub enum FormatKind {");
    assert!(kinds.len() >= 18, "{kinds:?}");
    for (number, name) in &kinds {
        if !text.lines().any(|line| line.contains(&format!("| {number} | ")) && !line.contains('`'))
        {
            missing.push(format!("format kind {number}, {name}"));
        }
    }
    report("docs/abi.md lists every status and format kind", &missing);
}
