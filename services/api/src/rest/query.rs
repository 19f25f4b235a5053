//! What stands behind the question mark.

use std::collections::BTreeMap;

use super::fault::Fault;

/// The parameters of a request. Each is taken once; what is left over is not known and refused.
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// The last one counts of a parameter that is there several times.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The text of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A parameter that is a number.
    pub(super) fn take_number(&mut self, name: &str) -> Result<Option<usize>, Fault> {
        let number = |text: String| {
            let wrong = || Fault::bad_request(format!("{name} `{text}` is not a number"));
            text.parse().map_err(|_| wrong())
        };
        self.take(name).map(number).transpose()
    }

    /// A parameter that is true or false, in the words that Ironic takes for that.
    pub(super) fn take_flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.take(name).map(|text| flag(name, &text)).transpose()
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Fault::bad_request(format!("parameter `{name}` is not known here"))),
        }
    }
}

/// oslo's words for true and false.
pub(super) fn flag(name: &str, text: &str) -> Result<bool, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err(Fault::bad_request(format!("{name} `{text}` is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_refused_by_name() {
        let pairs = [("limit", "5"), ("detail", "Yes"), ("colour", "red")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut query = Query::new(pairs.to_vec());
        assert_eq!(query.take_number("limit"), Ok(Some(5)));
        assert_eq!(query.take_number("limit"), Ok(None));
        assert_eq!(query.take_flag("detail"), Ok(Some(true)));
        assert!(query.finish().unwrap_err().message().contains("`colour`"));
        flag("detail", "perhaps").unwrap_err();
    }
}
