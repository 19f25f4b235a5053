//! A Redfish resource as a BMC serves it. Nothing in it is taken for granted: what is absent is `None`, what is of the
//! wrong type is an error that quotes it.

use serde_json::Value;

use super::answer::Request;
use crate::HardwareError;

/// Most of a wrong value that an error repeats, in characters.
const QUOTED_CHARS_MAX: usize = 100;

/// A resource.
pub(super) struct Resource {
    /// Where it is.
    pub(super) path: String,
    /// How it was asked for.
    pub(super) request: Request,
    pub(super) etag: Option<String>,
    pub(super) body: Value,
}

impl Resource {
    /// The text at a JSON pointer (RFC 6901).
    pub(super) fn text(&self, pointer: &str) -> Result<Option<&str>, HardwareError> {
        self.at(pointer, "text", Value::as_str)
    }

    /// The truth value at a JSON pointer.
    pub(super) fn flag(&self, pointer: &str) -> Result<Option<bool>, HardwareError> {
        self.at(pointer, "true or false", Value::as_bool)
    }

    /// Where the resource is that the property at a JSON pointer links to.
    pub(super) fn link(&self, pointer: &str) -> Result<Option<&str>, HardwareError> {
        self.text(&format!("{pointer}/@odata.id"))
    }

    /// Where the resources are that the array at a JSON pointer links to.
    pub(super) fn links(&self, pointer: &str) -> Result<Vec<String>, HardwareError> {
        let count = self.array(pointer)?.map_or(0, <[_]>::len);
        let mut links = Vec::with_capacity(count);
        for place in 0..count {
            links.extend(self.link(&format!("{pointer}/{place}"))?.map(str::to_owned));
        }
        Ok(links)
    }

    /// The texts in the array at a JSON pointer.
    pub(super) fn texts(&self, pointer: &str) -> Result<Option<Vec<&str>>, HardwareError> {
        let Some(items) = self.array(pointer)? else { return Ok(None) };
        (0..items.len()).map(|place| self.text(&format!("{pointer}/{place}"))).collect()
    }

    fn array(&self, pointer: &str) -> Result<Option<&[Value]>, HardwareError> {
        self.at(pointer, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// A property that must be there.
    pub(super) fn required<T>(
        &self,
        pointer: &str,
        value: Option<T>,
        retryable: bool,
    ) -> Result<T, HardwareError> {
        value.ok_or_else(|| {
            self.request.failed(format!("the answer has no `{}`", name(pointer)), retryable)
        })
    }

    fn at<'a, T>(
        &'a self,
        pointer: &str,
        kind: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, HardwareError> {
        let value = match self.body.pointer(pointer) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        read(value).map(Some).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(QUOTED_CHARS_MAX).collect();
            let name = name(pointer);
            self.request.failed(format!("`{name}` of the answer is {shown}, not {kind}"), false)
        })
    }
}

/// A pointer as a person writes it.
fn name(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}
