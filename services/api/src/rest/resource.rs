//! Resources as tables of fields: which are shown to whom, in which order, and page by page.

use std::cmp::Ordering;
use std::fmt::Display;

use bessemer_domain::State;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Value, json};

use super::asked::Asked;
use super::fault::Fault;
use super::query::Query;
use super::version::Microversion;

/// Most items of a page, and how many there are when the caller does not say; Ironic's `max_limit`.
pub(super) const LIMIT_MAX: usize = 1000;

/// Since this version a caller can say which fields it wants.
const FIELDS_SINCE: u16 = 8;

/// Since this version `detail=true` does what `/detail` does.
const DETAIL_SINCE: u16 = 43;

/// What a resource is shown by.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) state: &'a State,
    pub(super) asked: &'a Asked,
}

/// How a field's value is found.
type Show<T> = for<'a> fn(&T, &Context<'a>) -> Value;

/// One field of a resource.
pub(super) struct Field<T: 'static> {
    pub(super) name: &'static str,
    /// The version of the API that it came with.
    pub(super) since: u16,
    pub(super) show: Show<T>,
    sortable: bool,
    summary: bool,
}

impl<T> Field<T> {
    pub(super) const fn new(name: &'static str, since: u16, show: Show<T>) -> Self {
        Self { name, since, show, sortable: true, summary: false }
    }

    /// What no list can be sorted by.
    pub(super) const fn unsortable(self) -> Self {
        Self { sortable: false, ..self }
    }

    /// Shown in lists without details.
    pub(super) const fn summary(self) -> Self {
        Self { summary: true, ..self }
    }
}

/// A kind of resource.
pub(super) struct Resource<T: 'static> {
    /// Its name in URLs and in lists.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field<T>],
    /// What tells one from the others.
    pub(super) key: fn(&T) -> String,
    /// The version of the API that takes `detail=true`.
    pub(super) detail_since: u16,
}

/// A choice of fields.
pub(super) type Columns<T> = Vec<&'static Field<T>>;

impl<T> Resource<T> {
    pub(super) const fn new(
        name: &'static str,
        fields: &'static [Field<T>],
        key: fn(&T) -> String,
    ) -> Self {
        Self { name, fields, key, detail_since: DETAIL_SINCE }
    }

    /// All that a version has.
    pub(super) fn all(&self, version: Microversion) -> Columns<T> {
        self.fields.iter().filter(|field| field.since <= version.0).collect()
    }

    /// Those that are named, as `fields=a,b`.
    pub(super) fn named(&self, names: &str, version: Microversion) -> Result<Columns<T>, Fault> {
        if version.0 < FIELDS_SINCE {
            return Err(Fault::since("`fields`", FIELDS_SINCE));
        }
        let names = names.split(',').map(str::trim).filter(|name| *name != "links");
        names.map(|name| self.field(name, "fields", version)).collect()
    }

    fn field(
        &self,
        name: &str,
        parameter: &str,
        version: Microversion,
    ) -> Result<&'static Field<T>, Fault> {
        let Some(field) = self.fields.iter().find(|field| field.name == name) else {
            let known: Vec<_> = self.all(version).iter().map(|field| field.name).collect();
            return Err(Fault::bad_request(format!(
                "{parameter} `{name}` is no field of {}; there are: {}",
                self.name,
                known.join(", ")
            )));
        };
        if field.since > version.0 {
            return Err(Fault::since(&format!("field `{name}`"), field.since));
        }
        Ok(field)
    }

    /// The fields of one resource: those asked for, or all.
    pub(super) fn columns(&self, query: &mut Query, asked: &Asked) -> Result<Columns<T>, Fault> {
        match query.take("fields") {
            Some(names) => self.named(&names, asked.version),
            None => Ok(self.all(asked.version)),
        }
    }

    /// Takes from the query what a list is to look like. `detailed` where the path says so.
    pub(super) fn listing(
        &'static self,
        query: &mut Query,
        asked: &Asked,
        detailed: bool,
    ) -> Result<Listing<T>, Fault> {
        let version = asked.version;
        let (names, detail) = (query.take("fields"), query.take_flag("detail")?);
        if detail.is_some() && version.0 < self.detail_since {
            return Err(Fault::since("`detail`", self.detail_since));
        }
        let columns = match names {
            Some(_) if detailed || detail == Some(true) => {
                let message = "`fields` and `detail` exclude one another";
                return Err(Fault::bad_request(message));
            }
            Some(names) => self.named(&names, version)?,
            None if detailed || detail == Some(true) => self.all(version),
            None => self.all(version).into_iter().filter(|field| field.summary).collect(),
        };
        let limit = match query.take_number("limit")? {
            None => LIMIT_MAX,
            Some(0) => return Err(Fault::bad_request("limit `0` is not positive")),
            Some(limit) => limit.min(LIMIT_MAX),
        };
        let sort_key = query.take("sort_key").filter(|key| key != "id");
        let sort = sort_key.map(|key| self.field(&key, "sort_key", version)).transpose()?;
        if let Some(field) = sort.filter(|field| !field.sortable) {
            let message = format!("sort_key `{}` cannot be sorted by", field.name);
            return Err(Fault::bad_request(message));
        }
        let descending = match query.take("sort_dir").as_deref() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(other) => {
                let message = format!("sort_dir `{other}` is neither asc nor desc");
                return Err(Fault::bad_request(message));
            }
        };
        let marker = query.take("marker");
        Ok(Listing { resource: self, columns, limit, sort, descending, marker })
    }
}

/// What a list is to look like.
pub(super) struct Listing<T: 'static> {
    resource: &'static Resource<T>,
    pub(super) columns: Columns<T>,
    limit: usize,
    sort: Option<&'static Field<T>>,
    descending: bool,
    marker: Option<String>,
}

impl<T> Listing<T> {
    /// The page of `items`, which come by their ids, as JSON. `path` and `query` are those of the request.
    pub(super) fn page<'a>(
        &self,
        items: impl Iterator<Item = &'a T>,
        context: &Context<'_>,
        path: &str,
        query: &[(String, String)],
    ) -> Result<String, Fault> {
        let key = self.resource.key;
        let mut items: Vec<&T> = items.collect();
        if let Some(field) = self.sort {
            let mut sorted: Vec<_> =
                items.into_iter().map(|item| ((field.show)(item, context), item)).collect();
            sorted.sort_by(|(a, _), (b, _)| compare(a, b));
            items = sorted.into_iter().map(|(_, item)| item).collect();
        }
        if self.descending {
            items.reverse();
        }
        let first = match &self.marker {
            None => 0,
            Some(marker) => {
                let place = items.iter().position(|item| key(item) == *marker);
                let Some(place) = place else {
                    let name = self.resource.name;
                    return Err(Fault::bad_request(format!(
                        "marker `{marker}` is none of the {name}"
                    )));
                };
                place + 1
            }
        };
        let rest = &items[first..];
        let page = &rest[..rest.len().min(self.limit)];
        let next = page.last().filter(|_| page.len() < rest.len()).map(|last| {
            let mut link = format!("{}?", context.asked.link(path));
            let kept = query.iter().filter(|(name, _)| name != "marker" && name != "limit");
            for (name, value) in kept {
                link.push_str(&format!("{name}={}&", escaped(value)));
            }
            link.push_str(&format!("limit={}&marker={}", self.limit, escaped(&key(last))));
            link
        });
        let list = List { name: self.resource.name, listing: self, page, next, context };
        Ok(serde_json::to_string(&list).expect("keys are texts"))
    }
}

/// Missing values first, as databases have them.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        _ => Ordering::Equal,
    }
}

/// What stands in a query as it is.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b',');

/// A value as it stands in a query.
fn escaped(text: &str) -> impl Display {
    utf8_percent_encode(text, IN_QUERY)
}

/// A resource with some of its fields, and its links.
pub(super) struct Row<'a, T: 'static> {
    pub(super) resource: &'a Resource<T>,
    pub(super) columns: &'a [&'static Field<T>],
    pub(super) item: &'a T,
    pub(super) context: &'a Context<'a>,
}

impl<T> Serialize for Row<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len() + 1))?;
        for field in self.columns {
            map.serialize_entry(field.name, &(field.show)(self.item, self.context))?;
        }
        let path = format!("{}/{}", self.resource.name, (self.resource.key)(self.item));
        map.serialize_entry("links", &links(self.context.asked, &path))?;
        map.end()
    }
}

/// The two links that Ironic gives to everything.
pub(super) fn links(asked: &Asked, path: &str) -> Value {
    json!([
        { "href": asked.link(path), "rel": "self" },
        { "href": format!("{}/{path}", asked.base), "rel": "bookmark" },
    ])
}

struct List<'a, T: 'static> {
    name: &'static str,
    listing: &'a Listing<T>,
    page: &'a [&'a T],
    next: Option<String>,
    context: &'a Context<'a>,
}

impl<T> Serialize for List<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, &Rows(self))?;
        if let Some(next) = &self.next {
            map.serialize_entry("next", next)?;
        }
        map.end()
    }
}

struct Rows<'a, 'b, T: 'static>(&'a List<'b, T>);

impl<T> Serialize for Rows<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let List { listing, page, context, .. } = self.0;
        let mut rows = serializer.serialize_seq(Some(page.len()))?;
        for item in *page {
            rows.serialize_element(&Row {
                resource: listing.resource,
                columns: &listing.columns,
                item: *item,
                context,
            })?;
        }
        rows.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_first() {
        let mut values = [json!("b"), json!(null), json!("a")];
        values.sort_by(compare);
        assert_eq!(values, [json!(null), json!("a"), json!("b")]);
        assert_eq!(compare(&json!(9), &json!(10)), Ordering::Less);
        assert_eq!(compare(&json!(true), &json!(false)), Ordering::Greater);
    }

    #[test]
    fn values_are_escaped_in_links() {
        assert_eq!(escaped("wait call-back").to_string(), "wait%20call-back");
        assert_eq!(escaped("a,b&c=é").to_string(), "a,b%26c%3D%C3%A9");
    }
}
