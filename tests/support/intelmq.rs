//! The IntelMQ that `tests/all` installs: its Python.

use std::path::{Path, PathBuf};

/// The interpreter of the virtual environment, or a panic that says how to get one: a test that is skipped without a
/// word is no test.
pub fn python() -> PathBuf {
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let usual = tests.parent().unwrap_or(tests).join("intelmq-3.5.0");
    let home = std::env::var_os("INTELMQ_VENV").map_or(usual, PathBuf::from);
    let python = home.join("bin/python");
    assert!(
        home.join("complete").exists() && python.exists(),
        "there is no IntelMQ in {}: run tests/all, which installs it, or set INTELMQ_VENV to where it did",
        home.display()
    );
    python
}
