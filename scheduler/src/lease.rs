//! Leadership: one leader at a time, and a leader that knows when it may not be one any more.
//!
//! The lease itself is in a store and ends by the store's clock. What is decided here is what a candidate may believe of it. It
//! counts from the moment it *asked*, not from the moment it was answered, and by a clock of its own that never goes back: so its
//! trust ends before the lease does, and its clock can only ever shorten it. What it does within its trust it does under the
//! lease's [`Token`], a number that is higher with every change of leader, and the store refuses those of former leaders. So a
//! leader that was stopped for an hour in the middle of a sentence harms nobody when it goes on.
//!
//! Times are milliseconds of that clock; where it begins does not matter.

use umbel_proto::Millis;

/// A fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

/// What a store answers to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It leads, for the length of the lease.
    Leads(Token),
    /// Somebody else does, for at most so many milliseconds more.
    Follows {
        /// Until the lease ends, unless it is renewed.
        ends_in_ms: Millis,
    },
}

/// What an answer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It leads now, under this token. What it knew of the store is old.
    Elected(Token),
    /// It does not lead any more.
    Deposed,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Leadership {
    lease_ms: Millis,
    ask_at: Millis,
    reign: Option<Reign>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Reign {
    token: Token,
    trusted_until: Millis,
}

impl Leadership {
    /// A lease is renewed so many times before it would end.
    const RENEWALS: Millis = 3;
    /// A follower asks at the end of the leader's lease, not before; but so often at least, lest it wait for an end that was moved.
    const FOLLOW_MAX_MS: Millis = 5_000;

    /// A candidate that may ask at once.
    pub fn new(lease_ms: Millis, now: Millis) -> Self {
        Self { lease_ms, ask_at: now, reign: None }
    }

    /// When the store is to be asked next.
    pub fn ask_at(&self) -> Millis {
        self.ask_at
    }

    /// The token to act under, while there is trust.
    pub fn token(&self, now: Millis) -> Option<Token> {
        self.reign.filter(|reign| now < reign.trusted_until).map(|reign| reign.token)
    }

    /// Until when the token may be acted under.
    pub fn trusted_until(&self) -> Option<Millis> {
        self.reign.map(|reign| reign.trusted_until)
    }

    /// The store has answered what was asked at `asked`.
    pub fn answered(&mut self, asked: Millis, now: Millis, standing: Standing) -> Change {
        match standing {
            Standing::Leads(token) => {
                let before = self.reign.replace(Reign { token, trusted_until: asked + self.lease_ms });
                self.ask_at = asked + self.lease_ms / Self::RENEWALS;
                if before.is_some_and(|before| before.token == token) { Change::None } else { Change::Elected(token) }
            }
            Standing::Follows { ends_in_ms } => {
                // One millisecond late is a lease that has ended; asking early is a question for nothing.
                self.ask_at = now + ends_in_ms.clamp(0, Self::FOLLOW_MAX_MS) + 1;
                self.depose()
            }
        }
    }

    /// The store did not answer; it is asked again after `pause`. Leadership lasts as long as trust does.
    pub fn failed(&mut self, now: Millis, pause: Millis) -> Change {
        self.ask_at = now + pause.min(self.lease_ms / Self::RENEWALS);
        self.lapse(now)
    }

    /// Gives up what is not trusted any more.
    pub fn lapse(&mut self, now: Millis) -> Change {
        match self.reign {
            Some(reign) if now >= reign.trusted_until => self.depose(),
            _ => Change::None,
        }
    }

    /// The store has refused the token.
    pub fn refused(&mut self, now: Millis) -> Change {
        self.ask_at = now;
        self.depose()
    }

    fn depose(&mut self) -> Change {
        if self.reign.take().is_some() { Change::Deposed } else { Change::None }
    }
}

#[cfg(test)]
mod tests;
