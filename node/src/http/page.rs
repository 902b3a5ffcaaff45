//! Lists in pages: `?limit=50&cursor=…`. A cursor is opaque; it stays good while things come and go.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    extract::Query,
    problem::{Kind, Problem},
};

/// The longest page.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 50;

/// Which page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) cursor: Option<u64>,
}

#[derive(Deserialize)]
struct Asked {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, state).await?;
        let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::new(Kind::Malformed, format!("limit is {limit}, it must be 1 to {LIMIT_MAX}")));
        }
        let cursor = match asked.cursor {
            None => None,
            Some(text) => {
                Some(u64::from_str_radix(&text, 36).map_err(|_| Problem::new(Kind::Malformed, "this cursor is not one of ours"))?)
            }
        };
        Ok(Self { limit, cursor })
    }
}

/// A page of `items`, with the cursor to go on with if there are more.
pub(super) fn page(items: Vec<Json>, next: Option<u64>) -> Json {
    json!({ "items": items, "next": next.map(base36) })
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
