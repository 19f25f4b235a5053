//! Configuration files: TOML, every field known, every default in the type.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is not what the service expects; names the line and the field.
    #[error("configuration file {path} is wrong: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Place and reason.
        message: String,
    },
}

/// Reads a configuration file.
///
/// # Errors
/// [`ConfigError`] naming the file and the place in it.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })
}

/// Reads a file that holds a secret; white space around it does not count.
///
/// # Errors
/// [`ConfigError::Read`] naming the file.
pub fn secret(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let bytes = std::fs::read(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Ok(bytes.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        listen: String,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { listen: "127.0.0.1:6385".to_owned() }
        }
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(load::<Sample>(file.path()).unwrap().listen, "127.0.0.1:6385");
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "lsiten = \"x\"").unwrap();
        let error = load::<Sample>(file.path()).unwrap_err().to_string();
        assert!(error.contains("lsiten") && error.contains("listen"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Sample>(Path::new("/nonexistent/api.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/api.toml");
    }
}
