//! Root device hints: Ironic's names, operators and comparisons.

use bessemer_proto::v1::Disk;

use crate::task::TaskError;

/// The unit of the hint `size`, in bytes.
const GIB: u64 = 1 << 30;

/// One hint, ready to be compared with disks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Hint {
    Text {
        property: TextProperty,
        condition: TextCondition,
    },
    /// In whole GiB.
    Size(NumberCondition),
    Rotational(bool),
}

/// Properties that are compared as text, without regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextProperty {
    Model,
    Vendor,
    Serial,
    Wwn,
    Name,
    ByPath,
    Hctl,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TextCondition {
    Compare(Comparison, String),
    /// The value is part of the disk's.
    In(String),
    /// All values are parts of the disk's.
    AllIn(Vec<String>),
    /// One of the values is the disk's.
    Or(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NumberCondition {
    Compare(Comparison, u64),
    Or(Vec<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Operators on numbers. A single `=` means "at least".
const NUMBER_OPERATORS: [(&str, Comparison); 7] = [
    ("=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

/// Operators on text.
const TEXT_OPERATORS: [(&str, Comparison); 6] = [
    ("s==", Comparison::Equal),
    ("s!=", Comparison::NotEqual),
    ("s<", Comparison::Less),
    ("s<=", Comparison::LessOrEqual),
    ("s>", Comparison::Greater),
    ("s>=", Comparison::GreaterOrEqual),
];

const NAMES: &str = "model, vendor, serial, wwn, name, by_path, hctl, size, rotational";

impl Hint {
    /// Reads the hint `name` with `value`.
    pub(super) fn parse(name: &str, value: &str) -> Result<Self, TaskError> {
        let invalid =
            |reason: &str| TaskError::invalid("root_device", format!("{name}: {value}"), reason);
        let property = match name {
            "model" => TextProperty::Model,
            "vendor" => TextProperty::Vendor,
            "serial" => TextProperty::Serial,
            "wwn" => TextProperty::Wwn,
            "name" => TextProperty::Name,
            "by_path" => TextProperty::ByPath,
            "hctl" => TextProperty::Hctl,
            "size" => {
                return parse_size(value).map(Self::Size).ok_or_else(|| {
                    invalid("is not a whole number of GiB, with or without operator")
                });
            }
            "rotational" => {
                return parse_bool(value)
                    .map(Self::Rotational)
                    .ok_or_else(|| invalid("is neither true nor false"));
            }
            _ => return Err(invalid(&format!("is not one of the hints {NAMES}"))),
        };
        let condition = parse_text(value).ok_or_else(|| invalid("has no value"))?;
        Ok(Self::Text { property, condition })
    }

    /// Whether `disk` is what the hint means.
    pub(super) fn matches(&self, disk: &Disk) -> bool {
        match self {
            Self::Text { property, condition } => {
                condition.holds(&property.of(disk).to_lowercase())
            }
            Self::Size(condition) => condition.holds(disk.size_bytes / GIB),
            Self::Rotational(rotational) => disk.rotational == *rotational,
        }
    }
}

impl TextProperty {
    fn of(self, disk: &Disk) -> &str {
        match self {
            Self::Model => &disk.model,
            Self::Vendor => &disk.vendor,
            Self::Serial => &disk.serial,
            Self::Wwn => &disk.wwn,
            Self::Name => &disk.name,
            Self::ByPath => &disk.by_path,
            Self::Hctl => &disk.hctl,
        }
    }
}

impl TextCondition {
    fn holds(&self, found: &str) -> bool {
        match self {
            Self::Compare(comparison, value) => comparison.holds(found, value.as_str()),
            Self::In(value) => found.contains(value.as_str()),
            Self::AllIn(values) => values.iter().all(|value| found.contains(value.as_str())),
            Self::Or(values) => values.iter().any(|value| found == value),
        }
    }
}

impl NumberCondition {
    fn holds(&self, found: u64) -> bool {
        match self {
            Self::Compare(comparison, value) => comparison.holds(found, *value),
            Self::Or(values) => values.contains(&found),
        }
    }
}

impl Comparison {
    fn holds<T: PartialOrd>(self, found: T, value: T) -> bool {
        match self {
            Self::Equal => found == value,
            Self::NotEqual => found != value,
            Self::Less => found < value,
            Self::LessOrEqual => found <= value,
            Self::Greater => found > value,
            Self::GreaterOrEqual => found >= value,
        }
    }
}

/// The operator at the start of `value` and what follows it.
fn split_operator(value: &str) -> (&str, &str) {
    value.split_once(char::is_whitespace).map_or((value, ""), |(head, tail)| (head, tail.trim()))
}

fn comparison(operators: &[(&str, Comparison)], operator: &str) -> Option<Comparison> {
    operators.iter().find(|(name, _)| *name == operator).map(|(_, comparison)| *comparison)
}

/// Without an operator the text has to be equal; models and the like contain spaces.
fn parse_text(value: &str) -> Option<TextCondition> {
    let value = value.trim().to_lowercase();
    let (operator, rest) = split_operator(&value);
    let values = |word: &str| -> Vec<String> {
        let words = rest.split(word).map(|part| part.trim().to_owned());
        words.filter(|part| !part.is_empty()).collect()
    };
    let condition = match operator {
        "<in>" => TextCondition::In(rest.to_owned()),
        "<all-in>" => TextCondition::AllIn(rest.split_whitespace().map(str::to_owned).collect()),
        "<or>" => TextCondition::Or(values("<or>")),
        _ => match comparison(&TEXT_OPERATORS, operator) {
            Some(comparison) => TextCondition::Compare(comparison, rest.to_owned()),
            None => TextCondition::Compare(Comparison::Equal, value.clone()),
        },
    };
    let has_value = match &condition {
        TextCondition::Compare(_, value) | TextCondition::In(value) => !value.is_empty(),
        TextCondition::AllIn(values) | TextCondition::Or(values) => !values.is_empty(),
    };
    has_value.then_some(condition)
}

/// A bare number has to be equal.
fn parse_size(value: &str) -> Option<NumberCondition> {
    let value = value.trim();
    let (operator, rest) = split_operator(value);
    if operator == "<or>" {
        let numbers = rest.split("<or>").map(|number| number.trim().parse().ok());
        return numbers.collect::<Option<_>>().map(NumberCondition::Or);
    }
    if let Some(comparison) = comparison(&NUMBER_OPERATORS, operator) {
        return rest.parse().ok().map(|number| NumberCondition::Compare(comparison, number));
    }
    value.parse().ok().map(|number| NumberCondition::Compare(Comparison::Equal, number))
}

fn parse_bool(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk {
            name: "/dev/sda".to_owned(),
            size_bytes: 64 * GIB + GIB / 2,
            model: "Samsung SSD 980 PRO".to_owned(),
            serial: "S5GX".to_owned(),
            wwn: "0x5002538F".to_owned(),
            hctl: "0:0:0:0".to_owned(),
            ..Disk::default()
        }
    }

    #[test]
    fn operators_compare_as_ironics_do() {
        let cases = [
            ("serial", "s5gx", true),
            ("serial", "S5G", false),
            ("model", "samsung ssd 980 pro", true),
            ("model", "s== Samsung SSD 980 PRO", true),
            ("model", "s!= Samsung SSD 980 PRO", false),
            ("model", "s< t", true),
            ("model", "s>= t", false),
            ("model", "<in> ssd 980", true),
            ("model", "<in> intel", false),
            ("model", "<all-in> PRO samsung", true),
            ("model", "<all-in> pro intel", false),
            ("model", "<or> intel <or> Samsung SSD 980 PRO", true),
            ("model", "<or> intel <or> samsung", false),
            ("name", "/dev/sda", true),
            ("wwn", "0x5002538f", true),
            ("hctl", "0:0:0:0", true),
            ("vendor", "s!= ATA", true),
            ("size", "64", true),
            ("size", "65", false),
            ("size", "= 60", true),
            ("size", "= 65", false),
            ("size", "== 64", true),
            ("size", "!= 64", false),
            ("size", ">= 64", true),
            ("size", "> 64", false),
            ("size", "< 65", true),
            ("size", "<= 63", false),
            ("size", "<or> 32 <or> 64", true),
            ("rotational", "False", true),
            ("rotational", "1", false),
        ];
        for (name, value, expected) in cases {
            let hint = Hint::parse(name, value).unwrap();
            assert_eq!(hint.matches(&disk()), expected, "{name}: {value}");
        }
    }

    #[test]
    fn wrong_hints_are_named() {
        let wrong = [
            ("size", "large"),
            ("size", ">="),
            ("size", "<range-in> [ 10 20 ]"),
            ("rotational", "maybe"),
            ("model", "<in>"),
            ("model", " "),
            ("colour", "blue"),
        ];
        for (name, value) in wrong {
            let error = Hint::parse(name, value).unwrap_err();
            assert_eq!(error.reason(), "INVALID_TASK");
            assert!(error.to_string().contains(&format!("{name}: {value}")), "{error}");
        }
    }
}
