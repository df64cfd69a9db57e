//! The registrar of our own phones (RFC 3261 §10.3): who of them is where.
//!
//! ```text
//!   REGISTER, proven ─▶ whose? ─▶ Contact: * or each with its life ─▶ CSeq in order? ─▶ 200 with all that is bound
//!                                                                 (all of it or nothing)
//! ```
//!
//! A binding keeps the way back: Path (RFC 3327), the flow it came by (RFC 5626), or the address it is seen at.

mod binding;
mod contact;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::endpoint::{Flow, OutsideReply, StreamId};
use super::message::Request;

pub use binding::{Binding, SavedBinding, Way};
use contact::{Wanted, Wish};

/// A REGISTER whose sender was proven.
#[derive(Debug, Clone, Copy)]
pub struct Registering<'a> {
    /// The user whose password was shown.
    pub user: &'a str,
    /// All of it.
    pub request: &'a Request,
    /// Where it came from.
    pub flow: &'a Flow,
    /// Phones this user may have at once, at least 1.
    pub contacts_max: usize,
}

/// All bindings.
#[derive(Debug, Default)]
pub struct Registrar {
    users: BTreeMap<String, Vec<Binding>>,
    /// They have changed since [`Registrar::take_change`].
    has_changed: bool,
}

impl Registrar {
    /// Carries out a REGISTER and returns what it is answered with.
    pub fn handle_register(&mut self, registering: Registering<'_>, now: Instant) -> OutsideReply {
        self.handle_timeout(now);
        let Registering { user, request, flow, contacts_max } = registering;
        let Some(of) = request.core.to.uri.sip() else {
            return OutsideReply::new(404).because("its To is no sip address, and nobody here has another one");
        };
        if of.plain_user().as_deref() != Some(user) {
            return OutsideReply::new(403).because("one user's password registers no other user");
        }
        let wanted = match Wanted::of(request, flow, now) {
            Ok(wanted) => wanted,
            Err(refusal) => return refusal,
        };
        let bound = self.users.get(user).cloned().unwrap_or_default();
        let is_known = matches!(&wanted, Wanted::Nothing);
        let after = match wanted {
            Wanted::Nothing => Ok(bound),
            Wanted::NoneAtAll => without_all(&bound, request),
            Wanted::These(wishes) => with(bound, wishes, request, contacts_max),
        };
        let after = match after {
            Ok(after) => after,
            Err(refusal) => return refusal,
        };
        let others: usize = self.users.iter().filter(|(name, _)| *name != user).map(|(_, list)| list.len()).sum();
        if others + after.len() > BINDINGS_MAX {
            return OutsideReply::new(503).with("Retry-After", "60").because("the box keeps no more bindings");
        }
        self.has_changed |= !is_known;
        let reply = contact::granted(request, flow, &after, now);
        if after.is_empty() {
            self.users.remove(user);
        } else {
            self.users.insert(user.to_owned(), after);
        }
        reply
    }

    /// The ways to a user's phones, by falling `q`, and the last to register first among equals.
    pub fn ways(&self, user: &str, now: Instant) -> Vec<Way> {
        let mut bound: Vec<&Binding> = self.bindings(user, now).collect();
        bound.sort_by_key(|binding| std::cmp::Reverse((binding.q, binding.expires_at)));
        bound.into_iter().map(Binding::way).collect()
    }

    /// What a user's phones have bound.
    pub fn bindings(&self, user: &str, now: Instant) -> impl Iterator<Item = &Binding> {
        self.users.get(user).into_iter().flatten().filter(move |binding| binding.expires_at > now)
    }

    /// Keeps the bindings of those users only.
    pub fn retain(&mut self, is_user: impl Fn(&str) -> bool) {
        let before = self.users.len();
        self.users.retain(|user, _| is_user(user));
        self.has_changed |= before != self.users.len();
    }

    /// A stream has ended. A phone that can be reached by another one keeps its binding; else it must register again.
    pub fn handle_stream_closed(&mut self, stream: StreamId) {
        for bound in self.users.values_mut() {
            let before = bound.len();
            bound.retain_mut(|binding| binding.flow.stream != Some(stream) || binding.survive_stream());
            self.has_changed |= before != bound.len();
        }
        self.users.retain(|_, bound| !bound.is_empty());
    }

    /// Forgets what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        for bound in self.users.values_mut() {
            let before = bound.len();
            bound.retain(|binding| binding.expires_at > now);
            self.has_changed |= before != bound.len();
        }
        self.users.retain(|_, bound| !bound.is_empty());
    }

    /// When the next binding expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.users.values().flatten().map(|binding| binding.expires_at).min()
    }

    /// Tells once whether the bindings have changed since the last time: they are to be written down.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// All bindings that outlive a restart, for [`Registrar::restore`]. `unix` is the time since the Unix epoch.
    pub fn saved(&self, now: Instant, unix: Duration) -> Vec<SavedBinding> {
        let all = self.users.iter().flat_map(|(user, bound)| bound.iter().map(move |binding| (user, binding)));
        all.filter_map(|(user, binding)| binding.saved(user, now, unix)).collect()
    }

    /// Takes back what [`Registrar::saved`] gave; what has expired meanwhile, or cannot be read, is left out.
    pub fn restore(&mut self, saved: &[SavedBinding], now: Instant, unix: Duration) {
        for binding in saved.iter().take(BINDINGS_MAX) {
            if let Some(restored) = binding.restored(now, unix) {
                self.users.entry(binding.user.clone()).or_default().push(restored);
            }
        }
    }
}

/// `Contact: *`: everything goes, unless a later request of the same phone has been here already.
fn without_all(bound: &[Binding], request: &Request) -> Result<Vec<Binding>, OutsideReply> {
    match bound.iter().any(|binding| binding.is_after(request)) {
        true => Err(out_of_order()),
        false => Ok(Vec::new()),
    }
}

/// Adds, refreshes and removes, all of it or nothing (RFC 3261 §10.3, step 7).
fn with(
    mut bound: Vec<Binding>,
    wishes: Vec<Wish>,
    request: &Request,
    contacts_max: usize,
) -> Result<Vec<Binding>, OutsideReply> {
    for wish in wishes {
        let same = bound.iter().position(|binding| binding.is_replaced_by(&wish.binding));
        if same.is_some_and(|at| bound[at].is_after(request)) {
            return Err(out_of_order());
        }
        match (same, wish.is_removal) {
            (Some(at), true) => drop(bound.remove(at)),
            (Some(at), false) => bound[at] = wish.binding,
            (None, true) => {}
            (None, false) => {
                // A phone that was started anew has another port, and left what it had bound before.
                let left = bound.iter().position(|binding| binding.is_left_by(&wish.binding));
                if bound.len() >= contacts_max.max(1) {
                    let Some(left) = left else { return Err(too_many(contacts_max)) };
                    bound.remove(left);
                }
                bound.push(wish.binding);
            }
        }
    }
    Ok(bound)
}

fn out_of_order() -> OutsideReply {
    OutsideReply::new(500).because("a later REGISTER of this Call-ID has been here already")
}

fn too_many(contacts_max: usize) -> OutsideReply {
    OutsideReply::new(403).because(format!("this extension has {contacts_max} phones already, its most"))
}

/// 10,000 bindings: 1,000 extensions with 10 phones each; about 10 MiB.
const BINDINGS_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
