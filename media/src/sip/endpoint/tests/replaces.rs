//! Calls that take another's place (RFC 3891).

use super::*;
use crate::sip::message::Replaces;

#[test]
fn a_call_names_the_dialog_that_it_takes_the_place_of() {
    let mut phone = Phone::confirmed();
    let (dialog, named) = (phone.dialog, format!("call;to-tag={};from-tag=p", phone.to_tag));
    assert_eq!(phone.endpoint.dialog_of_replaces(&Replaces::parse(&named).expect("readable")), Some(dialog));
    let theirs = phone.endpoint.replaces_of(dialog).expect("up");
    assert_eq!(theirs.to_string(), format!("call;to-tag=p;from-tag={}", phone.to_tag), "as the far end reads it");
    let replaces = phone.replace(&named, "");
    assert_eq!(replaces, Ok(Some(dialog)));
    assert_eq!(phone.replace("call;to-tag=x;from-tag=p", ""), Err(481));
    assert_eq!(phone.replace(&format!("{named};early-only"), ""), Err(486), "it was answered");
    assert_eq!(phone.replace(&named, &format!("Replaces: {named}\r\n")), Err(400), "twice");
    assert_eq!(phone.replace("call;to-tag=x", ""), Err(400), "unreadable");
    assert_eq!(phone.replace(&named, "Join: call;to-tag=x;from-tag=p\r\n"), Err(400), "RFC 3891 §3: both");
    phone.messages();
    phone.send_with("INFO", 7, "z9hG4bKinfo", &format!("Replaces: {named}\r\n"), "");
    assert_eq!(phone.statuses(), [400], "RFC 3891 §3: in an INVITE only");
    phone.endpoint.hang_up(dialog, None, phone.now).expect("up");
    assert_eq!(phone.replace(&named, ""), Err(603), "it is ending");
}

#[test]
fn a_call_that_rings_here_is_not_to_be_taken_by_others() {
    let mut phone = Phone::new(Transport::Udp);
    let dialog = phone.call_with("");
    phone.endpoint.ring(dialog, None, phone.now).expect("early");
    let ringing = phone.take();
    phone.learn_tag(&ringing);
    let named = format!("call;to-tag={};from-tag=p", phone.to_tag);
    assert_eq!(phone.replace(&named, ""), Err(481), "RFC 3891 §3: it was not placed by this box");
}

impl Phone {
    /// Calls anew with Replaces; what it was taken for, or its refusal.
    fn replace(&mut self, value: &str, more: &str) -> Result<Option<DialogId>, u16> {
        let (call_id, tag) = (std::mem::replace(&mut self.call_id, "new".into()), std::mem::take(&mut self.to_tag));
        self.messages();
        let branch = format!("z9hG4bKnew{}", self.endpoint.random.next_u32());
        self.send_with("INVITE", 1, &branch, &format!("Replaces: {value}\r\n{more}"), "v=0 offer");
        self.drain();
        let sent = std::mem::take(&mut self.sent);
        (self.call_id, self.to_tag) = (call_id, tag);
        match self.seen.pop() {
            Some(Event::Offered(offered)) => {
                self.endpoint.forget_session(offered.dialog);
                Ok(offered.replaces)
            }
            _ => Err(statuses(&sent)[0]),
        }
    }
}
