//! House rules that a machine can keep, checked on the sources as text. Needs no server and no network.
//!
//! | rule | why |
//! |---|---|
//! | a core imports no I/O, clock, spawn or lock and iterates no hash table | its runs must replay from their inputs |
//! | client and recipes never read the wall clock | it jumps, and a session must not |
//! | every source file begins with its page, and some file declares it | a newcomer finds things from the file tree |
//! | crates depend in one direction | a misreading of the protocol must not be tested against itself |
//! | what a manifest names is used | a user compiles nothing for nothing |
//! | versions and lints stand in the workspace, banned crates nowhere | the tree of a user stays small and free of advisories |
//! | no path of one machine | a clone works anywhere |

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Folders and files that decide and do not act.
const CORES: [&str; 6] = [
    "zk-proto/src",
    "zk-client/src/core",
    "zk-server-lite/src/tree",
    "zk-server-lite/src/session",
    "zk-server-lite/src/pipeline",
    "zk-server-lite/src/time.rs",
];

/// What no core mentions, and the reason.
const FORBIDDEN_IN_CORES: [(&str, &str); 18] = [
    ("tokio", "a runtime"),
    ("std::net::Tcp", "I/O"),
    ("std::net::Udp", "I/O"),
    ("std::net::ToSocketAddrs", "name resolution"),
    ("std::fs", "I/O"),
    ("std::io", "I/O"),
    ("std::thread", "threads"),
    ("thread_local!", "global state"),
    ("std::process", "processes"),
    ("std::env", "the environment"),
    ("Instant::now", "a clock"),
    ("SystemTime", "a clock"),
    ("async fn", "a runtime"),
    (".await", "a runtime"),
    ("Mutex", "a lock"),
    ("RwLock", "a lock"),
    ("RefCell", "interior mutability"),
    ("static mut", "global state"),
];

/// Crates that may not enter the lock file: unmaintained, with an advisory, or replaced by something smaller.
const BANNED: [&str; 7] = [
    "backoff",
    "im",
    "sized-chunks",
    "bitmaps",
    "instant",
    "adler32",
    "rustls-pemfile",
];

/// Crates that may not be older, or not be newer, than a version.
/// Whether a version is banned.
type Test = fn(Version) -> bool;

const BANNED_VERSIONS: [(&str, Test, &str); 3] = [
    (
        "rustls",
        |version| version < Version(0, 23, 45),
        "RUSTSEC-2026-0285 below 0.23.45",
    ),
    (
        "imbl",
        |version| version < Version(7, 0, 2),
        "advisories in what it pulls in below 7.0.2",
    ),
    (
        "parking_lot",
        |version| version >= Version(0, 13, 0),
        "needs a newer Rust than ours from 0.13",
    ),
];

/// Which of our crates may stand in a crate's dependencies, tests included.
const DIRECTIONS: [(&str, &[&str]); 3] = [
    ("zk-proto", &[]),
    ("zk-client", &["zk-proto"]),
    ("zk-server-lite", &["zk-proto"]),
];

/// How many crates of others a user compiles with each of ours, with and without its default features, build-time ones
/// included. Raise one only with a reason.
const TREE_LIMITS: [(&str, &[&str], usize); 5] = [
    ("zk-proto", &[], 7),
    ("zk-client", &[], 28),
    ("zk-recipes", &[], 28),
    ("zk-server-lite", &[], 57),
    ("zk-server-lite", &["--no-default-features"], 41),
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every file below `dir` whose name ends in `.<extension>`, relative to the root, without build output.
fn files(dir: &str, extensions: &[&str]) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() {
                if name != "target" && name != ".git" && !name.starts_with(".venv") {
                    walk(&path, found);
                }
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    let start = root().join(dir);
    if start.is_file() {
        found.push(start);
    } else {
        walk(&start, &mut found);
    }
    let mut names: Vec<_> = found
        .iter()
        .map(|path| {
            path.strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .filter(|path| extensions.iter().any(|extension| path.ends_with(extension)))
        .collect();
    names.sort();
    names
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let line = manifest
        .lines()
        .find(|line| line.starts_with("members"))
        .unwrap();
    line.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The source without comments, literals' contents and the test module at its end.
fn product_code(source: &str) -> String {
    let mut lines = Vec::new();
    for line in source.lines() {
        if line.trim_start() == "#[cfg(test)]" && line.starts_with('#') {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        let outside: Vec<_> = code.split('"').step_by(2).collect();
        lines.push(outside.join("\"\""));
    }
    lines.join("\n")
}

#[track_caller]
fn none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn cores_only_decide() {
    let mut offences = Vec::new();
    for path in CORES.iter().flat_map(|core| files(core, &[".rs"])) {
        for (number, line) in product_code(&read(&path)).lines().enumerate() {
            for (word, what) in FORBIDDEN_IN_CORES {
                if line.contains(word) {
                    offences.push(format!("{path}:{}: `{word}` is {what}", number + 1));
                }
            }
        }
    }
    none(
        "a core has no I/O, clock, spawn, lock or global state",
        &offences,
    );
}

#[test]
fn fs_k1_neither_client_nor_recipes_read_the_wall_clock() {
    let mut offences = Vec::new();
    for path in files("zk-client/src", &[".rs"])
        .into_iter()
        .chain(files("zk-recipes/src", &[".rs"]))
    {
        for clock in ["SystemTime", "UNIX_EPOCH"] {
            if read(&path).contains(clock) {
                offences.push(format!("{path}: `{clock}`"));
            }
        }
    }
    none(
        "a session's life is told by a clock that does not jump",
        &offences,
    );
}

/// Of the fault catalogue: those of a client's session, and of clocks as a client sees them.
#[test]
fn every_scenario_of_a_session_has_a_test() {
    let scenarios = (1..=18)
        .map(|number| format!("c{number}"))
        .chain(["k1", "k3"].map(str::to_owned));
    have_tests(&["zk-client", "zk-recipes", "tests"], scenarios);
}

/// Of the fault catalogue: those of a server that runs alone. Of a disk, of a clock as a server sees it, and of hostile
/// clients; those of peers and of an admin port have no place here.
#[test]
fn every_scenario_of_a_server_has_a_test() {
    let disk = (1..=13).map(|number| format!("d{number}"));
    let hostile = (1..=11).chain([15, 16]).map(|number| format!("m{number}"));
    let scenarios = disk.chain(hostile).chain(["k2".to_owned()]);
    have_tests(&["zk-proto", "zk-server-lite", "tests"], scenarios);
}

fn have_tests(members: &[&str], scenarios: impl Iterator<Item = String>) {
    let sources: Vec<_> = members
        .iter()
        .flat_map(|member| files(member, &[".rs"]))
        .map(|path| read(&path))
        .collect();
    let offences: Vec<_> = scenarios
        .map(|scenario| format!("fn fs_{scenario}_"))
        .filter(|name| !sources.iter().any(|source| source.contains(name)))
        .collect();
    none("each has a test that is named after it", &offences);
}

/// The workspace's profile is that of `zk-server`; whoever embeds the library decides for the whole program.
#[test]
fn fs_m16_release_builds_check_for_overflow() {
    let manifest = read("Cargo.toml");
    let release = manifest.split("[profile.release]").nth(1).unwrap();
    let release = release.split("\n[").next().unwrap();
    assert!(release.contains("\noverflow-checks = true\n"), "{release}");
}

#[test]
fn cores_iterate_no_hash_table() {
    let mut offences = Vec::new();
    for path in CORES.iter().flat_map(|core| files(core, &[".rs"])) {
        let source = read(&path);
        let lines: Vec<_> = source.lines().collect();
        for (number, what) in hash_iterations(&product_code(&source)) {
            let above = number.checked_sub(2).and_then(|above| lines.get(above));
            if !above.is_some_and(|above| above.contains(ANY_ORDER)) {
                offences.push(format!("{path}:{number}: {what}"));
            }
        }
    }
    none(
        "the order of a hash table may decide nothing: look up in it, iterate a BTreeMap or a Vec, \
         or say above the line why any order does (`tidy: any order`)",
        &offences,
    );
}

/// In a comment above a line that iterates a hash table, with the reason.
const ANY_ORDER: &str = "tidy: any order";

/// Lines that iterate something declared as a hash map, set or table in the same source.
fn hash_iterations(code: &str) -> Vec<(usize, String)> {
    const ALL: [&str; 7] = [
        ".iter()",
        ".iter_mut()",
        ".keys()",
        ".values()",
        ".values_mut()",
        ".drain(",
        ".into_iter()",
    ];
    let types = [
        "HashMap<",
        "HashSet<",
        "HashTable<",
        "HashMap::",
        "HashSet::",
        "HashTable::",
    ];
    // As they are written where they are used: `.name` for a field, `name` for a variable.
    let mut names = BTreeSet::new();
    for line in code.lines() {
        let Some(at) = types.iter().filter_map(|name| line.find(name)).min() else {
            continue;
        };
        // `name: HashMap<..>` or `let name = HashMap::..`
        let Some((before, _)) = line[..at].rsplit_once([':', '=']).filter(|(_, between)| {
            between
                .trim_start()
                .chars()
                .all(|char| char.is_lowercase() || ":_&' ".contains(char))
        }) else {
            continue;
        };
        let before = before.trim_end_matches([':', ' ']);
        let start = before
            .rfind(|char: char| !(char.is_alphanumeric() || char == '_'))
            .map_or(0, |at| at + 1);
        let name = &before[start..];
        if name.is_empty() || name.starts_with(char::is_uppercase) {
            continue;
        }
        let is_variable = line.trim_start().starts_with("let ");
        names.insert(if is_variable {
            name.to_owned()
        } else {
            format!(".{name}")
        });
    }
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for name in &names {
            let called = ALL
                .iter()
                .find(|all| is_word(line, name, &format!("{name}{all}")));
            let looped = line.split_once(" in ").is_some_and(|(start, over)| {
                let over = over
                    .trim_end_matches(['{', ' ', '}'])
                    .trim_start_matches(['&', ' ']);
                let over = over.strip_prefix("mut ").unwrap_or(over);
                let field =
                    name.starts_with('.') && over.ends_with(name.as_str()) && !over.contains('(');
                start.trim_start().starts_with("for ") && (over == name || field)
            });
            if let Some(all) = called {
                found.push((number + 1, format!("`{name}{all}`")));
            } else if looped {
                found.push((number + 1, format!("a loop over `{name}`")));
            }
        }
    }
    found
}

/// Whether `text`, which begins with `name`, stands in the line without being the end of a longer name.
fn is_word(line: &str, name: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        name.starts_with('.')
            || !line[..at].ends_with(|char: char| char.is_alphanumeric() || "_.".contains(char))
    })
}

#[test]
fn the_search_for_hash_iteration_finds_it() {
    let code = "struct A { index: HashMap<u32, u32>, list: Vec<u32> }\n\
                fn f(&self) { self.index.get(&1); self.list.iter(); }\n\
                fn g(&self) { self.index.values().sum() }\n\
                for (a, b) in &self.index { }\n\
                fn i() {\n\
                let mut seen = HashSet::new(); seen.insert(1);\n\
                for x in seen { }\n\
                }\n\
                fn j(index: &[u32]) { index.iter() }\n";
    let lines: Vec<_> = hash_iterations(code)
        .into_iter()
        .map(|(line, _)| line)
        .collect();
    assert_eq!(lines, [3, 4, 7]);
}

#[test]
fn every_file_has_its_page() {
    let all = members()
        .into_iter()
        .flat_map(|member| files(&member, &[".rs"]));
    let offences: Vec<_> = all.filter(|path| !read(path).starts_with("//!")).collect();
    none(
        "the first lines say what a file is about (`//!`)",
        &offences,
    );
}

#[test]
fn no_file_is_an_orphan() {
    let mut offences = Vec::new();
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let sources = files(&member, &[".rs"]);
        let by_path: String = sources.iter().map(|path| read(path)).collect();
        let by_path: Vec<_> = by_path
            .lines()
            .filter(|line| line.contains("#[path = "))
            .collect();
        for path in &sources {
            let inside = path.strip_prefix(&format!("{member}/")).unwrap();
            let file = Path::new(path).file_name().unwrap().to_str().unwrap();
            let named = manifest.contains(&format!("\"{inside}\""))
                || by_path
                    .iter()
                    .any(|line| line.contains(&format!("{file}\"")));
            if !is_root(inside) && !named && !is_declared(path) && !has_own_package(&member, path) {
                offences.push(path.clone());
            }
        }
    }
    none("some file must declare it with `mod`", &offences);
}

/// Whether a file belongs to a package below the member's, outside the workspace.
fn has_own_package(member: &str, path: &str) -> bool {
    let above = Path::new(path).ancestors().skip(1);
    let between = above.take_while(|dir| *dir != Path::new(member));
    between
        .into_iter()
        .any(|dir| root().join(dir).join("Cargo.toml").exists())
}

/// Files that cargo finds by itself.
fn is_root(inside: &str) -> bool {
    let parts: Vec<_> = inside.split('/').collect();
    matches!(
        parts.as_slice(),
        ["src", "lib.rs" | "main.rs"]
            | ["build.rs"]
            | ["src", "bin", _]
            | ["src", "bin", _, "main.rs"]
            | ["tests" | "benches" | "examples", _]
    )
}

fn is_declared(path: &str) -> bool {
    let path = Path::new(path);
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let (dir, name) = if stem == "mod" {
        let dir = path.parent().unwrap();
        (
            dir.parent().unwrap(),
            dir.file_name().unwrap().to_str().unwrap(),
        )
    } else {
        (path.parent().unwrap(), stem)
    };
    let mut parents = vec![
        dir.join("mod.rs"),
        dir.join("lib.rs"),
        dir.join("main.rs"),
        dir.with_extension("rs"),
    ];
    // A module of an integration test or a binary is declared by a file beside its folder.
    if let Ok(entries) = fs::read_dir(root().join(dir)) {
        parents.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|file| file.extension().is_some_and(|ext| ext == "rs")),
        );
    }
    parents.iter().any(|parent| {
        fs::read_to_string(root().join(parent)).is_ok_and(|source| {
            source.lines().any(|line| {
                let line = line.trim_start();
                let line = line.strip_prefix("pub").map_or(line, |rest| {
                    rest.trim_start_matches("(crate)")
                        .trim_start_matches("(super)")
                        .trim_start()
                });
                line.starts_with(&format!("mod {name};"))
                    || line.starts_with(&format!("mod {name} "))
            })
        })
    })
}

#[test]
fn crates_depend_in_one_direction() {
    let ours = members();
    let mut offences = Vec::new();
    for (name, allowed) in DIRECTIONS {
        for dependency in dependencies(&read(&format!("{name}/Cargo.toml"))).into_keys() {
            if ours.contains(&dependency) && !allowed.contains(&dependency.as_str()) {
                offences.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    // Recipes may use the server in their tests, never in what users compile.
    let recipes = read("zk-recipes/Cargo.toml");
    let product = recipes.split("[dev-dependencies]").next().unwrap();
    if dependencies(product).contains_key("zk-server-lite") {
        offences.push("zk-recipes depends on zk-server-lite".to_owned());
    }
    none(
        "zk-proto <- zk-client <- zk-recipes, zk-proto <- zk-server-lite",
        &offences,
    );
}

/// Name and line of every dependency of a manifest, of all kinds.
fn dependencies(manifest: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && let Some((name, value)) = line.split_once('=') {
            found.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

#[test]
fn what_a_manifest_names_is_used() {
    let mut offences = Vec::new();
    for member in members() {
        let sources: Vec<_> = files(&member, &[".rs"])
            .into_iter()
            .filter(|path| !has_own_package(&member, path))
            .map(|path| read(&path))
            .collect();
        for name in dependencies(&read(&format!("{member}/Cargo.toml"))).into_keys() {
            let name = name.replace('-', "_");
            let used = |line: &str| {
                let code = line.trim_start();
                // Examples in pages count: they are compiled.
                let is_code = ["///", "//!"].iter().any(|page| code.starts_with(page))
                    || !code.starts_with("//");
                is_code && line.contains(&format!("{name}::"))
                    || code.starts_with(&format!("use {name} "))
            };
            if !sources.iter().any(|source| source.lines().any(used)) {
                offences.push(format!("{member} names {name} and does not use it"));
            }
        }
    }
    none("no dependency without a use", &offences);
}

#[test]
fn versions_and_lints_stand_in_the_workspace() {
    let mut offences = Vec::new();
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        for (name, value) in dependencies(&manifest) {
            if !value.contains("workspace = true") {
                offences.push(format!("{member}: {name} = {value}"));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            offences.push(format!("{member}: does not take the workspace's lints"));
        }
    }
    none("`workspace = true`", &offences);
}

/// The packages of the lock file: name, version, dependencies.
fn locked() -> Vec<(String, Version, Vec<String>)> {
    let lock = read("Cargo.lock");
    let packages = lock.split("[[package]]").skip(1);
    packages
        .map(|package| {
            let field = |name: &str| {
                let start = format!("{name} = \"");
                let line = package
                    .lines()
                    .find_map(|line| line.strip_prefix(&start))
                    .unwrap_or_default();
                line.trim_end_matches('"').to_owned()
            };
            let numbers: Vec<u64> = field("version")
                .split(['.', '-', '+'])
                .map_while(|number| number.parse().ok())
                .collect();
            let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
            let dependencies = package.lines().filter_map(|line| {
                let name = line.strip_prefix(" \"")?.trim_end_matches("\",");
                Some(name.split(' ').next().unwrap_or_default().to_owned())
            });
            (
                field("name"),
                Version(number(0), number(1), number(2)),
                dependencies.collect(),
            )
        })
        .collect()
}

#[test]
fn no_banned_crate_is_locked() {
    let mut offences = Vec::new();
    let locked = locked();
    for (name, version, dependencies) in &locked {
        if BANNED.contains(&name.as_str()) || name.starts_with("openssl") {
            offences.push(format!("{name} is banned"));
        }
        for (banned, is_banned, why) in BANNED_VERSIONS {
            if name == banned && is_banned(*version) {
                offences.push(format!("{name}: {why}"));
            }
        }
        // Below the log output of binaries and tests it cannot be avoided; nothing of ours may use it.
        if dependencies
            .iter()
            .any(|dependency| dependency == "lazy_static")
            && name != "sharded-slab"
        {
            offences.push(format!("{name} uses lazy_static"));
        }
    }
    let mut seen = BTreeSet::new();
    for (name, _, _) in &locked {
        if !seen.insert(name) && name != "syn" {
            offences.push(format!("two versions of {name}"));
        }
    }
    none("see deny.toml and dependencies", &offences);
}

#[test]
fn dependency_trees_stay_within_their_limits() {
    let ours = members();
    let mut offences = Vec::new();
    for (name, features, limit) in TREE_LIMITS {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--offline",
                "-e",
                "normal",
                "--prefix",
                "none",
                "--format",
                "{p}",
                "-p",
                name,
            ])
            .args(features)
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "cargo tree: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let tree: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .filter(|name| !name.is_empty() && !ours.iter().any(|ours| ours == name))
            .collect();
        if tree.len() > limit {
            offences.push(format!(
                "{name} {features:?}: {} crates, limit {limit}: {tree:?}",
                tree.len()
            ));
        }
    }
    none("a dependency tree above its limit", &offences);
}

#[test]
fn nothing_names_one_machine() {
    // In pieces, so that this file does not name them.
    let banned = [
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/Us", "ers/"],
        ["pypi", ".org"],
        ["static.crates", ".io"],
        ["deb.debian", ".org"],
    ]
    .map(|parts| parts.concat());
    let mut offences = Vec::new();
    let extensions = [
        ".rs", ".toml", ".md", ".java", ".py", ".sh", ".yml", "/run", ".cfg",
    ];
    for path in files(".", &extensions) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for word in &banned {
                if line.contains(word.as_str()) {
                    offences.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    none(
        "no absolute path of a machine, no host of a registry",
        &offences,
    );
}
