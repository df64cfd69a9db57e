//! REFER and NOTIFY (RFC 3515, RFC 6665; Replaces RFC 3891, Referred-By RFC 3892, Refer-Sub RFC 4488).
//!
//! ```text
//!   refer ─▶ REFER ── 202 ─▶ ReferProgress 202 ── NOTIFY sipfrag ─▶ ReferProgress 100 … ≥ 200, the last
//!                └ ≥ 300 ─▶ ReferRefused
//!   REFER ─▶ Referred ── accept_refer ─▶ 202, NOTIFY 100 ── notify_refer ─▶ NOTIFY
//!                └ refuse_refer ─▶ 300–699
//! ```

use std::time::Instant;

use super::{Ask, NO_DIALOG, State};
use crate::sip::endpoint::requests::media_type;
use crate::sip::endpoint::respond::{Reply, clean};
use crate::sip::endpoint::{CommandError, DialogId, Endpoint, Event, Flow, Output, Purpose, Refusal, TransactionKey};
use crate::sip::message::{Headers, Method, NameAddr, Replaces, Request, SipUri, Uri, reason_phrase};

/// The transfers that are asked for in a dialog: one of each side at a time.
#[derive(Debug, Default)]
pub(super) struct Referrals {
    theirs: Option<Theirs>,
    ours: Option<Ours>,
}

/// They send us elsewhere.
#[derive(Debug)]
struct Theirs {
    /// The REFER, until it is answered.
    waiting: Option<TransactionKey>,
    cseq: u32,
    /// RFC 4488 §4: they want no NOTIFY.
    is_quiet: bool,
}

/// We send them elsewhere.
#[derive(Debug, Clone, Copy)]
struct Ours {
    cseq: u32,
    /// The last was told; NOTIFYs that still come are answered.
    is_over: bool,
}

impl Endpoint {
    /// Asks the far end to call `to`; with `replaces`, in the place of a dialog of ours (RFC 3891), as an attended
    /// transfer does. [`Event::ReferProgress`] and [`Event::ReferRefused`] tell what becomes of it; the dialog stays.
    ///
    /// # Errors
    /// [`CommandError::NotNow`] before the answer or while another transfer of ours runs;
    /// [`CommandError::NotAllowed`] when the far end's Allow does not name REFER.
    pub fn refer(
        &mut self,
        dialog: DialogId,
        to: &Uri,
        replaces: Option<DialogId>,
        now: Instant,
    ) -> Result<(), CommandError> {
        let replaces = match replaces {
            Some(other) => Some(self.replaces_of(other).ok_or(CommandError::NoDialog)?),
            None => None,
        };
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        if session.state != State::Confirmed || session.referrals.ours.is_some_and(|ours| !ours.is_over) {
            return Err(CommandError::NotNow);
        }
        if !session.far.peer.allows(&Method::Refer) {
            return Err(CommandError::NotAllowed);
        }
        let query = replaces.map(|replaces| format!("?{}", replaces.to_uri_header())).unwrap_or_default();
        let mut ask = Ask::new(Purpose::Refer).with("Refer-To", format!("<{}{query}>", clean(&to.to_string())));
        ask = ask.with("Referred-By", session.far.dialog.local_uri());
        ask.fields.extend(session.extensions.fields());
        self.request(dialog, ask, now).ok_or(CommandError::NoDialog)?;
        if let Some(session) = self.sessions.get_mut(&dialog) {
            // A NOTIFY may overtake the 202 (RFC 6665 §4.1.2.4).
            session.referrals.ours = Some(Ours { cseq: session.far.dialog.last_cseq(), is_over: false });
        }
        Ok(())
    }

    /// Takes on what [`Event::Referred`] asks for: 202, and a NOTIFY that it is tried.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn accept_refer(&mut self, dialog: DialogId, now: Instant) -> Result<(), CommandError> {
        let reply = self.described(dialog, 202)?;
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        let theirs = session.referrals.theirs.as_mut().ok_or(CommandError::NothingPending)?;
        let key = theirs.waiting.take().ok_or(CommandError::NothingPending)?;
        let is_quiet = theirs.is_quiet;
        let reply = if is_quiet { reply.with("Refer-Sub", "false") } else { reply };
        if !self.respond_waiting(&key, &reply, Some(dialog), now) {
            return Err(CommandError::NothingPending);
        }
        self.notify_refer(dialog, 100, false, now)
    }

    /// Tells what has become of it: a status of the call that was made for them. The last is `is_final`.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn notify_refer(
        &mut self,
        dialog: DialogId,
        status: u16,
        is_final: bool,
        now: Instant,
    ) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        if session.state != State::Confirmed {
            return Err(CommandError::NoDialog);
        }
        let theirs = session.referrals.theirs.as_ref().filter(|theirs| theirs.waiting.is_none());
        let (cseq, is_quiet) =
            theirs.map(|theirs| (theirs.cseq, theirs.is_quiet)).ok_or(CommandError::NothingPending)?;
        if is_final {
            session.referrals.theirs = None;
        }
        if is_quiet {
            return Ok(());
        }
        let state =
            if is_final { "terminated;reason=noresource".to_owned() } else { format!("active;expires={EXPIRES}") };
        let mut ask =
            Ask::new(Purpose::Notify).with("Event", format!("refer;id={cseq}")).with("Subscription-State", state);
        let line = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        ask.body = Some(("message/sipfrag;version=2.0", line.into_bytes()));
        self.request(dialog, ask, now);
        Ok(())
    }

    /// Refuses what [`Event::Referred`] asks for.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn refuse_refer(&mut self, dialog: DialogId, status: u16, now: Instant) -> Result<(), CommandError> {
        let session = self.sessions.get_mut(&dialog).ok_or(CommandError::NoDialog)?;
        let waiting = session.referrals.theirs.take_if(|theirs| theirs.waiting.is_some());
        let key = waiting.and_then(|theirs| theirs.waiting).ok_or(CommandError::NothingPending)?;
        let reply = Reply::of_refusal(Refusal::new(status)).because("the call takes no transfer");
        self.respond_waiting(&key, &reply, Some(dialog), now);
        Ok(())
    }

    pub(in crate::sip::endpoint) fn handle_refer(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let Some(id) = self.begin_in_dialog(flow, request, now) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let refusal = match session.state {
            State::Confirmed if !session.extensions.refer => {
                let reply = Reply::new(405).with("Allow", session.extensions.allow());
                Some(reply.because("transfers by REFER are off on this line"))
            }
            State::Confirmed if session.referrals.theirs.is_some() => {
                Some(Reply::new(491).because("another transfer of this call is under way"))
            }
            State::Confirmed => None,
            _ => Some(Reply::new(481).because(NO_DIALOG)),
        };
        let tag = session.far.dialog.local_tag.clone();
        if let Some(refusal) = refusal {
            return self.reply_tagged(flow, request, refusal, tag, now);
        }
        let Some((target, replaces)) = refer_to(&request.headers) else {
            let reply = Reply::new(400).because("its Refer-To cannot be read, or does not stand once");
            return self.reply_tagged(flow, request, reply, tag, now);
        };
        let is_quiet = request.headers.text("Refer-Sub").is_some_and(|value| value.trim().starts_with("false"));
        let key = self.begin_waiting(flow, request, tag, now);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.referrals.theirs = Some(Theirs { waiting: Some(key), cseq: request.core.cseq, is_quiet });
        }
        let referred_by = request.headers.text("Referred-By").map(|value| clean(&value));
        self.outputs.push_back(Output::Event(Event::Referred { dialog: id, target, replaces, referred_by }));
    }

    pub(in crate::sip::endpoint) fn handle_notify(&mut self, flow: &Flow, request: &Request, now: Instant) {
        let Some(id) = self.begin_in_dialog(flow, request, now) else { return };
        let event = request.headers.text("Event").unwrap_or_default().into_owned();
        let mut parts = event.split(';').map(str::trim);
        if parts.next() != Some("refer") {
            let reply = Reply::new(489).with("Allow-Events", "refer").because("the only event known here is refer");
            return self.reply(flow, request, reply, now);
        }
        let about = parts.find_map(|part| part.strip_prefix("id=")?.parse::<u32>().ok());
        let ours = self.sessions.get_mut(&id).and_then(|session| session.referrals.ours.as_mut());
        let Some(ours) = ours.filter(|ours| about.is_none_or(|cseq| cseq == ours.cseq)) else {
            let reply = Reply::new(481).because("nobody here asked for a transfer to be told of");
            return self.reply(flow, request, reply, now);
        };
        let content_type = media_type(&request.headers.text("Content-Type").unwrap_or_default());
        if !request.body.is_empty() && !content_type.eq_ignore_ascii_case("message/sipfrag") {
            let reply = Reply::new(415).with("Accept", "message/sipfrag").because("its body is no message/sipfrag");
            return self.reply(flow, request, reply, now);
        }
        let state = request.headers.text("Subscription-State").unwrap_or_default();
        let is_terminated = state.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("terminated");
        // A subscription that ends without a word on the call has lost sight of it.
        let status = fragment_status(&request.body).or(is_terminated.then_some(408));
        let (was_over, is_final) = (ours.is_over, is_terminated || status.is_some_and(|status| status >= 200));
        ours.is_over |= is_final;
        self.reply(flow, request, Reply::new(200), now);
        if let Some(status) = status.filter(|_| !was_over) {
            self.outputs.push_back(Output::Event(Event::ReferProgress { dialog: id, status, is_final }));
        }
    }

    /// The final response to a REFER of ours; 408 when none came.
    pub(in crate::sip::endpoint) fn handle_refer_answer(&mut self, id: DialogId, status: u16, headers: &Headers) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(ours) = &mut session.referrals.ours else { return };
        let was_over = ours.is_over;
        if status >= 300 {
            session.referrals.ours = None;
            self.outputs.push_back(Output::Event(Event::ReferRefused { dialog: id, status }));
            return;
        }
        // RFC 4488 §4: they will tell nothing.
        let is_final = headers.text("Refer-Sub").is_some_and(|value| value.trim().starts_with("false"));
        ours.is_over |= is_final;
        if !was_over {
            self.outputs.push_back(Output::Event(Event::ReferProgress { dialog: id, status: 202, is_final }));
        }
    }

    /// The answer to a NOTIFY: whoever does not want it gets no more (RFC 6665 §4.2.2).
    pub(in crate::sip::endpoint) fn handle_notify_answer(&mut self, id: DialogId, status: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(theirs) = session.referrals.theirs.as_mut().filter(|_| status >= 400) {
            theirs.is_quiet = true;
        }
    }

    /// The dialog is over: a REFER that waits gets its answer.
    pub(super) fn end_referral(&mut self, id: DialogId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(key) = session.referrals.theirs.take().and_then(|theirs| theirs.waiting) {
            self.respond_waiting(&key, &Reply::new(487).because("the dialog has ended"), Some(id), now);
        }
    }
}

/// Whom Refer-To names, and whose place that call is to take; `None` unless it stands once and can be read.
fn refer_to(headers: &Headers) -> Option<(Uri, Option<Replaces>)> {
    let mut values = headers.texts("Refer-To");
    let value = values.next().filter(|_| values.next().is_none())?;
    match NameAddr::parse(&value)?.uri {
        Uri::Sip(SipUri { headers: Some(fields), .. }) if fields.contains("Replaces=") => {
            let Uri::Sip(uri) = NameAddr::parse(&value)?.uri else { return None };
            Some((Uri::Sip(SipUri { headers: None, ..uri }), Some(Replaces::in_uri_headers(&fields)?)))
        }
        Uri::Sip(uri) => Some((Uri::Sip(SipUri { headers: None, ..uri }), None)),
        uri @ Uri::Tel(..) => Some((uri, None)),
        Uri::Other(_) => None,
    }
}

/// The status in a message/sipfrag body (RFC 3420): `SIP/2.0 200 OK`.
fn fragment_status(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(body);
    let mut words = text.trim_start().lines().next()?.split_ascii_whitespace();
    let is_sip = words.next()?.eq_ignore_ascii_case("SIP/2.0");
    words.next()?.parse().ok().filter(|status| is_sip && (100..700).contains(status))
}

/// 180 s: a call rings as long as that; whoever has heard nothing by then asks no more.
const EXPIRES: u32 = 180;
