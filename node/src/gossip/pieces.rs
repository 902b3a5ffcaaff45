//! Messages in pieces: what is longer than one packet carries is cut here, not by IP, where one lost fragment is silence.
//!
//! A piece begins with 0, and is the whole message, or with `count`, its place and the message's number.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::keys::Salt;

/// The most bytes of a message in one piece: with everything around it, it fits the smallest MTU of IPv6.
pub(super) const PIECE_MAX: usize = 1_150;

/// Unfinished messages kept; beyond it the oldest is given up.
const UNFINISHED_MAX: usize = 64;

/// How long a message may take to come together.
const PATIENCE: Duration = Duration::from_secs(2);

/// Cuts `message`, number `number` of this sender; `None` when it has more than 255 pieces.
pub(super) fn cut(message: &[u8], number: u16) -> Option<Vec<Vec<u8>>> {
    if message.len() <= PIECE_MAX {
        return Some(vec![[&[0], message].concat()]);
    }
    let count = u8::try_from(message.len().div_ceil(PIECE_MAX)).ok()?;
    let [high, low] = number.to_be_bytes();
    let pieces = message.chunks(PIECE_MAX).zip(0u8..);
    Some(pieces.map(|(piece, place)| [&[count, place, high, low], piece].concat()).collect())
}

/// Messages that are coming together.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    unfinished: HashMap<(Salt, u16), Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    since: Instant,
    pieces: Vec<Option<Vec<u8>>>,
}

impl Pieces {
    /// Takes a piece in; the message, when it was the last one missing. Nonsense is dropped: only who holds the secret can
    /// send it.
    pub(super) fn take(&mut self, sender: Salt, piece: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (&count, rest) = piece.split_first()?;
        if count == 0 {
            return Some(rest.to_vec());
        }
        let (&[place, high, low], bytes) = rest.split_first_chunk()?;
        if place >= count || bytes.len() > PIECE_MAX {
            return None;
        }
        self.unfinished.retain(|_, message| now.duration_since(message.since) < PATIENCE);
        let key = (sender, u16::from_be_bytes([high, low]));
        if !self.unfinished.contains_key(&key)
            && self.unfinished.len() >= UNFINISHED_MAX
            && let Some(oldest) = self.unfinished.iter().min_by_key(|(_, message)| message.since).map(|(key, _)| *key)
        {
            self.unfinished.remove(&oldest);
        }
        let message = self.unfinished.entry(key).or_insert_with(|| Unfinished { since: now, pieces: vec![None; usize::from(count)] });
        *message.pieces.get_mut(usize::from(place))? = Some(bytes.to_vec());
        if message.pieces.iter().any(Option::is_none) {
            return None;
        }
        let message = self.unfinished.remove(&key)?;
        Some(message.pieces.into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_together_in_any_order() {
        let now = Instant::now();
        for length in [0, 1, PIECE_MAX, PIECE_MAX + 1, 65_507] {
            let message: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut cut = cut(&message, 7).unwrap();
            cut.reverse();
            let mut pieces = Pieces::default();
            let whole: Vec<_> = cut.iter().filter_map(|piece| pieces.take([1; 8], piece, now)).collect();
            assert_eq!(whole, [message], "of {length}");
            assert!(pieces.unfinished.is_empty());
        }
        assert!(cut(&vec![0; PIECE_MAX * 256], 0).is_none());
    }

    #[test]
    fn what_does_not_come_together_is_bounded() {
        let (mut pieces, now) = (Pieces::default(), Instant::now());
        for number in 0..1_000 {
            let half = cut(&[0; PIECE_MAX + 1], number).unwrap().remove(0);
            assert!(pieces.take([1; 8], &half, now).is_none());
        }
        assert_eq!(pieces.unfinished.len(), UNFINISHED_MAX);
        for nonsense in [&[][..], &[2], &[2, 2, 0, 0], &[2, 0]] {
            assert!(pieces.take([1; 8], nonsense, now).is_none());
        }
        let late = now + PATIENCE;
        assert!(pieces.take([2; 8], &cut(&[0; PIECE_MAX + 1], 1).unwrap()[0], late).is_none());
        assert_eq!(pieces.unfinished.len(), 1, "those that took too long are given up");
    }
}
