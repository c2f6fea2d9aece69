//! kazoo, the Python client, drives the server: nodes, watches, ephemerals, transactions, ACLs, its Lock.
//!
//! The checks are in `tests/python/kazoo_judge.py`; they must pass on either server, so that they test ours and not
//! themselves. `ZK_TEST_PYTHON` names a Python that has kazoo; without it `python3` is tried.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::gate;
use tests::target::{Options, Target};

fn python_with_kazoo() -> Result<String, String> {
    let python = std::env::var("ZK_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let ran = Command::new(&python)
        .args(["-c", "import kazoo"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("`{python}` does not run: {error}"))?;
    if ran.success() {
        Ok(python)
    } else {
        Err(format!(
            "`{python}` has no kazoo (ZK_TEST_PYTHON names another Python)"
        ))
    }
}

#[test]
fn kazoo_finds_nothing_to_complain_about() {
    let Some(python) = gate::need("interop_kazoo", python_with_kazoo()) else {
        return;
    };
    let target = Target::start(Options::default()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/kazoo_judge.py");
    let output = Command::new(python)
        .arg(script)
        .arg(target.addr().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success() && said.contains("6 of 6 checks passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
