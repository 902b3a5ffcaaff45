//! Cutting a body into its three parts without building what is in them.

use std::ops::Range;

use bytes::Bytes;

use super::{Body, Embed, Raw};
use crate::{
    DecodeError, Limits,
    codec::{Serializer, json, msgpack},
};

/// What Celery writes when nothing follows, with its own separators and with ours: most messages end this way.
const NOTHING_FOLLOWS: [&[u8]; 2] = [
    br#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}"#,
    br#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#,
];

/// How parts begin and where they are.
struct Parts {
    args: Range<usize>,
    kwargs: Range<usize>,
    embed: Range<usize>,
}

/// Splits `bytes`, a body of `serializer`, which can be looked into.
pub(super) fn split(serializer: Serializer, bytes: &Bytes, limits: Limits) -> Result<Body, DecodeError> {
    let parts = match serializer {
        Serializer::Json => json_parts(bytes, limits)?,
        _ => msgpack_parts(bytes, limits)?,
    };
    let embed = match &bytes[parts.embed.clone()] {
        nothing if NOTHING_FOLLOWS.contains(&nothing) => Embed::default(),
        _ if serializer == Serializer::Json => {
            Embed::read_json(&bytes.slice(parts.embed), limits).map_err(|error| error.within("body[2]"))?
        }
        some => serializer.decode(some, limits).and_then(Embed::read).map_err(|error| error.within("body[2]"))?,
    };
    let raw = |range: Range<usize>| Raw { serializer, bytes: bytes.slice(range) };
    Ok(Body::Parts { args: raw(parts.args), kwargs: raw(parts.kwargs), embed })
}

fn json_parts(bytes: &[u8], limits: Limits) -> Result<Parts, DecodeError> {
    let whole = |error: DecodeError| error.within("body");
    // The list around the three parts is a level of its own.
    let mut scanner = json::Scanner::new(bytes, limits.depth.saturating_sub(1)).map_err(whole)?;
    if !scanner.take(b'[') {
        scanner.skip().and_then(|_| scanner.end()).map_err(whole)?;
        return Err(not_three());
    }
    let mut part = |index: usize, begins: u8, kind: &str| {
        if scanner.peek() == b']' || (index > 0 && !scanner.take(b',')) {
            return Err(not_three());
        }
        let found = scanner.peek();
        let range = scanner.skip().map_err(|error| error.within(&format!("body[{index}]")))?;
        if begins != 0 && found != begins {
            return Err(DecodeError::new(format!("body[{index}]"), format!("must be {kind}")));
        }
        Ok(range)
    };
    let args = part(0, b'[', "a list")?;
    let kwargs = part(1, b'{', "a map")?;
    let embed = part(2, 0, "")?;
    if scanner.peek() == b',' {
        return Err(not_three());
    }
    scanner.expect(b']').and_then(|()| scanner.end()).map_err(whole)?;
    Ok(Parts { args, kwargs, embed })
}

fn msgpack_parts(bytes: &[u8], limits: Limits) -> Result<Parts, DecodeError> {
    let whole = |error: DecodeError| error.within("body");
    let mut scanner = msgpack::Scanner::new(bytes, limits.depth.saturating_sub(1));
    if scanner.list().map_err(whole)? != Some(3) {
        return Err(not_three());
    }
    let mut part = |index: usize, kind: Option<msgpack::Kind>, name: &str| {
        let found = scanner.kind();
        let range = scanner.skip().map_err(|error| error.within(&format!("body[{index}]")))?;
        if kind.is_some() && found != kind {
            return Err(DecodeError::new(format!("body[{index}]"), format!("must be {name}")));
        }
        Ok(range)
    };
    let args = part(0, Some(msgpack::Kind::List), "a list")?;
    let kwargs = part(1, Some(msgpack::Kind::Map), "a map")?;
    let embed = part(2, None, "")?;
    scanner.end().map_err(whole)?;
    Ok(Parts { args, kwargs, embed })
}

fn not_three() -> DecodeError {
    DecodeError::new("body", "must be a list of three: arguments, keyword arguments, what follows")
}
