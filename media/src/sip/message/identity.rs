//! Who calls, as the header fields of an INVITE say it, and how much of that is believed.
//!
//! ```text
//!   P-Asserted-Identity, Remote-Party-ID ── from a trunk or a proven phone ──┐
//!   From ── from anybody ────────────────────────────────────────────────────┼─▶ caller
//!   Privacy ── withholds, whoever asks ──────────────────────────────────────┘
//! ```
//!
//! Nothing here is proven by itself: the trunk that a call comes from is trusted or it is not. Signatures are read, not
//! verified; that is the carrier's work, and its verdict is `verstat`.

use std::collections::BTreeSet;
use std::fmt;

use super::diversion::{Diversion, HistoryEntry};
use super::headers::Headers;
use super::name_addr::NameAddr;
use super::passport::Passport;
use super::uri::Uri;

/// All that an INVITE says of its caller.
#[derive(Clone, PartialEq, Default)]
pub struct CallerIdentity {
    /// From; `None` of a message without one.
    pub from: Option<NameAddr>,
    /// P-Asserted-Identity (RFC 3325 §9.1): a sip, sips or tel URI, or one of each; at most 2.
    pub asserted: Vec<NameAddr>,
    /// P-Preferred-Identity (RFC 3325 §9.2): which of its identities a phone would like asserted; at most 2.
    pub preferred: Vec<NameAddr>,
    /// Remote-Party-ID (draft-ietf-sip-privacy-04); at most 4.
    pub remote_parties: Vec<RemoteParty>,
    /// What the caller wants withheld (RFC 3323 §4.2).
    pub privacy: BTreeSet<Privacy>,
    /// Identity (RFC 8224), not verified; at most 4.
    pub passports: Vec<Passport>,
    /// What the carrier says of the calling number's signature.
    pub verstat: Option<Verstat>,
    /// How well the caller's provider knows the caller, as the carrier says it.
    pub attestation: Option<Attestation>,
    /// The provider's name for where the call entered (RFC 8588 §5); at most 64 letters.
    pub origination_id: Option<String>,
    /// Diversion (RFC 5806), the last one first; at most 8.
    pub diversions: Vec<Diversion>,
    /// History-Info (RFC 7044), in the order of the wire; at most 16.
    pub history: Vec<HistoryEntry>,
}

/// What is between the box and whoever sent the INVITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A trunk, or a phone that has proven itself: what it asserts is believed (RFC 3325 §2).
    Trusted,
    /// Anybody else.
    Stranger,
}

/// One value of Remote-Party-ID.
#[derive(Clone, PartialEq)]
pub struct RemoteParty {
    /// Who.
    pub address: NameAddr,
    /// It is the calling party, as it is without a `party` parameter in a request.
    pub is_calling: bool,
    /// `screen=no`: the network says that it has not looked.
    pub is_unscreened: bool,
    /// `privacy=full`, `uri` or `name`, with or without more.
    pub withholds: Withholds,
}

/// What a Remote-Party-ID or a Diversion wants withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Withholds {
    /// Nothing.
    #[default]
    Nothing,
    /// The name.
    Name,
    /// The number, and the name with it.
    Number,
}

/// One value of Privacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privacy {
    /// What is asserted stays with those who are trusted (RFC 3325 §9.3).
    Id,
    /// From and what else the caller wrote is withheld (RFC 3323 §4.2).
    User,
    /// Via, Contact and the like are withheld.
    Header,
    /// The session's addresses are withheld.
    Session,
    /// History-Info is withheld (RFC 7044 §5.2).
    History,
    /// Rather no call than one without it.
    Critical,
    /// The caller wants nothing withheld, whatever the network would do by itself.
    None,
}

/// The verdict on the signature of a calling number (3GPP TS 24.229 §7.2A.20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verstat {
    /// `TN-Validation-Passed`.
    Passed,
    /// `TN-Validation-Failed`.
    Failed,
    /// `No-TN-Validation`.
    Absent,
}

/// How well a provider knows who calls (RFC 8588 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attestation {
    /// Full.
    A,
    /// Partial.
    B,
    /// Gateway.
    C,
}

/// The caller, as far as it is believed.
#[derive(Clone, PartialEq)]
pub struct Caller {
    /// Who.
    pub address: NameAddr,
    /// How far others may be told.
    pub withholds: Withholds,
    /// The trunk asserts it; a From is only what the caller wrote.
    pub is_asserted: bool,
}

impl CallerIdentity {
    /// Reads all fields. What cannot be read is passed over: a call is not refused for its caller's number.
    pub fn of(headers: &Headers) -> Self {
        let addresses = |name| -> Vec<NameAddr> {
            headers.elements(name).iter().filter_map(|text| NameAddr::parse(text)).take(ASSERTED_MAX).collect()
        };
        let (asserted, from) = (addresses("P-Asserted-Identity"), addresses("From").into_iter().next());
        let remote_parties = headers.elements("Remote-Party-ID");
        let mut identity = CallerIdentity {
            preferred: addresses("P-Preferred-Identity"),
            remote_parties: remote_parties
                .iter()
                .filter_map(|text| RemoteParty::parse(text))
                .take(REMOTE_PARTIES_MAX)
                .collect(),
            privacy: Privacy::all(headers),
            passports: Passport::all(headers),
            origination_id: ["P-Origination-ID", "Origination-Id"].into_iter().find_map(|name| word(headers, name)),
            diversions: Diversion::all(headers),
            history: HistoryEntry::all(headers),
            verstat: None,
            attestation: None,
            asserted,
            from,
        };
        let verdicts = identity.asserted.iter().chain(&identity.from).filter_map(verstat_of);
        let verdict = verdicts.map(|text| text.to_owned()).next().or_else(|| word(headers, "X-Twilio-VerStat"));
        let (verstat, level) = verdict.as_deref().map_or((None, None), verdict_of);
        let indicated =
            ["P-Attestation-Indicator", "Attestation-Info"].into_iter().find_map(|name| word(headers, name));
        identity.verstat = verstat;
        identity.attestation = indicated.as_deref().and_then(Attestation::parse).or(level);
        identity
    }

    /// The caller: whom a trusted network asserts, preferring a number over a name; else From. `None` of a message
    /// without From.
    pub fn caller(&self, trust: Trust) -> Option<Caller> {
        let from = self.from.as_ref()?;
        let asserted = self.asserted.iter().find(|address| is_number(address)).or(self.asserted.first());
        let party = self.remote_parties.iter().find(|party| party.is_calling && !party.is_unscreened);
        let (address, own) = match (trust, asserted, party) {
            (Trust::Trusted, Some(address), _) => (Some(address), Withholds::Nothing),
            (Trust::Trusted, None, Some(party)) => (Some(&party.address), party.withholds),
            (Trust::Trusted, None, None) | (Trust::Stranger, ..) => (None, Withholds::Nothing),
        };
        let withholds = if self.is_private() { Withholds::Number } else { own };
        let mut shown = address.unwrap_or(from).clone();
        if shown.display.is_none() && !is_anonymous(from) {
            // A tel URI comes without the name that the SIP URI beside it has.
            let names = self.asserted.iter().chain([from]).filter(|_| trust == Trust::Trusted);
            shown.display = names.filter_map(|other| other.display.clone()).next();
        }
        Some(Caller { address: shown, withholds, is_asserted: address.is_some() })
    }

    /// How well the caller is known: as the carrier says, or as the signature says that the carrier found good.
    pub fn attested(&self) -> Option<Attestation> {
        let signed = || self.passports.iter().find_map(|passport| passport.claims.as_ref()?.attestation);
        self.attestation.or_else(|| if self.verstat == Some(Verstat::Passed) { signed() } else { None })
    }

    /// Whose phone sent the call on to here, the last that did; `None` when nobody did, or the name is withheld.
    pub fn diverted_by(&self) -> Option<&NameAddr> {
        match self.diversions.first() {
            Some(diversion) => (diversion.withholds != Withholds::Number).then_some(&diversion.address),
            None if self.privacy.contains(&Privacy::History) => None,
            None => HistoryEntry::diverting(&self.history).map(|entry| &entry.target),
        }
    }

    /// The caller does not want to be known, in whichever of the ways it is said.
    fn is_private(&self) -> bool {
        let asks = [Privacy::Id, Privacy::User, Privacy::Header].iter().any(|value| self.privacy.contains(value));
        asks && !self.privacy.contains(&Privacy::None) || self.from.as_ref().is_some_and(is_anonymous)
    }
}

impl RemoteParty {
    fn parse(text: &str) -> Option<Self> {
        let address = NameAddr::parse(text)?;
        let is =
            |name: &str, value: &str| address.params.text(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        let is_calling = !address.params.has("party") || is("party", "calling");
        let (is_unscreened, withholds) = (is("screen", "no"), Withholds::of(&address));
        Some(RemoteParty { is_calling, is_unscreened, withholds, address })
    }
}

impl Withholds {
    /// Reads the parameter `privacy`: one value, or several behind quotes, commas or hyphens.
    pub(super) fn of(address: &NameAddr) -> Self {
        let text = address.params.text("privacy").unwrap_or_default().to_ascii_lowercase();
        let names = |wanted: &str| text.split(['"', ',', '-', ' ']).any(|value| value == wanted);
        if names("full") || names("uri") {
            Withholds::Number
        } else if names("name") {
            Withholds::Name
        } else {
            Withholds::Nothing
        }
    }
}

impl Privacy {
    fn all(headers: &Headers) -> BTreeSet<Self> {
        let values = headers.texts("Privacy").flat_map(|value| {
            let values: Vec<_> = value.split([';', ',']).filter_map(|value| Privacy::parse(value.trim())).collect();
            values
        });
        values.collect()
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let known = [
            ("id", Privacy::Id),
            ("user", Privacy::User),
            ("header", Privacy::Header),
            ("session", Privacy::Session),
            ("history", Privacy::History),
            ("critical", Privacy::Critical),
            ("none", Privacy::None),
        ];
        known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| value)
    }
}

impl Attestation {
    /// Reads its letter.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "A" | "a" => Some(Attestation::A),
            "B" | "b" => Some(Attestation::B),
            "C" | "c" => Some(Attestation::C),
            _ => None,
        }
    }
}

/// The verdict beside a number: a parameter of the telephone number, which in a sip URI stands in the user part, or
/// where else carriers put it.
fn verstat_of(address: &NameAddr) -> Option<&str> {
    let in_uri = match &address.uri {
        Uri::Sip(uri) => {
            let mut user = uri.user.as_deref().unwrap_or_default().split(';').skip(1);
            user.find_map(|part| part.strip_prefix("verstat=")).or_else(|| uri.params.text("verstat"))
        }
        Uri::Tel(_, params) => params.text("verstat"),
        Uri::Other(_) => None,
    };
    in_uri.or_else(|| address.params.text("verstat"))
}

/// Reads a verdict; some carriers add the level, as `TN-Validation-Passed-A`.
fn verdict_of(text: &str) -> (Option<Verstat>, Option<Attestation>) {
    let known = [
        ("TN-Validation-Passed", Verstat::Passed),
        ("TN-Validation-Failed", Verstat::Failed),
        ("No-TN-Validation", Verstat::Absent),
    ];
    for (name, verstat) in known {
        if text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            let level = text.get(name.len()..).and_then(|rest| rest.strip_prefix('-')).and_then(Attestation::parse);
            return (Some(verstat), level);
        }
    }
    (None, None)
}

/// RFC 3323 §4.1.1.3, and what switches write without it.
fn is_anonymous(address: &NameAddr) -> bool {
    let host = address.uri.sip().map(|uri| uri.host.to_string()).unwrap_or_default();
    let user = address.uri.user().unwrap_or_default();
    host.eq_ignore_ascii_case("anonymous.invalid")
        || ["anonymous", "restricted"].iter().any(|name| user.eq_ignore_ascii_case(name))
}

fn is_number(address: &NameAddr) -> bool {
    let user = address.uri.user().unwrap_or_default();
    let number = user.split(';').next().unwrap_or_default();
    number.bytes().any(|byte| byte.is_ascii_digit()) && number.bytes().all(|byte| b"+0123456789-.()".contains(&byte))
}

/// The first value of a field, where it is a word of printable letters.
fn word(headers: &Headers, name: &str) -> Option<String> {
    let value = headers.text(name)?;
    let word: String = value.trim().chars().filter(|letter| letter.is_ascii_graphic()).take(WORD_MAX).collect();
    (!word.is_empty()).then_some(word)
}

/// Numbers and names are personal.
impl fmt::Debug for CallerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerIdentity")
            .field("asserted", &self.asserted.len())
            .field("privacy", &self.privacy)
            .field("verstat", &self.verstat)
            .field("attestation", &self.attestation)
            .field("diversions", &self.diversions.len())
            .field("history", &self.history.len())
            .finish_non_exhaustive()
    }
}

/// As for [`CallerIdentity`].
impl fmt::Debug for RemoteParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteParty(•••)")
    }
}

/// As for [`CallerIdentity`].
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("withholds", &self.withholds)
            .field("is_asserted", &self.is_asserted)
            .finish_non_exhaustive()
    }
}

/// RFC 3325 §9.1.
const ASSERTED_MAX: usize = 2;

/// Four: the calling and the called party, and one of each that somebody added.
const REMOTE_PARTIES_MAX: usize = 4;

/// 64 letters: a UUID has 36.
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_s_assertion_is_believed_and_a_stranger_s_is_not() {
        let asserted = identity(&[
            ("From", "\"Ann\" <sip:pbx@peer>;tag=1"),
            ("P-Asserted-Identity", "\"Ann Lee\" <sip:ann@carrier>, <tel:+15550001>"),
        ]);
        assert_eq!(caller(&asserted, Trust::Trusted), ("+15550001", Some("Ann Lee"), Withholds::Nothing, true));
        assert_eq!(caller(&asserted, Trust::Stranger), ("pbx", Some("Ann"), Withholds::Nothing, false));
        let preferred = identity(&[("From", "<sip:100@pbx>;tag=1"), ("P-Preferred-Identity", "<sip:+15550009@pbx>")]);
        assert_eq!(caller(&preferred, Trust::Trusted).0, "100", "a wish is no assertion");
        assert_eq!(preferred.preferred.len(), 1);
        assert_eq!(CallerIdentity::of(&Headers::default()).caller(Trust::Trusted), None);
    }

    #[test]
    fn a_remote_party_is_believed_where_the_network_has_looked() {
        for (value, user, withholds) in [
            ("\"B\" <sip:+15550002@x>;party=calling;screen=yes;privacy=off", "+15550002", Withholds::Nothing),
            ("<sip:+15550002@x>;screen=yes;privacy=full", "+15550002", Withholds::Number),
            ("<sip:+15550002@x>;screen=yes;privacy=\"name,uri\"", "+15550002", Withholds::Number),
            ("<sip:+15550002@x>;privacy=name-network", "+15550002", Withholds::Name),
            ("<sip:+15550002@x>;party=calling;screen=no", "pbx", Withholds::Nothing),
            ("<sip:+15550002@x>;party=called;screen=yes", "pbx", Withholds::Nothing),
            ("<sip:+15550002@x", "pbx", Withholds::Nothing),
        ] {
            let found = identity(&[("From", "<sip:pbx@peer>;tag=1"), ("Remote-Party-ID", value)]);
            let (shown, _, withheld, _) = caller(&found, Trust::Trusted);
            assert_eq!((shown, withheld), (user, withholds), "{value}");
            assert_eq!(caller(&found, Trust::Stranger).0, "pbx", "{value}");
        }
    }

    #[test]
    fn who_asks_for_privacy_is_not_shown_however_it_is_asked() {
        let number = ("P-Asserted-Identity", "<sip:+15550001@carrier>");
        for (from, privacy, withheld) in [
            ("<sip:+15550001@c>;tag=1", "id", true),
            ("<sip:+15550001@c>;tag=1", "header; user ;id;critical", true),
            ("<sip:+15550001@c>;tag=1", "session", false),
            ("<sip:+15550001@c>;tag=1", "none", false),
            ("<sip:+15550001@c>;tag=1", "x-other", false),
            ("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1", "", true),
            ("<sip:Restricted@10.0.0.1>;tag=1", "", true),
        ] {
            let mut fields = vec![("From", from), number];
            fields.extend((!privacy.is_empty()).then_some(("Privacy", privacy)));
            let found = identity(&fields);
            let (user, name, withholds, _) = caller(&found, Trust::Trusted);
            assert_eq!((user, withholds == Withholds::Number), ("+15550001", withheld), "{from} {privacy}");
            assert_eq!(name, None, "an anonymous From names nobody");
        }
    }

    #[test]
    fn a_verdict_is_found_wherever_carriers_put_it() {
        for (name, value, verstat, level) in [
            ("P-Asserted-Identity", "<tel:+1555;verstat=TN-Validation-Passed>", Some(Verstat::Passed), None),
            (
                "P-Asserted-Identity",
                "<sip:+1555;verstat=TN-Validation-Failed@c;user=phone>",
                Some(Verstat::Failed),
                None,
            ),
            ("P-Asserted-Identity", "<sip:+1555@c;verstat=No-TN-Validation>", Some(Verstat::Absent), None),
            ("P-Asserted-Identity", "<sip:+1555@c>;verstat=tn-validation-passed", Some(Verstat::Passed), None),
            ("X-Twilio-VerStat", "TN-Validation-Passed-B", Some(Verstat::Passed), Some(Attestation::B)),
            ("P-Asserted-Identity", "<sip:+1555;verstat=whatever@c>", None, None),
            ("P-Attestation-Indicator", "A", None, Some(Attestation::A)),
            ("Attestation-Info", "c", None, Some(Attestation::C)),
            ("P-Attestation-Indicator", "AA", None, None),
        ] {
            let found = identity(&[("From", "<sip:+1555@c>;tag=1"), (name, value)]);
            assert_eq!((found.verstat, found.attestation), (verstat, level), "{name}: {value}");
        }
        let from = identity(&[("From", "<sip:+1555;verstat=TN-Validation-Passed@c;user=phone>;tag=1")]);
        assert_eq!(from.verstat, Some(Verstat::Passed));
        let origin = identity(&[("From", "<sip:a@b>"), ("P-Origination-Id", " 3d0e0a5c-9a34-4a1f-8f8e-1c2b3a4d5e6f ")]);
        assert_eq!(origin.origination_id.as_deref(), Some("3d0e0a5c-9a34-4a1f-8f8e-1c2b3a4d5e6f"));
    }

    #[test]
    fn an_attestation_that_nobody_verified_is_not_told() {
        // {"attest":"A","dest":{"tn":["1"]},"iat":1,"orig":{"tn":"2"},"origid":"x"}
        let passport = (
            "Identity",
            "e30.eyJhdHRlc3QiOiJBIiwiZGVzdCI6eyJ0biI6WyIxIl19LCJpYXQiOjEsIm9yaWciOnsidG4iOiIyIn0sIm9yaWdpZCI6IngifQ.c2ln;info=<https://c/c.pem>;ppt=shaken",
        );
        let unverified = identity(&[("From", "<sip:+2@c>;tag=1"), passport]);
        assert_eq!(unverified.passports[0].claims.as_ref().and_then(|claims| claims.attestation), Some(Attestation::A));
        assert_eq!(unverified.attested(), None);
        let passed = identity(&[("From", "<sip:+2;verstat=TN-Validation-Passed@c>;tag=1"), passport]);
        assert_eq!(passed.attested(), Some(Attestation::A));
        let failed = identity(&[("From", "<sip:+2;verstat=TN-Validation-Failed@c>;tag=1"), passport]);
        assert_eq!(failed.attested(), None);
    }

    #[test]
    fn who_sent_the_call_on_is_the_last_that_did_and_not_told_where_it_is_withheld() {
        let by = |fields: &[(&str, &str)]| {
            identity(fields).diverted_by().and_then(|address| address.uri.user().map(str::to_owned))
        };
        let last_first = "<sip:+15550002@c>;reason=no-answer, <sip:+15550001@c>;reason=unconditional";
        assert_eq!(by(&[("Diversion", last_first)]).as_deref(), Some("+15550002"));
        assert_eq!(by(&[("Diversion", "<sip:+15550002@c>;privacy=full")]), None);
        let history = "<sip:+15550001@c?Reason=SIP%3Bcause%3D302>;index=1, <sip:+15550009@c;cause=302>;index=1.1";
        assert_eq!(by(&[("History-Info", history)]).as_deref(), Some("+15550001"));
        assert_eq!(by(&[("History-Info", history), ("Privacy", "history")]), None);
        assert_eq!(by(&[("From", "<sip:a@b>")]), None);
    }

    #[test]
    fn a_flood_of_values_is_cut() {
        let many = vec!["<sip:+1@c>;index=1"; 1000].join(",");
        let names = ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Diversion", "History-Info"];
        let found = identity(&names.map(|name| (name, many.as_str())));
        assert_eq!((found.asserted.len(), found.preferred.len(), found.remote_parties.len()), (2, 2, 4));
        assert_eq!((found.diversions.len(), found.history.len()), (8, 16));
        assert!(!format!("{found:?}").contains("+1"), "numbers are personal");
    }

    fn identity(fields: &[(&str, &str)]) -> CallerIdentity {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, *value);
        }
        CallerIdentity::of(&headers)
    }

    fn caller(identity: &CallerIdentity, trust: Trust) -> (&'static str, Option<&'static str>, Withholds, bool) {
        let caller = identity.caller(trust).expect("a From");
        let leak = |text: &str| -> &'static str { text.to_owned().leak() };
        let name = caller.address.display.as_deref().map(leak);
        (leak(caller.address.uri.user().expect("a user")), name, caller.withholds, caller.is_asserted)
    }
}
