//! Java on this machine: the runtime, the compiler, Debian's jars, and our own small programs built from `tests/java`.
//! Knows nothing of what those programs do.
//!
//! Programs are compiled into a scratch directory of the test that runs them; nothing is left behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian's Java packages put their jars.
const DEBIAN_JARS: &str = "/usr/share/java";

/// The `java` to run: `$JAVA_HOME/bin/java`, or the one on the path.
///
/// # Errors
/// When it does not run, saying how that was found out.
pub fn runtime() -> Result<PathBuf, String> {
    tool("java")
}

/// The `javac` to compile with, found as [`runtime`] finds `java`.
///
/// # Errors
/// When it does not run.
pub fn compiler() -> Result<PathBuf, String> {
    tool("javac")
}

fn tool(name: &str) -> Result<PathBuf, String> {
    let path = match std::env::var_os("JAVA_HOME") {
        Some(home) if Path::new(&home).join("bin").join(name).exists() => {
            Path::new(&home).join("bin").join(name)
        }
        _ => PathBuf::from(name),
    };
    let ran = Command::new(&path)
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match ran {
        Ok(status) if status.success() => Ok(path),
        Ok(status) => Err(format!("`{name} -version` ended with {status}")),
        Err(error) => Err(format!("`{name}` does not run: {error}")),
    }
}

/// Finds jars by name among Debian's; their manifests pull in what they depend on.
///
/// # Errors
/// Names the first that is missing, and the package that brings it.
pub fn debian_jars(names: &[&str], package: &str) -> Result<Vec<PathBuf>, String> {
    names
        .iter()
        .map(|name| {
            let jar = Path::new(DEBIAN_JARS).join(name);
            if jar.exists() {
                Ok(jar)
            } else {
                Err(format!("{} is missing: install `{package}`", jar.display()))
            }
        })
        .collect()
}

/// Joins jars and directories to one class path.
#[must_use]
pub fn class_path(entries: &[PathBuf]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| entry.display().to_string())
        .collect();
    entries.join(":")
}

/// Compiles `tests/java/<name>.java` into `into`.
///
/// # Errors
/// What the compiler said.
pub fn compile(name: &str, jars: &[PathBuf], into: &Path) -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("java")
        .join(format!("{name}.java"));
    let output = Command::new(compiler()?)
        .arg("-cp")
        .arg(class_path(jars))
        .args(["-Xlint:all,-path,-classfile,-processing", "-Werror", "-d"])
        .arg(into)
        .arg(&source)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("javac: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "javac {name}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Options that make a short-lived Java process start fast and stay small.
pub const QUICK_START: [&str; 4] = [
    "-Xshare:auto",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx512m",
];
