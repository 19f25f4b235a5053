//! Programs in Python that tests have as peers, from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python with one package, such as `sushy-tools==2.2.0`, in a virtual environment below `directory` that is made once.
///
/// # Panics
/// When it cannot be made; says what is missing.
#[must_use]
pub fn python(directory: &Path, package: &str) -> PathBuf {
    let environment = directory.join(package);
    let lock = fs::File::create(directory.join(format!("{package}.lock"))).expect("can be written");
    lock.lock().expect("can be locked");
    let python = environment.join("bin/python");
    let made = environment.join("made");
    if !made.exists() {
        run(
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment),
            "apt-get install python3-venv",
        );
        run(
            Command::new(&python).args(["-m", "pip", "install", "--quiet", package]),
            &format!("pip install {package}"),
        );
        fs::write(made, "").expect("can be written");
    }
    python
}

/// Runs a command; a test whose peer cannot be had fails with what installs it.
///
/// # Panics
/// When it fails.
pub fn run(command: &mut Command, remedy: &str) -> String {
    match command.output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            panic!("{command:?} failed; is there a need to `{remedy}`? {said}")
        }
        Err(error) => panic!("{command:?}: {error}; is there a need to `{remedy}`?"),
    }
}
