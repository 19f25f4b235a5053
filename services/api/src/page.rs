//! Pages of lists: how long, and where the next one begins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bessemer_domain::Invalid;
use uuid::Uuid;

/// Most items of a page, and how many there are when the caller does not say.
const SIZE_MAX: usize = 1000;
const SIZE_DEFAULT: usize = 100;

/// Items to put on a page for which the caller asked for `size`.
pub(crate) fn size(size: u32) -> usize {
    match usize::try_from(size) {
        Ok(0) => SIZE_DEFAULT,
        Ok(size) => size.min(SIZE_MAX),
        Err(_) => SIZE_MAX,
    }
}

/// The id after which a page begins; none for the first.
pub(crate) fn after(token: &str) -> Result<Option<Uuid>, Invalid> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = BASE64.decode(token).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    bytes.map(Some).ok_or_else(|| {
        Invalid::new("page_token", token, "is not a next_page_token that this API gave")
    })
}

/// Cuts `items`, one more than a page may hold, to the page, and gives the token for the next one.
pub(crate) fn cut<T>(items: &mut Vec<T>, size: usize, id: impl Fn(&T) -> Uuid) -> String {
    if items.len() <= size {
        return String::new();
    }
    items.truncate(size);
    items.last().map(|last| BASE64.encode(id(last).as_bytes())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_the_next_begins() {
        let ids: Vec<_> = (1..=5).map(Uuid::from_u128).collect();
        let mut page = ids[..3].to_vec();
        let token = cut(&mut page, 2, |id| *id);
        assert_eq!((page.len(), after(&token)), (2, Ok(Some(ids[1]))));
        assert_eq!(cut(&mut page, 2, |id| *id), "");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for token in ["x", "!!!", "AAAA"] {
            assert_eq!(after(token).unwrap_err().field, "page_token");
        }
        assert_eq!(after(""), Ok(None));
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!([size(0), size(7), size(u32::MAX)], [100, 7, 1000]);
    }
}
