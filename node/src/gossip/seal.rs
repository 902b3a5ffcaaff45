//! Datagrams on the wire: sealed, numbered, dated, and refused when anything about them is wrong.
//!
//! ```text
//! version 1 · secret's hint 1 · sender's salt 8 · number 5 │ sealed: seconds 4 · piece 0 or 4 · bytes │ tag 16
//! ```
//!
//! What stands before the bar is authenticated with the rest. A number is accepted once ([`Window`]); a datagram that is older
//! than [`AGE_MAX`] is not accepted at all, so that what was recorded cannot be played to a node that has not heard it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ring::aead::{Aad, LessSafeKey, Nonce};
use thiserror::Error;

use super::keys::{KeyRing, SALT, Salt};

const VERSION: u8 = 1;
const HEAD: usize = 1 + 1 + SALT + 5;

/// What sealing adds to a piece.
pub(super) const OVERHEAD: usize = HEAD + 4 + 16;

/// How far the clocks of two nodes may differ, and how old a datagram may be, in seconds.
const AGE_MAX: u32 = 300;

/// Senders remembered; beyond it the one that has been silent for longest is forgotten.
const SENDERS_MAX: usize = 4_096;

/// Why a datagram is not listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refused {
    #[error("it is not a datagram of this version")]
    Foreign,
    #[error("it was sealed with another secret, or changed on its way")]
    Forged,
    #[error("it was heard before")]
    Replayed,
    #[error("its date differs from this machine's clock by {0} s; set the clocks")]
    Dated(i64),
}

/// Seals what this node sends.
pub(super) struct Sealer {
    hint: u8,
    salt: Salt,
    key: LessSafeKey,
    number: u64,
}

impl Sealer {
    /// A sender of its own; `None` when no key can be derived.
    pub(super) fn new(ring: &KeyRing) -> Option<Self> {
        let mut salt = [0; SALT];
        salt.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[8..]);
        // The variant's two bits of an UUID are fixed; its first half makes up for them.
        salt[0] ^= uuid::Uuid::new_v4().as_bytes()[0];
        Some(Self { hint: ring.current(), salt, key: ring.own(&salt)?, number: 0 })
    }

    /// A datagram with `piece` in it; `None` when this sender has run out of numbers, in some thousand years.
    pub(super) fn seal(&mut self, piece: &[u8], seconds: u32) -> Option<Vec<u8>> {
        self.number = self.number.checked_add(1).filter(|number| *number < 1 << 40)?;
        let mut datagram = Vec::with_capacity(OVERHEAD + piece.len());
        datagram.extend_from_slice(&[VERSION, self.hint]);
        datagram.extend_from_slice(&self.salt);
        datagram.extend_from_slice(&self.number.to_be_bytes()[3..]);
        let head: [u8; HEAD] = datagram[..HEAD].try_into().ok()?;
        let mut sealed = seconds.to_be_bytes().to_vec();
        sealed.extend_from_slice(piece);
        let tag = self.key.seal_in_place_separate_tag(nonce(self.number), Aad::from(head), &mut sealed).ok()?;
        datagram.extend_from_slice(&sealed);
        datagram.extend_from_slice(tag.as_ref());
        Some(datagram)
    }
}

/// Opens what others send.
pub(super) struct Opener {
    ring: KeyRing,
    senders: HashMap<Salt, Sender>,
}

struct Sender {
    key: LessSafeKey,
    window: Window,
    heard: Instant,
}

impl Opener {
    pub(super) fn new(ring: KeyRing) -> Self {
        Self { ring, senders: HashMap::new() }
    }

    /// The sender and the piece of a datagram.
    pub(super) fn open(&mut self, datagram: &[u8], seconds: u32) -> Result<(Salt, Vec<u8>), Refused> {
        let (head, sealed) = datagram.split_at_checked(HEAD).ok_or(Refused::Foreign)?;
        if head[0] != VERSION {
            return Err(Refused::Foreign);
        }
        let salt: Salt = head[2..2 + SALT].try_into().map_err(|_| Refused::Foreign)?;
        let mut number = [0; 8];
        number[3..].copy_from_slice(&head[2 + SALT..]);
        let number = u64::from_be_bytes(number);
        let opened = match self.senders.get_mut(&salt) {
            Some(sender) => unseal(&sender.key, head, number, sealed),
            // Only who holds a secret is remembered: strangers cost a derivation, and no memory.
            None => {
                let found = self.ring.candidates(head[1], &salt).find_map(|key| Some((unseal(&key, head, number, sealed)?, key)));
                found.map(|(opened, key)| {
                    self.remember(salt, key);
                    opened
                })
            }
        };
        let opened = opened.ok_or(Refused::Forged)?;
        let (date, piece) = opened.split_at_checked(4).ok_or(Refused::Foreign)?;
        let date = u32::from_be_bytes(date.try_into().map_err(|_| Refused::Foreign)?);
        if date.abs_diff(seconds) > AGE_MAX {
            return Err(Refused::Dated(i64::from(date) - i64::from(seconds)));
        }
        let sender = self.senders.get_mut(&salt).ok_or(Refused::Forged)?;
        sender.heard = Instant::now();
        if sender.window.accept(number) { Ok((salt, piece.to_vec())) } else { Err(Refused::Replayed) }
    }

    fn remember(&mut self, salt: Salt, key: LessSafeKey) {
        if self.senders.len() >= SENDERS_MAX
            && let Some(silent) = self.senders.iter().min_by_key(|(_, sender)| sender.heard).map(|(salt, _)| *salt)
        {
            self.senders.remove(&silent);
        }
        self.senders.insert(salt, Sender { key, window: Window::default(), heard: Instant::now() });
    }

    /// Forgets senders that have been silent for so long that nothing of theirs would be accepted any more.
    pub(super) fn tidy(&mut self) {
        let silence = Duration::from_secs(u64::from(AGE_MAX) * 2);
        self.senders.retain(|_, sender| sender.heard.elapsed() < silence);
    }
}

fn unseal(key: &LessSafeKey, head: &[u8], number: u64, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let opened = key.open_in_place(nonce(number), Aad::from(head), &mut bytes).ok()?.len();
    bytes.truncate(opened);
    Some(bytes)
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Which of a sender's last 128 numbers have been heard (RFC 4303 §3.4.3).
#[derive(Debug, Default)]
struct Window {
    highest: u64,
    /// Bit `n` is `highest - n`.
    heard: u128,
}

impl Window {
    fn accept(&mut self, number: u64) -> bool {
        if number > self.highest {
            let ahead = number - self.highest;
            self.heard = if ahead < 128 { self.heard << ahead } else { 0 };
            self.heard |= 1;
            self.highest = number;
            return true;
        }
        let behind = self.highest - number;
        let bit = if behind < 128 { 1u128 << behind } else { return false };
        let fresh = self.heard & bit == 0;
        self.heard |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_700_000_000;

    fn pair(send: &str, listen: &str, old: &[&str]) -> (Sealer, Opener) {
        let sealer = Sealer::new(&KeyRing::new(send, [])).unwrap();
        (sealer, Opener::new(KeyRing::new(listen, old.iter().copied())))
    }

    #[test]
    fn only_those_with_the_secret_are_heard() {
        let (mut sealer, mut opener) = pair("a secret of some length", "a secret of some length", &[]);
        let datagram = sealer.seal(b"hello", NOW).unwrap();
        assert!(!datagram.windows(5).any(|part| part == b"hello"), "nobody else can read it");
        assert_eq!(opener.open(&datagram, NOW).unwrap().1, b"hello");
        let (mut stranger, _) = pair("another secret", "", &[]);
        assert!(matches!(opener.open(&stranger.seal(b"hello", NOW).unwrap(), NOW), Err(Refused::Forged)));
        for bit in 8..datagram.len() * 8 {
            let mut changed = sealer.seal(b"hello", NOW).unwrap();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(&changed, NOW).is_err(), "bit {bit}");
        }
        assert!((0..datagram.len()).all(|end| opener.open(&datagram[..end], NOW).is_err()));
    }

    #[test]
    fn secrets_rotate_without_a_pause() {
        let (mut old, mut ready) = pair("the old secret", "the old secret", &["the new secret"]);
        let (mut new, mut moved) = pair("the new secret", "the new secret", &["the old secret"]);
        for opener in [&mut ready, &mut moved] {
            assert!(opener.open(&old.seal(b"x", NOW).unwrap(), NOW).is_ok());
            assert!(opener.open(&new.seal(b"x", NOW).unwrap(), NOW).is_ok());
        }
        let (_, mut done) = pair("", "the new secret", &[]);
        assert!(matches!(done.open(&old.seal(b"x", NOW).unwrap(), NOW), Err(Refused::Forged)));
    }

    #[test]
    fn nothing_is_heard_twice_or_late() {
        let (mut sealer, mut opener) = pair("secret", "secret", &[]);
        let datagrams: Vec<_> = (0..200).map(|_| sealer.seal(b"x", NOW).unwrap()).collect();
        assert!(opener.open(&datagrams[150], NOW).is_ok());
        assert!(opener.open(&datagrams[100], NOW).is_ok(), "order does not matter");
        for known in [150, 100] {
            assert_eq!(opener.open(&datagrams[known], NOW).unwrap_err(), Refused::Replayed);
        }
        assert!(opener.open(&datagrams[199], NOW).is_ok());
        assert_eq!(opener.open(&datagrams[3], NOW).unwrap_err(), Refused::Replayed, "too far behind to tell");
        let old = sealer.seal(b"x", NOW - AGE_MAX - 1).unwrap();
        assert_eq!(opener.open(&old, NOW).unwrap_err(), Refused::Dated(-301));
    }
}
