//! The rest of a chain.

use std::{
    ops::Index,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{DecodeError, Signature, Value, codec::json};

/// The rest of a chain, next one last, as on the wire.
///
/// A message of a chain holds all of its rest, which is handed on from message to message. So steps are shared instead of copied,
/// written as the bytes they came as, and read when somebody looks at them: a chain of 200 would otherwise be read and written down anew
/// 200 times. What cannot be read is found out at once all the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chain(Vec<Arc<Step>>);

/// At least one of the two is there.
#[derive(Debug)]
struct Step {
    signature: OnceLock<Signature>,
    /// As it came, if it came as JSON.
    text: Option<Bytes>,
}

impl Step {
    fn signature(&self) -> &Signature {
        self.signature.get_or_init(|| {
            // Its depth was looked at when it was passed, and so was everything that a signature needs: this does not fail.
            let read = |text: &Bytes| Signature::from_owned(json::Scanner::new(text, usize::MAX)?.value()?.1);
            let read = self.text.as_ref().map(read);
            debug_assert!(matches!(read, Some(Ok(_))), "{read:?}");
            read.and_then(Result::ok).unwrap_or_else(|| Signature::new(""))
        })
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.signature() == other.signature()
    }
}

impl Chain {
    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many steps follow.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The step that runs last.
    pub fn first(&self) -> Option<&Signature> {
        self.0.first().map(|step| step.signature())
    }

    /// The next step.
    pub fn last(&self) -> Option<&Signature> {
        self.0.last().map(|step| step.signature())
    }

    /// The next step, and what follows it.
    pub fn split_last(&self) -> Option<(&Signature, Self)> {
        let (next, rest) = self.0.split_last()?;
        Some((next.signature(), Self(rest.to_vec())))
    }

    /// The steps as they are written: next one last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Signature> + ExactSizeIterator {
        self.0.iter().map(|step| step.signature())
    }

    /// Reads a list of signatures, which is next in the JSON of `bytes`, keeping each as it is.
    pub(super) fn read_json(scanner: &mut json::Scanner<'_>, bytes: &Bytes) -> Result<Self, DecodeError> {
        scanner.expect(b'[')?;
        let mut steps = Vec::new();
        while !scanner.take(b']') {
            let within = |error: DecodeError| error.within(&format!("[{}]", steps.len()));
            if !steps.is_empty() {
                scanner.expect(b',')?;
            }
            let (range, signature) = match scanner.plain_signature() {
                Some(range) => (range, OnceLock::new()),
                None => {
                    let (range, value) = scanner.value().map_err(within)?;
                    (range, Signature::from_owned(value).map_err(within)?.into())
                }
            };
            steps.push(Arc::new(Step { signature, text: Some(bytes.slice(range)) }));
        }
        Ok(Self(steps))
    }

    /// Writes the list as JSON; null if nothing follows.
    pub(super) fn push_json(&self, out: &mut String) {
        if self.is_empty() {
            out.push_str("null");
            return;
        }
        out.push('[');
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            match step.text.as_ref().and_then(|text| std::str::from_utf8(text).ok()) {
                Some(text) => out.push_str(text),
                None => json::push(&step.signature().to_value(), out),
            }
        }
        out.push(']');
    }

    /// The list; null if nothing follows.
    pub(super) fn to_value(&self) -> Value {
        if self.is_empty() { Value::Null } else { Value::List(self.iter().map(Signature::to_value).collect()) }
    }
}

impl FromIterator<Signature> for Chain {
    fn from_iter<T: IntoIterator<Item = Signature>>(steps: T) -> Self {
        Self(steps.into_iter().map(|signature| Arc::new(Step { signature: signature.into(), text: None })).collect())
    }
}

impl From<Vec<Signature>> for Chain {
    fn from(steps: Vec<Signature>) -> Self {
        steps.into_iter().collect()
    }
}

impl Index<usize> for Chain {
    type Output = Signature;

    /// # Panics
    /// When there is no such step.
    fn index(&self, index: usize) -> &Signature {
        self.0[index].signature()
    }
}
