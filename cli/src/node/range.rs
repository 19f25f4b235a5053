//! Names of nodes as people number them: `rack1-n[01-40]`. Pure.

use std::str::FromStr;

/// Most names that one argument may stand for.
const NAMES_MAX: usize = 100_000;

/// One argument, and the names that it stands for: `r[1-2]n[01,03-04]` is r1n01, r1n03, r1n04, r2n01 and so on. Numbers keep
/// the width that the first one is written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRange {
    /// Whether there are brackets in it.
    pub is_range: bool,
    /// In order.
    pub names: Vec<String>,
}

impl FromStr for NodeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = vec![String::new()];
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('[') {
            let (inside, after) = after.split_once(']').ok_or("has a `[` without its `]`")?;
            let numbers = numbers(inside, NAMES_MAX / names.len())?;
            let with = |name: &String| {
                let name = format!("{name}{before}");
                numbers.iter().map(move |number| format!("{name}{number}")).collect::<Vec<_>>()
            };
            names = names.iter().flat_map(with).collect();
            rest = after;
        }
        if rest.contains(']') {
            return Err("has a `]` without its `[`".to_owned());
        }
        names.iter_mut().for_each(|name| name.push_str(rest));
        Ok(Self { is_range: text.contains('['), names })
    }
}

/// What stands between brackets: `01-40,50`.
fn numbers(inside: &str, count_max: usize) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for part in inside.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(first)?, number(last)?);
        if from > to {
            return Err(format!("has the range `{part}`, which goes backwards"));
        }
        if (to - from) as usize >= count_max - numbers.len().min(count_max) {
            return Err(format!("stands for more than {NAMES_MAX} names"));
        }
        let width = first.len();
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

fn number(text: &str) -> Result<u32, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wrong = || format!("has `{text}` between brackets, which is not a number such as 01");
    if is_number { text.parse().map_err(|_| wrong()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.parse::<NodeRange>().unwrap().names
    }

    #[test]
    fn brackets_stand_for_numbers() {
        assert_eq!(names("n[8-11]"), ["n8", "n9", "n10", "n11"]);
        assert_eq!(
            names("rack1-n[08-10,40]"),
            ["rack1-n08", "rack1-n09", "rack1-n10", "rack1-n40"]
        );
        assert_eq!(names("r[1-2]n[01,03]-a"), ["r1n01-a", "r1n03-a", "r2n01-a", "r2n03-a"]);
        assert_eq!(names("n[099-101]"), ["n099", "n100", "n101"]);
        assert_eq!(names("n[7]"), ["n7"]);
    }

    #[test]
    fn a_name_is_itself() {
        let one: NodeRange = "0192f1a6-0000-7000-8000-000000000001".parse().unwrap();
        assert!(!one.is_range);
        assert_eq!(one.names.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("n[1-", "without its `]`"),
            ("n1]", "without its `[`"),
            ("n[]", "not a number"),
            ("n[a-b]", "`a`"),
            ("n[3-1]", "`3-1`, which goes backwards"),
            ("n[1--2]", "not a number"),
            ("n[0-100000]", "more than 100000"),
            ("n[1-999][1-999]", "more than 100000"),
            ("n[1-4294967295,1-4294967295]", "more than 100000"),
            ("n[99999999999]", "not a number"),
        ];
        for (text, wrong) in cases {
            let said = text.parse::<NodeRange>().unwrap_err();
            assert!(said.contains(wrong), "{text}: {said}");
        }
    }
}
