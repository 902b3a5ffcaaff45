//! Secrets and what is derived from them.
//!
//! Every datagram is sealed with ChaCha20-Poly1305 under a key of its sender's own: HKDF of the cluster's secret and the
//! sender's salt, which is drawn anew at each start. So no two senders ever use the same key and number, whatever their clocks
//! say, and nothing has to be agreed upon.
//!
//! Rotation needs no pause: the new secret is first accepted everywhere (`cluster.old_secrets`), then sent with
//! (`cluster.secret`), and then the old one is dropped.

use ring::{
    aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey},
    hkdf::{self, HKDF_SHA256, Prk},
};

/// Bytes of a sender's salt.
pub(super) const SALT: usize = 8;

/// What stands for a sender, from its start to its end.
pub(super) type Salt = [u8; SALT];

/// The secrets of a cluster: one to send with, all to listen to.
#[derive(Clone)]
pub struct KeyRing {
    secrets: Vec<Secret>,
}

#[derive(Clone)]
struct Secret {
    /// A hint which secret a datagram was sealed with; it says nothing about the secret.
    id: u8,
    prk: Prk,
}

impl KeyRing {
    /// Secrets, the one to send with first.
    pub fn new<'a>(secret: &'a str, old: impl IntoIterator<Item = &'a str>) -> Self {
        Self { secrets: [secret].into_iter().chain(old).map(Secret::new).collect() }
    }

    /// The hint of the secret to send with.
    pub(super) fn current(&self) -> u8 {
        self.secrets.first().map_or(0, |secret| secret.id)
    }

    /// The key to send with, for the sender of `salt`.
    pub(super) fn own(&self, salt: &Salt) -> Option<LessSafeKey> {
        self.secrets.first()?.key(salt)
    }

    /// The keys that a datagram with this hint may have been sealed with.
    pub(super) fn candidates(&self, id: u8, salt: &Salt) -> impl Iterator<Item = LessSafeKey> {
        self.secrets.iter().filter(move |secret| secret.id == id).filter_map(|secret| secret.key(salt))
    }
}

impl Secret {
    fn new(secret: &str) -> Self {
        let prk = hkdf::Salt::new(HKDF_SHA256, b"umbel gossip 1").extract(secret.as_bytes());
        let mut id = [0];
        let expanded = prk.expand(&[b"id"], One).and_then(|okm| okm.fill(&mut id));
        debug_assert!(expanded.is_ok(), "one byte is less than HKDF gives");
        Self { id: id[0], prk }
    }

    fn key(&self, salt: &Salt) -> Option<LessSafeKey> {
        let info: [&[u8]; 2] = [b"sender", salt];
        let okm = self.prk.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

/// A length of one byte.
struct One;

impl hkdf::KeyType for One {
    fn len(&self) -> usize {
        1
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("secrets", &self.secrets.len()).finish()
    }
}
