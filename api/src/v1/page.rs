//! Lists, page by page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledgermq_core::offset::Index;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Items of a page if nothing is said.
const LIMIT: usize = 100;
/// Most items of a page.
const LIMIT_MAX: usize = 1000;
/// Entries that one request looks at.
pub(super) const EXAMINED_MAX: usize = 10_000;

/// The parameters of every list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ask {
    limit: Option<String>,
    cursor: Option<String>,
}

/// A checked [`Ask`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Items wanted.
    pub(super) limit: usize,
    /// Key of the last item before.
    pub(super) after: Option<String>,
}

/// A page as it is answered.
#[derive(Debug, Serialize)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    as_of: String,
}

impl Ask {
    pub(super) fn page(&self) -> Result<Page, Problem> {
        let limit = match self.limit.as_deref() {
            None => LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| Problem::invalid("limit", "a number from 1 to 1000"))?,
        };
        let decode = |text: &String| URL_SAFE_NO_PAD.decode(text).ok();
        let after = match &self.cursor {
            None => None,
            Some(cursor) => {
                let key = decode(cursor).and_then(|key| String::from_utf8(key).ok());
                Some(key.ok_or_else(|| {
                    Problem::invalid("cursor", "take what `next` of the page before said")
                })?)
            }
        };
        Ok(Page { limit, after })
    }
}

impl Page {
    /// Collects a page from `entries`, which are in the order of their keys and begin behind
    /// `after`; `item` answers none for what is not asked for.
    pub(super) fn collect<E, T>(
        &self,
        entries: impl Iterator<Item = E>,
        key: impl Fn(&E) -> &str,
        mut item: impl FnMut(&E) -> Option<T>,
        as_of: Index,
    ) -> List<T> {
        let mut entries = entries.peekable();
        let mut items = Vec::new();
        let mut last = None;
        for _ in 0..EXAMINED_MAX {
            let Some(entry) = entries.next_if(|_| items.len() < self.limit) else { break };
            items.extend(item(&entry));
            last = Some(key(&entry).to_owned());
        }
        let next = last.filter(|_| entries.peek().is_some()).map(|key| URL_SAFE_NO_PAD.encode(key));
        List { items, next, as_of: as_of.to_string() }
    }
}
